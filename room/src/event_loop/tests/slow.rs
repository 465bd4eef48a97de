//! Many devices that do not read.

use std::{fs, sync::atomic::Ordering::Relaxed};

use socket2::{Domain, SockRef, Socket, Type};

use super::*;

const SLOW: usize = 300;
const COUNT: u64 = 800;
const PAYLOAD: usize = 2_000;
/// By this one their sockets and queues are full.
const FILLED: u64 = 400;
const QUEUED: usize = 16 * 1024;

/// A device that takes in 4 KiB, and then no more before it reads.
fn narrow(room: &mut Room, uid: &str) -> Device {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.connect(&room.address.into()).unwrap();
    let mut device = Device::over(socket.into());
    device.send(Connect { device: "d".into(), version: 1, ..Connect::default() });
    assert!(matches!(device.next(), ServerBody::Connected(_)));
    device.send(bind(uid));
    room.answer_bind(uid, 0);
    assert!(matches!(device.next(), ServerBody::Bound(_)));
    device
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

/// They cost their cursors: what waits for them stays within its bound and does not grow, a device that reads has
/// everything as it comes, and when they read they get it all, in order.
#[test]
fn hundreds_that_do_not_read_cost_their_cursors() {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let limits = Limits { tail_bytes: 256 * 1024, ..Limits::default() };
    let bounds = Bounds { connection: QUEUED, reserve: 16 * 1024, thread: 64 << 20 };
    let mut room = Room::start(Setup { limits, bounds, ..setup() });
    let slow: Vec<_> = (0..SLOW).map(|n| narrow(&mut room, &format!("slow-{n}"))).collect();
    let mut quick = room.bound("quick", 0);
    let (mut filled, mut most, mut before) = (0, 0, 0);
    for bseq in 1..=COUNT {
        room.order(Order::Log(log(bseq - 1, bseq, PAYLOAD)));
        let ServerBody::Broadcast(broadcast) = quick.next() else { panic!("no broadcast") };
        assert_eq!(broadcast.bseq, bseq);
        let waiting = room.thread.status().waiting_bytes.load(Relaxed);
        most = most.max(waiting);
        if bseq == FILLED {
            (filled, before) = (waiting, resident());
        }
    }
    assert!(filled > 0, "the kernel took everything: the test proves nothing");
    assert!(most <= (SLOW * (QUEUED + PAYLOAD)) as u64, "{most} bytes waited");
    assert!(most <= filled + filled / 10, "{filled} bytes waited, and then {most}");
    let grown = resident().saturating_sub(before);
    assert!(grown <= 2 << 20, "{grown} bytes more in memory");

    let mut parts: [Vec<Device>; 4] = Default::default();
    for (n, device) in slow.into_iter().enumerate() {
        parts[n % 4].push(device);
    }
    let readers = parts.map(|devices| {
        std::thread::spawn(move || {
            for mut device in devices {
                SockRef::from(&device.stream).set_recv_buffer_size(1 << 20).unwrap();
                for bseq in 1..=COUNT {
                    let ServerBody::Broadcast(broadcast) = device.next() else { panic!("no broadcast") };
                    assert_eq!(broadcast.bseq, bseq);
                }
            }
        })
    });
    while !readers.iter().all(JoinHandle::is_finished) {
        match room.asks.pages.try_recv() {
            Ok(batch) => {
                for ask in batch {
                    let through = (ask.after + 50).min(COUNT);
                    room.order(Order::Page(log(ask.after, through, PAYLOAD)));
                }
            }
            Err(_) => std::thread::yield_now(),
        }
    }
    for reader in readers {
        reader.join().unwrap();
    }
    room.stop();
}
