//! The other end of a case: writes frames, right or wrong, and reads what comes, by the rules of RFC 6455 and not by the
//! crate.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::Duration,
};

use crate::{
    case::{CLOSE, Case, Frame, close},
    echo::Echo,
    endpoint,
};

/// The role that the codec has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    Client,
}

impl Role {
    pub(crate) const ALL: [Self; 2] = [Self::Server, Self::Client];
}

/// How the case is written to the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writing {
    AtOnce,
    ByFrames,
    ByOctets,
}

impl Writing {
    pub(crate) const ALL: [Self; 3] = [Self::AtOnce, Self::ByFrames, Self::ByOctets];

    /// Whether the case is short enough for it: each octet is a packet.
    pub(crate) fn suits(self, case: &Case) -> bool {
        let octets: usize = case.say.iter().map(|(_, payload)| payload.len() + 6).sum();
        match self {
            Self::AtOnce => true,
            Self::ByFrames => case.say.len() > 1 && case.say.len() <= 100,
            Self::ByOctets => octets <= 600,
        }
    }
}

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Nothing takes so long, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Plays one case and compares.
pub(crate) fn play(case: &Case, role: Role, writing: Writing) {
    let name = format!("{} ({role:?}, {writing:?})", case.id);
    let (stream, endpoint) = meet(role);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    let mask = (role == Role::Server).then_some(MASK);

    let goodbye = case.end.is_none().then(|| close(1000, ""));
    let mut frames: Vec<Vec<u8>> = case.say.iter().chain(&goodbye).map(|frame| bytes(frame, mask)).collect();
    let withheld = frames.pop().unwrap_or_default();
    frames.push(withheld[..withheld.len() - case.withheld].to_vec());

    // It reads while it writes: what comes back may be more than fits between the two.
    let mut writer = stream.try_clone().unwrap();
    let writing = thread::spawn(move || {
        for piece in pieces(&frames, writing) {
            // Whoever has refused the case need not take the rest of it.
            if writer.write_all(&piece).is_err() {
                return;
            }
        }
    });
    let heard = read(stream, role, &name);
    writing.join().unwrap();
    endpoint.join().unwrap();

    let (last, said) = heard.split_last().unwrap_or_else(|| panic!("{name}: nothing came"));
    assert_eq!(said, case.hear, "{name}: something else came");
    let code = case.end.unwrap_or(Some(1000));
    assert_eq!(last.0, CLOSE, "{name}: it ends without a Close");
    let told = last.1.split_first_chunk().map(|(code, _)| u16::from_be_bytes(*code));
    assert_eq!(told, code, "{name}: another code");
}

/// A connection to the codec, after the upgrade.
fn meet(role: Role) -> (TcpStream, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // What becomes of the connection after the case is nothing to the codec.
    match role {
        Role::Server => {
            let endpoint = thread::spawn(move || drop(endpoint::welcome(&mut listener.accept().unwrap().0)));
            (endpoint::connect(&address, "/").unwrap(), endpoint)
        }
        Role::Client => {
            let endpoint = thread::spawn(move || {
                let mut stream = endpoint::connect(&address, "/").unwrap();
                drop(endpoint::converse(&mut stream, Echo::client(), &[]));
            });
            let mut stream = listener.accept().unwrap().0;
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                endpoint::read_more(&mut stream, &mut request).unwrap();
            }
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").unwrap();
            (stream, endpoint)
        }
    }
}

fn bytes((first, payload): &Frame, mask: Option<[u8; 4]>) -> Vec<u8> {
    let bit = if mask.is_some() { 0x80 } else { 0 };
    let mut out = vec![*first];
    match payload.len() {
        len @ 0..126 => out.push(bit | len as u8),
        len @ 126..=0xffff => {
            out.push(bit | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(bit | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(mask.into_iter().flatten());
    let key = mask.unwrap_or_default();
    out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]));
    out
}

fn pieces(frames: &[Vec<u8>], writing: Writing) -> Vec<Vec<u8>> {
    match writing {
        Writing::AtOnce => vec![frames.concat()],
        Writing::ByFrames => frames.to_vec(),
        Writing::ByOctets => frames.concat().chunks(1).map(<[u8]>::to_vec).collect(),
    }
}

/// All frames until the endpoint ends its half.
fn read(mut stream: TcpStream, role: Role, name: &str) -> Vec<Frame> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut rest = &bytes[..];
    let mut frames = Vec::new();
    while let [first, second, after @ ..] = rest {
        assert_eq!(second & 0x80 != 0, role == Role::Client, "{name}: a client masks, and a server does not");
        let (len, after) = match second & 0x7f {
            126 => {
                let (len, after) = after.split_first_chunk().unwrap();
                (usize::from(u16::from_be_bytes(*len)), after)
            }
            127 => {
                let (len, after) = after.split_first_chunk().unwrap();
                (u64::from_be_bytes(*len) as usize, after)
            }
            len => (len.into(), after),
        };
        let (mask, after) = if role == Role::Client { after.split_at(4) } else { (&[0; 4][..], after) };
        let (payload, after) = after.split_at_checked(len).unwrap_or_else(|| panic!("{name}: half a frame"));
        frames.push((*first, payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect()));
        rest = after;
    }
    assert!(rest.is_empty(), "{name}: half a frame");
    frames
}
