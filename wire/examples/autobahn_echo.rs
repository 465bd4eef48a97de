//! An echo endpoint for the Autobahn WebSocket test suite itself (`wire/tests/autobahn/README.md`): as a server for its
//! `fuzzingclient`, as a client of its `fuzzingserver`.
//!
//! ```text
//! cargo run -p wire --example autobahn_echo -- server 127.0.0.1:9002
//! cargo run -p wire --example autobahn_echo -- client 127.0.0.1:9001
//! ```

use std::{env, io, net::TcpListener, thread};

#[path = "../tests/autobahn/echo.rs"]
mod echo;
#[path = "../tests/autobahn/endpoint.rs"]
mod endpoint;

use echo::Echo;
use endpoint::{connect, converse, read_more, welcome};

fn main() -> io::Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server", address] => serve(&TcpListener::bind(address)?),
        ["client", address] => visit(address),
        _ => Err(io::Error::other("usage: autobahn_echo server|client ADDRESS")),
    }
}

fn serve(listener: &TcpListener) -> io::Result<()> {
    for stream in listener.incoming() {
        let mut stream = stream?;
        thread::spawn(move || {
            if let Err(error) = welcome(&mut stream) {
                eprintln!("{error}");
            }
        });
    }
    Ok(())
}

/// Does every case that the suite's server has.
fn visit(address: &str) -> io::Result<()> {
    let mut answer = Vec::new();
    let mut stream = connect(address, "/getCaseCount")?;
    // Its answer is one short text message: two bytes of header, then the number.
    while answer.len() < 2 || answer.len() < 2 + usize::from(answer[1] & 0x7f) {
        read_more(&mut stream, &mut answer)?;
    }
    let count = String::from_utf8_lossy(&answer[2..2 + usize::from(answer[1] & 0x7f)]).into_owned();
    let count: u32 = count.parse().map_err(io::Error::other)?;
    for case in 1..=count {
        println!("case {case} of {count}");
        let mut stream = connect(address, &format!("/runCase?case={case}&agent=longwire"))?;
        // The suite breaks some connections off: that is no failure of its case.
        let _ = converse(&mut stream, Echo::client(), &[]);
    }
    let mut stream = connect(address, "/updateReports?agent=longwire")?;
    // Nor does it always say good-bye when it is done.
    let _ = converse(&mut stream, Echo::client(), &[]);
    Ok(())
}
