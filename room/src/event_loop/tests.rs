//! The loop over real loopback sockets, with a simulated tokio side.

mod lanes;
mod memory;
mod one_port;
pub(super) mod peer;
mod resumes;
mod sealed;
mod slow;
mod websocket;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use audience::Audience;
use bytes::Bytes;
use tokio::sync::oneshot;
use wire::{
    ClientDecoder,
    codec::{PREAMBLE, encode_broadcast, encode_client_frame},
    frame::{Bind, Broadcast, ClientFrame, CloseCode, Connect, Ping, ServerBody},
    id::{AppId, Cursor, Epoch, MessageId, Position, Seq, Uid},
};

use super::{AskStreams, Bounds, Doors, EventLoop, Order, Setup, Thread, ask_queues, listen};
use crate::{
    exchange::{BindAnswer, BindDone, Delivery, DeliveryItem, DrainOrder, LoadDone, LogEntry, LogRun},
    session::Limits,
};

const APP: AppId = AppId(7);
const PATIENCE: Duration = Duration::from_secs(20);

struct Room {
    thread: Thread,
    asks: AskStreams,
    address: SocketAddr,
    joined: Option<JoinHandle<()>>,
}

fn setup() -> Setup {
    Setup {
        number: 0,
        limits: Limits::default(),
        bounds: Bounds { connection: 64 * 1024, reserve: 16 * 1024, thread: 1 << 20 },
        max_frame: 4096,
        partial_bytes: 1 << 20,
        doors: Doors::default(),
    }
}

impl Room {
    fn start(setup: Setup) -> Self {
        let (queues, asks) = ask_queues(16);
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)), 1, 0).unwrap();
        let (event_loop, thread) = EventLoop::new(setup, listener, queues).unwrap();
        let address = event_loop.address().unwrap();
        let joined = std::thread::spawn(move || event_loop.run().unwrap());
        Self { thread, asks, address, joined: Some(joined) }
    }

    fn device(&self) -> Device {
        let mut device = Device::open(self.address);
        device.send(Connect { device: "d".into(), version: 1, ..Connect::default() });
        assert!(matches!(device.next(), ServerBody::Connected(_)));
        device
    }

    fn bound(&mut self, uid: &str, head: u64) -> Device {
        let mut device = self.device();
        device.send(bind(uid));
        self.answer_bind(uid, head);
        assert!(matches!(device.next(), ServerBody::Bound(_)));
        device
    }

    /// Says yes to the bind that has come.
    fn answer_bind(&mut self, uid: &str, head: u64) {
        let ask = self.asks.binds.blocking_recv().unwrap().pop().unwrap();
        assert_eq!(ask.uid.as_str(), uid);
        let cursor = Cursor { epoch: Epoch(1), bseq: head.into() };
        let start = Position { epoch: Epoch(1), seq: Seq(0) };
        let done = BindDone {
            app: APP,
            fence: 1.into(),
            inbox: LoadDone { start, ..LoadDone::default() },
            cursor,
            saved_cursor: cursor,
            owed: Vec::new(),
            log: cursor,
            kicked: None,
            reload: false,
        };
        let answer =
            BindAnswer { binding: ask.binding, tags: ask.tags, device: ask.device, result: Ok(done) };
        self.order(Order::Bound(vec![answer]));
    }

    fn order(&self, order: Order) {
        self.thread.try_send(order).unwrap();
    }

    fn deliver(&self, items: Vec<DeliveryItem>) -> Vec<Delivery> {
        let (reply, answer) = oneshot::channel();
        self.order(Order::Deliver(items.into(), reply));
        answer.blocking_recv().unwrap()
    }

    fn stop(mut self) {
        self.order(Order::Stop { now: true });
        self.joined.take().unwrap().join().unwrap();
    }
}

struct Device {
    stream: TcpStream,
    decoder: ClientDecoder,
    bytes: Vec<u8>,
}

