//! The echo endpoint on a socket: the upgrade of either role, and the conversation.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
};

use wire::ws::{Format, upgrade};

use super::echo::{self, Echo};

/// As a server: one connection, from the request to the end.
pub(crate) fn welcome(stream: &mut TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = Vec::new();
    loop {
        match upgrade::Request::parse(&bytes) {
            Ok(Some((request, len))) => {
                stream.write_all(&echo::accept(&request))?;
                return converse(stream, Echo::server(), &bytes[len..]);
            }
            Ok(None) => read_more(stream, &mut bytes)?,
            Err(refusal) => return stream.write_all(&refusal.response()),
        }
    }
}

/// As a client: the upgrade.
pub(crate) fn connect(address: &str, path: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let request = upgrade::request(address, path, Format::Binary, *b"sixteen bytes ok", None);
    let request = String::from_utf8_lossy(&request).replace("Sec-WebSocket-Protocol: longwire.v1\r\n", "");
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    // Byte by byte, so that nothing of what follows is taken.
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if head.starts_with(b"HTTP/1.1 101 ") { Ok(stream) } else { Err(io::Error::other("no upgrade")) }
}

/// Echoes until either side ends it.
pub(crate) fn converse(stream: &mut TcpStream, mut echo: Echo, begun: &[u8]) -> io::Result<()> {
    let (mut buffer, mut out) = (vec![0; 64 * 1024], Vec::new());
    let mut goes_on = echo.take(begun, &mut out);
    loop {
        stream.write_all(&out)?;
        out.clear();
        if !goes_on {
            break;
        }
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            return Ok(());
        }
        goes_on = echo.take(&buffer[..len], &mut out);
    }
    stream.shutdown(Shutdown::Write)?;
    // Until the other side has closed too: what it has sent meanwhile would break the connection before it reads our end.
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

pub(crate) fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    match stream.read(&mut buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        len => {
            bytes.extend_from_slice(&buffer[..len]);
            Ok(())
        }
    }
}
