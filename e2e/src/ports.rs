//! Free ports of the loopback interface.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
};

/// Below the range from which the kernel takes ports for outgoing connections (32768 up), so that no connection of
/// a test can take a port between our look and the program's bind.
const FIRST: u16 = 20_000;
const LAST: u16 = 31_999;

/// An address that nobody listens on. Tests of other processes look too, so each starts at a place of its own.
pub(crate) fn free() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let span = LAST - FIRST;
    let start = (std::process::id().wrapping_mul(2_654_435_761) >> 8) as u16 % span;
    loop {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % span;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
