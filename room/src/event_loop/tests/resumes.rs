//! Lines that move to their seats, over real sockets and between threads. Each thread has a port of its own here, so that a
//! test can say where a device comes.

use std::io::Write as _;

use wire::{
    codec::encode_client_frame,
    frame::{Connect, Connected, Ping, ResumeBinding, ServerBody},
};

use super::{Device, EventLoop, PATIENCE, Room, Setup, ask_queues, item, listen, setup};
use crate::{exchange::Delivery, resume::Sealer};

/// Two threads of one room.
fn pair() -> [Room; 2] {
    let made = [0, 1].map(|number| {
        let (queues, asks) = ask_queues(16);
        let listener = listen(([127, 0, 0, 1], 0).into(), 1, 0).unwrap();
        let (event_loop, thread) = EventLoop::new(Setup { number, ..setup() }, listener, queues).unwrap();
        (event_loop, thread, asks)
    });
    let threads = [made[0].1.clone(), made[1].1.clone()];
    let sealer = Sealer::random();
    made.map(|(event_loop, thread, asks)| {
        let address = event_loop.address().unwrap();
        let event_loop = event_loop.resuming(sealer.clone(), &threads);
        let joined = std::thread::spawn(move || event_loop.run().unwrap());
        Room { thread, asks, address, joined: Some(joined) }
    })
}

fn connect(token: &bytes::Bytes) -> Connect {
    let has = ResumeBinding { binding: 1, epoch: 1, log_epoch: 1, ..ResumeBinding::default() };
    Connect {
        device: "d".into(),
        version: 1,
        resume_token: token.clone(),
        resume: vec![has],
        ..Connect::default()
    }
}

fn connected(device: &mut Device) -> Connected {
    match device.next() {
        ServerBody::Connected(connected) => connected,
        other => panic!("{other:?}"),
    }
}

impl Room {
    fn begin(&mut self, uid: &str) -> (Device, Connected) {
        let mut device = Device::open(self.address);
        device.send(connect(&bytes::Bytes::new()));
        let first = connected(&mut device);
        device.send(super::bind(uid));
        self.answer_bind(uid, 0);
        assert!(matches!(device.next(), ServerBody::Bound(_)));
        (device, first)
    }

    fn sends(&self, device: &mut Device, seq: u64) {
        assert_eq!(self.deliver(vec![item("alice", seq)]), [Delivery::Sent]);
        let ServerBody::Push(push) = device.next() else { panic!() };
        assert_eq!(push.seq, seq);
    }
}

#[test]
fn a_device_goes_on_wherever_it_comes() {
    let [mut home, other] = pair();
    let (device, first) = home.begin("alice");
    let mut token = first.resume_token;
    let mut device = Some(device);
    for seq in 1..=20 {
        // Broken, or only left behind by the device.
        let old = if seq % 3 == 0 { device.take() } else { None };
        drop(device.take());
        let to = if seq % 2 == 0 { home.address } else { other.address };
        let mut newer = Device::open(to);
        let has = ResumeBinding { received: seq - 1, confirmed: seq - 1, ..connect(&token).resume[0] };
        let hello = Connect { resume: vec![has], ..connect(&token) };
        // What follows at once goes along.
        let bytes = [encode_client_frame(&hello.into()), encode_client_frame(&Ping {}.into())].concat();
        if seq % 5 == 0 {
            for byte in bytes.chunks(1) {
                newer.stream.write_all(byte).unwrap();
            }
        } else {
            newer.stream.write_all(&bytes).unwrap();
        }
        let again = connected(&mut newer);
        assert!(again.resumed && again.conn == first.conn, "{seq}: {again:?}");
        assert!(matches!(newer.next(), ServerBody::Pong(_)), "{seq}");
        home.sends(&mut newer, seq);
        // And what follows later is heard.
        newer.send(Ping {});
        assert!(matches!(newer.next(), ServerBody::Pong(_)), "{seq}");
        if let Some(mut old) = old {
            assert!(old.read().is_none(), "the one that it left behind is closed");
        }
        token = again.resume_token;
        device = Some(newer);
    }
    assert!(home.asks.binds.try_recv().is_err() && home.asks.ends.try_recv().is_err());
    let connections =
        |room: &Room| room.thread.status().connections.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((connections(&home), connections(&other)), (1, 0));
    home.stop();
    other.stop();
}

#[test]
fn a_seat_that_is_gone_is_as_good_as_none() {
    let [mut home, other] = pair();
    let (device, first) = home.begin("alice");
    drop(device);
    let mut newer = Device::open(other.address);
    newer.send(connect(&first.resume_token));
    assert!(connected(&mut newer).resumed);
    for room in [&home, &other] {
        let mut late = Device::open(room.address);
        late.send(connect(&first.resume_token));
        let afresh = connected(&mut late);
        assert!(!afresh.resumed && afresh.conn != first.conn, "{afresh:?}");
        late.send(Ping {});
        assert!(matches!(late.next(), ServerBody::Pong(_)), "it can go on with that");
    }
    home.sends(&mut newer, 1);
    home.stop();

    // A thread that has ended takes nobody.
    let mut last = Device::open(other.address);
    last.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    last.send(connect(&first.resume_token));
    assert!(!connected(&mut last).resumed);
    other.stop();
}
