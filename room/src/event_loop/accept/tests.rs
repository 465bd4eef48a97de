//! The door with real sockets, and in a process that has few files.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use wire::{
    ClientDecoder,
    codec::{PREAMBLE, encode_client_frame},
    frame::{Close, CloseCode, Connect, Ping, ServerBody},
};

use super::super::{AskStreams, Bounds, Doors, EventLoop, Order, Setup, Thread, ask_queues, listen};
use crate::{
    admission::{Admission, Networks, Reason, Rules},
    session::Limits,
};

const PATIENCE: Duration = Duration::from_secs(20);

struct Room {
    threads: Vec<Thread>,
    joined: Vec<JoinHandle<()>>,
    _asks: Vec<AskStreams>,
    address: SocketAddr,
    admission: Arc<Admission>,
}

impl Room {
    fn start(threads: usize, rules: Rules, connections: usize) -> Self {
        Self::limited(threads, rules, connections, &Limits { handshake_ms: 500, ..Limits::default() })
    }

    fn limited(threads: usize, rules: Rules, connections: usize, limits: &Limits) -> Self {
        let admission = Arc::new(Admission::new(rules, connections, Instant::now()));
        let mut room = Self {
            threads: Vec::new(),
            joined: Vec::new(),
            _asks: Vec::new(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            admission,
        };
        for number in 0..threads {
            let (queues, asks) = ask_queues(16);
            let setup = Setup {
                number: number as u8,
                limits: limits.clone(),
                bounds: Bounds { connection: 64 * 1024, reserve: 16 * 1024, thread: 1 << 20 },
                max_frame: 4096,
                partial_bytes: 1 << 20,
                doors: Doors::default(),
            };
            let listener = listen(room.address, threads, number).unwrap();
            let (event_loop, thread) = EventLoop::new(setup, listener, queues).unwrap();
            room.address = event_loop.address().unwrap();
            let event_loop = event_loop.admitting(Arc::clone(&room.admission));
            room.joined.push(std::thread::spawn(move || event_loop.run().unwrap()));
            room.threads.push(thread);
            room._asks.push(asks);
        }
        room
    }

    /// How many were refused so, as of the last tick of the threads.
    fn refused(&self, reason: Reason) -> u64 {
        self.threads.iter().map(|thread| thread.status().counts().tally.refused[reason as usize]).sum()
    }

    fn wait(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::yield_now();
        }
    }

    fn stop(self) {
        for thread in &self.threads {
            thread.try_send(Order::Stop { now: true }).unwrap();
        }
        for thread in self.joined {
            thread.join().unwrap();
        }
    }
}

/// Says Connect and takes the answer.
struct Device {
    stream: TcpStream,
    decoder: ClientDecoder,
    bytes: Vec<u8>,
}

