//! The port. The accept loop accepts and does nothing else.

use std::{io, net::SocketAddr};

use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait in the kernel. A storm of tens of thousands a second waits here, not in SYN retries; the
/// kernel cuts it down to its own bound (net.core.somaxconn).
const BACKLOG: i32 = 16_384;
/// After "too many open files" accepting rests for so long: without a pause the loop would spin on the same error.
const PAUSE_MS: u64 = 500;

/// What accepting gave.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// A connection.
    Stream(TcpStream),
    /// Nobody waits.
    Nobody,
    /// The process or the system has no file left.
    Exhausted,
}

/// One thread's listener on the room's port.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    /// Someone may wait: edges are told once.
    pub(crate) ready: bool,
    paused_until_ms: u64,
}

impl Listener {
    pub(crate) fn new(socket: TcpListener) -> Self {
        Self { socket, ready: true, paused_until_ms: 0 }
    }

    pub(crate) fn is_ready(&self, now_ms: u64) -> bool {
        self.ready && now_ms >= self.paused_until_ms
    }

    pub(crate) fn accept(&mut self, now_ms: u64) -> Accepted {
        loop {
            match self.socket.accept() {
                Ok((stream, _)) => return Accepted::Stream(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready = false;
                    return Accepted::Nobody;
                }
                Err(error) if is_exhausted(&error) => {
                    self.paused_until_ms = now_ms + PAUSE_MS;
                    return Accepted::Exhausted;
                }
                // The connection was gone before it was accepted; the next may be well.
                Err(_) => {}
            }
        }
    }
}

/// EMFILE (24), ENFILE (23), ENOBUFS (105), ENOMEM (12) on Linux.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12))
}

/// Opens the port for one thread of `threads`. If there are several they open the same one, and the kernel spreads
/// connections over them.
///
/// # Errors
/// What the system says.
pub fn listen(address: SocketAddr, threads: usize, number: usize) -> io::Result<std::net::TcpListener> {
    if threads > 1 && number == 0 {
        // A shared port would also be shared with another room of this machine, unnoticed.
        bind(address, false)?;
    }
    let socket = bind(address, threads > 1)?;
    // Connections inherit it: one system call here instead of one for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
