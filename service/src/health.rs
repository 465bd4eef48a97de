//! `--health`: a program asks the admin port of its running twin, for containers that hold no other program.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use crate::{AdminSettings, ExitError};

/// The port is on this machine and answers from memory: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(3);
/// No status line is longer.
const LINE_MAX: u64 = 256;

/// Asks the process with these settings whether it is ready. It speaks HTTP by itself: one line out, one line in.
///
/// # Errors
/// When it is not ready, does not answer, or listens on a port that nobody knows.
pub(crate) fn ask(settings: &AdminSettings) -> Result<(), ExitError> {
    let Some(address) = reachable(settings.listen) else {
        return Err(ExitError::usage("admin.listen: --health needs a port that is not 0"));
    };
    let status = status(address).map_err(|e| ExitError::failure(format!("{address}: {e}")))?;
    match status.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => Err(ExitError::failure(format!("{address}: not ready: {}", status.trim_end()))),
    }
}

/// "Any address" is reached by the loopback; port 0 is not reached at all.
fn reachable(mut listen: SocketAddr) -> Option<SocketAddr> {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    (listen.port() != 0).then_some(listen)
}

/// The first line of the answer.
fn status(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_MAX)).read_line(&mut line)?;
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    /// Serves one answer; what `ask` makes of it.
    fn told(answer: &'static str) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = SocketAddr::from(([0, 0, 0, 0], listener.local_addr().unwrap().port()));
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // All of the request: a connection closed over unread bytes is reset, and may lose the answer.
            let request = BufReader::new(&stream).lines().map(Result::unwrap);
            let lines: Vec<_> = request.take_while(|line| !line.is_empty()).collect();
            stream.write_all(answer.as_bytes()).unwrap();
            lines[0].clone()
        });
        let told = ask(&AdminSettings { listen }).map_err(|e| e.to_string());
        assert_eq!(server.join().unwrap(), "GET /readyz HTTP/1.1");
        told
    }

    #[test]
    fn ready_is_what_says_200() {
        assert_eq!(told("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), Ok(()));
        let busy = told("HTTP/1.1 503 Service Unavailable\r\n\r\n").unwrap_err();
        assert!(busy.ends_with("not ready: HTTP/1.1 503 Service Unavailable"), "{busy}");
        assert!(told("").is_err());
    }

    #[test]
    fn nobody_there_and_no_port_are_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = listener.local_addr().unwrap();
        drop(listener);
        assert!(ask(&AdminSettings { listen }).is_err());
        let none = ask(&AdminSettings::default()).unwrap_err().to_string();
        assert!(none.starts_with("admin.listen: "), "{none}");
    }
}
