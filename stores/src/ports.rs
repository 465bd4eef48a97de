//! Free ports of the loopback interface.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Mutex, PoisonError},
};

/// Below the range from which the kernel takes ports for outgoing connections (32768 up), so that no connection of
/// a test can take a port between our look and the program's bind.
const FIRST: u16 = 20_000;
/// Ports that a process of tests takes at a time: a cluster with its stores needs about fifty.
pub const BLOCK: u16 = 100;
const BLOCKS: u16 = 120;

/// The ports of this process. Tests of other processes take others: the lock says so, and goes with the process.
#[derive(Default)]
struct Taken {
    locks: Vec<File>,
    next: u16,
    end: u16,
}

static TAKEN: Mutex<Taken> = Mutex::new(Taken { locks: Vec::new(), next: 0, end: 0 });

impl Taken {
    fn another_block(&mut self) {
        let folder = std::env::temp_dir();
        for block in 0..BLOCKS {
            let lock = File::options()
                .create(true)
                .append(true)
                .open(folder.join(format!("longwire-e2e-ports-{block}")));
            if let Ok(lock) = lock
                && lock.try_lock().is_ok()
            {
                self.locks.push(lock);
                self.next = FIRST + block * BLOCK;
                self.end = self.next + BLOCK;
                return;
            }
        }
        panic!("{BLOCKS} processes of tests hold all ports");
    }
}

/// An address that nobody listens on.
///
/// # Panics
/// When other processes of tests hold all ports.
pub fn free() -> SocketAddr {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if taken.next == taken.end {
            taken.another_block();
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, taken.next));
        taken.next += 1;
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
