//! The port. The accept loop accepts and does nothing else.

use std::{fs::File, io, net::SocketAddr};

use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait in the kernel. A storm of tens of thousands a second waits here, not in SYN retries; the
/// kernel cuts it down to its own bound (net.core.somaxconn).
const BACKLOG: i32 = 16_384;
/// What the kernel takes in for a connection (it doubles the figure, for its own records). Left to itself it takes 2.6 MB at
/// once on a path with large packets, and up to 4 MB: a thousand devices that do not read would be gigabytes that no bound
/// of the room sees. Over a path of 100 ms this much still carries 2 MB/s.
const SEND_BUFFER: usize = 128 * 1024;
/// When the system is exhausted accepting rests for so long: without a pause the loop would spin on the same error.
const PAUSE_MS: u64 = 500;
/// A file that is always there and costs nothing.
const SPARE: &str = "/dev/null";

/// What accepting gave.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// A connection, and from where.
    Stream(TcpStream, SocketAddr),
    /// A connection for which the process has no file but the spare one: it is to be refused.
    Surplus(TcpStream),
    /// Nobody waits.
    Nobody,
    /// The process or the system has no file left, or the system no memory. Accepting pauses.
    Exhausted,
}

/// One thread's listener on the room's port.
///
/// It keeps a spare file. When the process has no other left, whoever comes is accepted with it, told to go elsewhere and
/// closed: a device that nobody accepts waits in the kernel's queue until its own time is up, seconds in which another room
/// would have taken it, and finds out nothing. If even the spare file is lost to somebody else of the process, accepting
/// pauses. Either way those who are connected notice nothing.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    /// Someone may wait: edges are told once.
    pub(crate) ready: bool,
    paused_until_ms: u64,
    spare: Option<File>,
}

impl Listener {
    pub(crate) fn new(socket: TcpListener) -> Self {
        Self { socket, ready: true, paused_until_ms: 0, spare: File::open(SPARE).ok() }
    }

    pub(crate) fn is_ready(&self, now_ms: u64) -> bool {
        self.ready && now_ms >= self.paused_until_ms
    }

    pub(crate) fn accept(&mut self, now_ms: u64) -> Accepted {
        if self.spare.is_none() {
            self.spare = File::open(SPARE).ok();
        }
        loop {
            match self.socket.accept() {
                Ok((stream, peer)) => return Accepted::Stream(stream, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.nobody(),
                Err(error) if is_out_of_files(&error) => return self.accept_surplus(now_ms),
                Err(error) if is_out_of_memory(&error) => return self.pause(now_ms),
                // The connection was gone before it was accepted; the next may be well.
                Err(_) => {}
            }
        }
    }

    /// Accepts with the spare file, which is taken again at the next call.
    fn accept_surplus(&mut self, now_ms: u64) -> Accepted {
        if self.spare.take().is_none() {
            return self.pause(now_ms);
        }
        match self.socket.accept() {
            Ok((stream, _)) => Accepted::Surplus(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.nobody(),
            // Somebody else of the process has taken it, or the system has none.
            Err(_) => self.pause(now_ms),
        }
    }

    fn nobody(&mut self) -> Accepted {
        self.ready = false;
        Accepted::Nobody
    }

    fn pause(&mut self, now_ms: u64) -> Accepted {
        self.paused_until_ms = now_ms + PAUSE_MS;
        Accepted::Exhausted
    }
}

/// EMFILE (24), ENFILE (23) on Linux.
fn is_out_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(24 | 23))
}

/// ENOBUFS (105), ENOMEM (12) on Linux.
fn is_out_of_memory(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(105 | 12))
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
    // Connections inherit these: system calls here instead of for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
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