impl Device {
    fn silent(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, decoder: ClientDecoder::for_client(1 << 20), bytes: Vec::new() }
    }

    fn connect(address: SocketAddr) -> (Self, Option<ServerBody>) {
        let mut device = Self::silent(address);
        let mut hello = PREAMBLE.to_vec();
        let connect = Connect { device: "d".into(), version: 1, ..Connect::default() };
        hello.extend_from_slice(&encode_client_frame(&connect.into()));
        // Who is refused at once may find the socket closed.
        let _ = device.stream.write_all(&hello);
        let answer = device.next();
        (device, answer)
    }

    fn connected(address: SocketAddr) -> Self {
        match Self::connect(address) {
            (device, Some(ServerBody::Connected(_))) => device,
            (_, other) => panic!("not connected: {other:?}"),
        }
    }

    /// The next frame; nothing at the end.
    fn next(&mut self) -> Option<ServerBody> {
        loop {
            let mut input = &self.bytes[..];
            let frame = self.decoder.decode(&mut input).unwrap();
            let used = self.bytes.len() - input.len();
            self.bytes.drain(..used);
            if let Some(frame) = frame {
                return frame.body;
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    fn is_served(&mut self) -> bool {
        self.stream.write_all(&encode_client_frame(&Ping {}.into())).unwrap();
        matches!(self.next(), Some(ServerBody::Pong(_)))
    }
}

fn close(answer: Option<ServerBody>) -> Close {
    match answer {
        Some(ServerBody::Close(close)) => close,
        other => panic!("not refused: {other:?}"),
    }
}

fn home() -> Networks {
    Networks::new(&["127.0.0.0/8".parse().unwrap()])
}

#[test]
fn the_list_of_the_denied_is_asked_and_can_change() {
    let room = Room::start(1, Rules { deny: home(), ..Rules::default() }, 10);
    let refusal = close(Device::connect(room.address).1);
    assert_eq!((refusal.code(), refusal.retry_after_ms), (CloseCode::Refused, 0));
    room.admission.set_rules(Rules::default());
    Device::connected(room.address);
    room.wait("the refusal is counted", |room| room.refused(Reason::Denied) == 1);
    room.stop();
}

#[test]
fn the_refused_are_answered_in_their_own_way() {
    let room = Room::start(1, Rules { deny: home(), ..Rules::default() }, 10);
    let answer = |spoken: &[u8]| {
        let mut device = Device::silent(room.address);
        let _ = device.stream.write_all(spoken);
        let mut all = Vec::new();
        match device.stream.read_to_end(&mut all) {
            Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("{error}"),
            _ => all,
        }
    };
    // What was said may reach the room after it has refused; then it is answered like a silent device.
    let deadline = Instant::now() + PATIENCE;
    while !answer(b"GET / HTTP/1.1\r\n\r\n").starts_with(b"HTTP/1.1 403 ") {
        assert!(Instant::now() < deadline);
    }
    while !answer(&[0x16, 3, 1, 0, 5]).is_empty() {
        assert!(Instant::now() < deadline);
    }
    assert!(!answer(b"").is_empty());
    room.stop();
}

/// Two threads have one count of an address, and of the room.
#[test]
fn threads_count_as_one_room() {
    let rules = || Rules { connections_per_ip: Some(5), ..Rules::default() };
    let room = Room::start(2, rules(), 8);
    let mut devices: Vec<_> = (0..5).map(|_| Device::connected(room.address)).collect();
    for _ in 0..10 {
        let refusal = close(Device::connect(room.address).1);
        assert_eq!(refusal.code(), CloseCode::Busy);
        assert!((1_000..=2_000).contains(&refusal.retry_after_ms));
    }
    room.wait("refusals are counted", |room| room.refused(Reason::IpConnections) == 10);
    devices.pop();
    room.wait("a place is free again", |room| room.admission.connections() == 4);
    devices.push(Device::connected(room.address));
    room.admission.set_rules(Rules::default());
    devices.extend((0..3).map(|_| Device::connected(room.address)));
    close(Device::connect(room.address).1);
    room.wait("the room is full", |room| room.refused(Reason::Full) == 1);
    assert!(devices.iter_mut().all(Device::is_served));
    drop(devices);
    room.wait("all has been given back", |room| {
        (room.admission.connections(), room.admission.handshakes(), room.admission.addresses()) == (0, 0, 0)
    });
    room.stop();
}

#[test]
fn who_says_nothing_holds_a_handshake_until_its_time_is_up() {
    let rules = Rules { handshakes_in_progress: Some(2), ..Rules::default() };
    let room = Room::start(1, rules, 100);
    let mut connected = Device::connected(room.address);
    let mut silent = [Device::silent(room.address), Device::silent(room.address)];
    room.wait("they are in", |room| room.admission.handshakes() == 2);
    close(Device::connect(room.address).1);
    assert!(connected.is_served());
    for device in &mut silent {
        assert_eq!(close(device.next()).code(), CloseCode::HandshakeTimeout);
        assert!(device.next().is_none());
    }
    drop(silent);
    room.wait("they are gone", |room| room.admission.handshakes() == 0);
    Device::connected(room.address);
    room.wait("it is counted", |room| {
        (room.refused(Reason::Handshakes), room.refused(Reason::HandshakeTimeout)) == (1, 2)
    });
    room.stop();
}

#[test]
fn too_many_bytes_end_a_connection() {
    let limits =
        Limits { bytes_per_second: 1_024, bytes_burst: 8_192, frames_burst: 1_000_000, ..Limits::default() };
    let room = Room::limited(1, Rules::default(), 10, &limits);
    let mut device = Device::connected(room.address);
    let ping = encode_client_frame(&Ping {}.into());
    // Each is answered before the next, so that nothing but their bytes is too much; a second earns 1,024.
    let last = (0..100_000).find_map(|_| {
        let many: Vec<u8> = (0..100).flat_map(|_| ping.to_vec()).collect();
        let _ = device.stream.write_all(&many);
        (0..100).map(|_| device.next()).find(|body| !matches!(body, Some(ServerBody::Pong(_))))
    });
    assert_eq!(close(last.unwrap()).code(), CloseCode::TooFast);
    room.wait("it is counted", |room| room.refused(Reason::ByteRate) == 1);
    room.stop();
}

/// Serves with few files until its input ends: the other half of the test below, in a process of its own.
#[test]
#[ignore = "runs in a process of its own, started by another test"]
fn serve_with_few_files() {
    // Files that are open now have numbers below this one's.
    let open = std::os::fd::AsRawFd::as_raw_fd(&File::open("/dev/null").unwrap()) as u64;
    let (_, hard) = rlimit::Resource::NOFILE.get().unwrap();
    rlimit::Resource::NOFILE.set(open + 40, hard).unwrap();
    let room = Room::start(1, Rules::default(), 10_000);
    println!("\nport {}", room.address.port());
    std::io::stdin().read_line(&mut String::new()).unwrap();
    room.wait("refusals were counted", |room| room.refused(Reason::NoFiles) > 0);
    let pauses = room.threads[0].status().counts().accept_pauses;
    println!("\nrefused {} pauses {pauses}", room.refused(Reason::NoFiles));
    room.stop();
}

/// A room whose process has no file left answered nobody who came: they waited for their own time-outs.
#[test]
fn who_comes_when_no_file_is_left_is_told_so_and_nobody_else_notices() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "event_loop::accept::tests::serve_with_few_files", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let port = said.find_map(|line| line.strip_prefix("port ").map(str::to_owned)).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));

    let (mut served, mut refused) = (Vec::new(), 0);
    for _ in 0..100 {
        match Device::connect(address) {
            (device, Some(ServerBody::Connected(_))) => served.push(device),
            (_, answer) => {
                let refusal = close(answer);
                assert_eq!(
                    (refusal.code(), refusal.message.as_str()),
                    (CloseCode::Busy, Reason::NoFiles.message())
                );
                assert!(refusal.retry_after_ms >= 1_000);
                refused += 1;
            }
        }
    }
    assert!((20..=40).contains(&served.len()), "{} served, {refused} refused", served.len());
    assert!(served.iter_mut().all(Device::is_served), "those who are in notice nothing");

    // When files are free again, devices are taken again.
    served.truncate(10);
    let deadline = Instant::now() + PATIENCE;
    while served.len() < 20 {
        match Device::connect(address) {
            (device, Some(ServerBody::Connected(_))) => served.push(device),
            _ => assert!(Instant::now() < deadline, "{} served", served.len()),
        }
    }
    assert!(served.iter_mut().all(Device::is_served));
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let told = said.find(|line| line.starts_with("refused ")).unwrap();
    assert!(child.wait().unwrap().success(), "{told}");
}