impl Device {
    fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    fn over(mut stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&PREAMBLE).unwrap();
        Self { stream, decoder: ClientDecoder::for_client(1 << 20), bytes: Vec::new() }
    }

    fn send(&mut self, frame: impl Into<ClientFrame>) {
        self.stream.write_all(&encode_client_frame(&frame.into())).unwrap();
    }

    /// The next frame; `None` at the end of the connection.
    fn read(&mut self) -> Option<ServerBody> {
        loop {
            let mut input = &self.bytes[..];
            let frame = self.decoder.decode(&mut input).unwrap();
            let used = self.bytes.len() - input.len();
            self.bytes.drain(..used);
            if let Some(frame) = frame {
                return frame.body;
            }
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    fn next(&mut self) -> ServerBody {
        self.read().expect("the connection goes on")
    }
}

fn bind(uid: &str) -> Bind {
    Bind { binding: 1, app: "demo".into(), uid: uid.into(), token: "t".into(), ..Bind::default() }
}

fn item(uid: &str, seq: u64) -> DeliveryItem {
    DeliveryItem {
        app: APP,
        uid: Uid::new(uid).unwrap(),
        fence: None,
        epoch: 1,
        seq,
        id: MessageId(seq),
        payload: Some(Bytes::from(format!("message {seq}"))),
        accepted_ms: 1,
        collapse_key: "".into(),
        urgent: false,
    }
}

fn log(after: u64, through: u64, payload: usize) -> LogRun {
    let entry = |bseq| {
        let frame = Broadcast {
            app: APP.0,
            bseq,
            id: bseq,
            payload: Bytes::from(vec![b'x'; payload]),
            accepted_ms: 1,
            binding: 0,
        };
        let frame = encode_broadcast(&frame);
        Arc::new(LogEntry::whole(bseq, MessageId(bseq), frame, Audience::everyone(), 0))
    };
    LogRun { app: APP, epoch: 1, after, through, entries: (after + 1..=through).map(entry).collect() }
}

#[test]
fn a_message_goes_out_and_its_ack_comes_in() {
    let mut room = Room::start(setup());
    let mut alice = room.bound("alice", 0);
    let results = room.deliver(vec![item("alice", 1), item("bob", 1), item("alice", 2)]);
    assert_eq!(results, [Delivery::Sent, Delivery::NotHere, Delivery::Sent]);
    for seq in 1..=2 {
        let ServerBody::Push(push) = alice.next() else { panic!("no push") };
        assert_eq!((push.seq, push.payload), (seq, Bytes::from(format!("message {seq}"))));
    }
    alice.send(wire::frame::Ack { binding: 1, seq: 2, epoch: 1, ..Default::default() });
    let acks = room.asks.acks.blocking_recv().unwrap();
    assert_eq!((acks.len(), acks[0].inbox.seq), (1, Seq(2)));
    drop(alice);
    let ends = room.asks.ends.blocking_recv().unwrap();
    assert_eq!((ends[0].uid.as_str(), ends[0].fence), ("alice", 1.into()));
    room.stop();
}

#[test]
fn frames_may_come_in_any_pieces() {
    let room = Room::start(setup());
    let mut stream = TcpStream::connect(room.address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut bytes = PREAMBLE.to_vec();
    bytes.extend_from_slice(&encode_client_frame(
        &Connect { device: "d".into(), version: 1, ..Connect::default() }.into(),
    ));
    bytes.extend_from_slice(&encode_client_frame(&Ping {}.into()));
    for byte in bytes {
        stream.write_all(&[byte]).unwrap();
    }
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut device = Device { stream, decoder: ClientDecoder::for_client(1 << 20), bytes: Vec::new() };
    assert!(matches!(device.next(), ServerBody::Connected(_)));
    assert!(matches!(device.next(), ServerBody::Pong(_)));
    // And all at once.
    let many: Vec<u8> = (0..500).flat_map(|_| encode_client_frame(&Ping {}.into())).collect();
    device.stream.write_all(&many).unwrap();
    for _ in 0..500 {
        assert!(matches!(device.next(), ServerBody::Pong(_)));
    }
    room.stop();
}

#[test]
fn what_is_not_the_protocol_is_told_so_and_closed() {
    let room = Room::start(setup());
    for (bytes, code) in [
        (&b"get / HTTP/1.1\r\n\r\n"[..], CloseCode::BadFrame),
        (&b"LW\x09"[..], CloseCode::BadVersion),
        (&b"LW\x01\xff\xff\xff\x07"[..], CloseCode::TooLarge),
        (&b"LW\x01\x03\xff\xff\xff"[..], CloseCode::BadFrame),
    ] {
        let mut stream = TcpStream::connect(room.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut device = Device { stream, decoder: ClientDecoder::for_client(1 << 20), bytes: Vec::new() };
        let ServerBody::Close(close) = device.next() else { panic!("no close") };
        assert_eq!(close.code(), code);
        assert!(device.read().is_none(), "and then the end");
    }
    room.stop();
}

/// Each of many connections may hold the beginning of a frame; without a bound on all of them together, devices that
/// send beginnings only would fill the memory.
#[test]
fn beginnings_of_frames_are_bounded_together() {
    let room = Room::start(Setup { partial_bytes: 2_000, ..setup() });
    // A ping, whose answer says that all was read, and 1,500 bytes of a frame of 4,000.
    let mut bytes = encode_client_frame(&Ping {}.into()).to_vec();
    bytes.extend_from_slice(&[0xA0, 0x1F]);
    bytes.resize(bytes.len() + 1_498, 0);
    let begin = || {
        let mut device = room.device();
        device.stream.write_all(&bytes).unwrap();
        assert!(matches!(device.next(), ServerBody::Pong(_)));
        device
    };
    // Such a frame is none: whoever may finish it is told so.
    let finish = |device: &mut Device| {
        let _ = device.stream.write_all(&[0; 2_502]);
        let ServerBody::Close(close) = device.next() else { panic!("not closed") };
        close
    };
    let mut first = begin();
    for _ in 0..3 {
        let close = finish(&mut begin());
        assert_eq!(close.code(), CloseCode::Busy);
        assert!(close.retry_after_ms > 0);
    }
    // The one that was first is not touched, and gives its share back when it ends.
    assert_eq!(finish(&mut first).code(), CloseCode::BadFrame);
    drop(first);
    let deadline = Instant::now() + PATIENCE;
    while finish(&mut begin()).code() != CloseCode::BadFrame {
        assert!(Instant::now() < deadline, "what was held is still counted");
    }
    room.stop();
}

#[test]
fn a_full_room_refuses_with_a_word() {
    let mut setup = setup();
    setup.limits.connections = 1;
    let room = Room::start(setup);
    let first = room.device();
    let mut second = Device::open(room.address);
    let ServerBody::Close(close) = second.next() else { panic!("no close") };
    assert_eq!(close.code(), CloseCode::Busy);
    assert!(close.retry_after_ms >= 1_000);
    drop(first);
    // There is room again as soon as the loop has seen the first one go.
    let began = Instant::now();
    loop {
        let mut third = Device::open(room.address);
        third.send(Connect { device: "d".into(), version: 1, ..Connect::default() });
        match third.next() {
            ServerBody::Connected(_) => break,
            _ => assert!(began.elapsed() < PATIENCE),
        }
    }
    room.stop();
}

/// Broadcasts of 40 MB in all for a device that does not read: what waits for it stays within its bound, another device
/// has everything at once, and when the slow one reads it gets everything, in order.
#[test]
fn a_slow_reader_is_bounded_and_catches_up() {
    const COUNT: u64 = 2_000;
    const PAYLOAD: usize = 20_000;
    let mut room = Room::start(setup());
    let mut slow = room.bound("slow", 0);
    let mut quick = room.bound("quick", 0);
    let mut most = 0;
    for bseq in 1..=COUNT {
        room.order(Order::Log(log(bseq - 1, bseq, PAYLOAD)));
        let ServerBody::Broadcast(broadcast) = quick.next() else { panic!("no broadcast") };
        assert_eq!(broadcast.bseq, bseq);
        most = most.max(room.thread.status().waiting_bytes.load(std::sync::atomic::Ordering::Relaxed));
    }
    assert!(most > 0, "the kernel took everything: the test proves nothing");
    assert!(most <= 64 * 1024 + PAYLOAD as u64, "{most} bytes waited");
    let mut pages = room.asks.pages;
    let thread = room.thread.clone();
    let reader = std::thread::spawn(move || {
        for bseq in 1..=COUNT {
            let ServerBody::Broadcast(broadcast) = slow.next() else { panic!("no broadcast") };
            assert_eq!(broadcast.bseq, bseq);
        }
    });
    while !reader.is_finished() {
        match pages.try_recv() {
            Ok(batch) => {
                for ask in batch {
                    let through = (ask.after + 50).min(COUNT);
                    thread.try_send(Order::Page(log(ask.after, through, PAYLOAD))).unwrap();
                }
            }
            Err(_) => std::thread::yield_now(),
        }
    }
    reader.join().unwrap();
    room.thread.try_send(Order::Stop { now: true }).unwrap();
    room.joined.take().unwrap().join().unwrap();
}

#[test]
fn a_drain_ends_the_thread_and_loses_nothing() {
    let mut room = Room::start(setup());
    let mut alice = room.bound("alice", 0);
    room.deliver(vec![item("alice", 1)]);
    assert!(matches!(alice.next(), ServerBody::Push(_)));
    room.order(Order::Drain(DrainOrder { per_second: 100, spread_ms: 0, linger_ms: 60_000 }));
    let ServerBody::Reconnect(reconnect) = alice.next() else { panic!("no reconnect") };
    assert_eq!(reconnect.reason, "drain");
    // It still acks, then goes.
    alice.send(wire::frame::Ack { binding: 1, seq: 1, epoch: 1, ..Default::default() });
    drop(alice);
    room.order(Order::Stop { now: false });
    room.joined.take().unwrap().join().unwrap();
    assert!(TcpStream::connect(room.address).is_err(), "nobody listens");
    let acks: Vec<_> = std::iter::from_fn(|| room.asks.acks.blocking_recv()).flatten().collect();
    let ends: Vec<_> = std::iter::from_fn(|| room.asks.ends.blocking_recv()).flatten().collect();
    assert_eq!(ends.len(), 1);
    let acked = acks.iter().map(|ack| ack.inbox).chain(ends[0].inbox);
    assert_eq!(acked.map(|inbox| inbox.seq.0).max(), Some(1));
}

#[test]
fn a_port_in_use_is_an_error_even_when_it_is_shared() {
    let room = Room::start(setup());
    assert!(listen(room.address, 1, 0).is_err());
    assert!(listen(room.address, 2, 0).is_err());
    room.stop();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let first = listen(any, 2, 0).unwrap();
    let address = first.local_addr().unwrap();
    let _second = listen(address, 2, 1).unwrap();
    assert!(listen(address, 2, 0).is_err(), "another room of two threads");
}

#[test]
fn bounds_can_be_changed_while_the_thread_runs() {
    let room = Room::start(setup());
    let heartbeat = || {
        let mut device = Device::open(room.address);
        device.send(Connect { device: "d".into(), version: 1, ..Connect::default() });
        match device.next() {
            ServerBody::Connected(connected) => connected.heartbeat_s,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(heartbeat(), 300);
    let heartbeats = crate::session::Heartbeat {
        min_s: 10,
        fixed: crate::session::Pace { usual_s: 50, max_s: 60 },
        mobile: crate::session::Pace { usual_s: 40, max_s: 60 },
    };
    // A bound of memory stays as it was.
    let limits = Limits { heartbeat: heartbeats, connections: 0, ..Limits::default() };
    room.order(Order::Limits(Box::new(limits)));
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    let changed =
        std::iter::from_fn(|| (std::time::Instant::now() < deadline).then(&heartbeat)).any(|s| s == 40);
    assert!(changed);
    room.stop();
}
