//! What connections cost at rest, by the memory that a process really has.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{ChildStdin, ChildStdout, Command, Stdio},
};

use rustls::ALL_VERSIONS;

use super::{
    Room,
    one_port::doors,
    peer::{Certificate, Peer, Way},
    setup,
};
use crate::event_loop::{CONNECTION_BYTES, Setup};

/// Where the certificate is, for the process that serves.
const FOLDER: &str = "LONGWIRE_TEST_FOLDER";
/// Connections of each kind.
const COUNT: usize = 1_000;

/// Memory of its own: pages of the program come and go with what else the machine keeps of files.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

/// Serves, and says how much memory it has whenever it is asked, until its input ends.
#[test]
#[ignore = "runs in a process of its own, started by another test"]
fn serve_and_measure() {
    let certificate = Certificate::at(std::env::var_os(FOLDER).unwrap().as_ref());
    let room = Room::start(Setup { doors: doors(&certificate), ..setup() });
    println!("\nport {}", room.address.port());
    for line in std::io::stdin().lines() {
        line.unwrap();
        println!("\nresident {}", resident());
    }
    room.stop();
}

struct Server {
    asks: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Server {
    fn hears(&mut self, word: &str) -> usize {
        loop {
            let mut line = String::new();
            assert!(self.says.read_line(&mut line).unwrap() > 0, "the server ended");
            if let Some(number) = line.strip_prefix(word) {
                return number.trim().parse().unwrap();
            }
        }
    }

    fn resident(&mut self) -> usize {
        self.asks.write_all(b"\n").unwrap();
        self.hears("resident ")
    }
}

#[test]
fn a_connection_at_rest_holds_no_buffer() {
    // With debug assertions mio keeps the number of its poll in every socket.
    let debug = if cfg!(debug_assertions) { 16 } else { 0 };
    assert_eq!(CONNECTION_BYTES, 32 + debug, "whatever is spoken on it");

    let certificate = Certificate::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "event_loop::tests::memory::serve_and_measure", "--ignored", "--nocapture"])
        .env(FOLDER, certificate.folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut server =
        Server { asks: child.stdin.take().unwrap(), says: BufReader::new(child.stdout.take().unwrap()) };
    let port = server.hears("port ");
    let address = SocketAddr::from(([127, 0, 0, 1], port as u16));
    let tls = certificate.trust(ALL_VERSIONS);
    let mut peers = Vec::new();
    let mut open = |way: Way, count: usize| {
        peers.extend((0..count).map(|_| Peer::connected(address, way, &tls)));
    };
    // What is there once, whoever comes.
    for way in Way::ALL {
        open(way, 50);
    }
    for (way, most) in Way::ALL.into_iter().zip([400, 400, 400, 10_000, 10_000, 10_000]) {
        let before = server.resident();
        open(way, COUNT);
        let each = server.resident().saturating_sub(before) / COUNT;
        println!("{way:?}: {each} bytes");
        assert!(each <= most, "{way:?}: {each} bytes");
    }
    let Server { asks, says } = server;
    drop(asks);
    assert!(child.wait().unwrap().success());
    drop(says);
}
