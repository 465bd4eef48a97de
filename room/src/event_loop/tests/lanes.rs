//! Who goes first in the queue of a device that does not read, on every transport.

use super::{
    one_port::room,
    peer::{Peer, Way},
    *,
};

const PAYLOAD: usize = 2_000;
/// So much waits, and at least this part of it is passed.
const WAITING: u64 = 600 * 1024;
const PASSED: usize = 256 * 1024;

/// Broadcasts until so much waits for a device that does not read; gives how many.
fn stuff(room: &Room) -> u64 {
    let mut bseq = 0;
    while room.thread.status().waiting_bytes.load(std::sync::atomic::Ordering::Relaxed) < WAITING {
        assert!(bseq < 3_000, "the kernel takes everything: the test proves nothing");
        let (reply, answer) = oneshot::channel();
        room.order(Order::Log(log(bseq, bseq + 10, PAYLOAD)));
        room.order(Order::Held(0, 0, reply));
        answer.blocking_recv().unwrap();
        bseq += 10;
    }
    bseq
}

fn keyed(seq: u64, key: &str, urgent: bool) -> DeliveryItem {
    DeliveryItem { collapse_key: key.into(), urgent, ..item("u", seq) }
}

/// What comes, in order: broadcasts by number, messages with what they skip.
fn frames(peer: &mut Peer, broadcasts: u64, pushes: usize) -> (Vec<u64>, Vec<(u64, u64)>, usize) {
    let (mut logged, mut pushed, mut before) = (Vec::new(), Vec::new(), 0);
    while (logged.len() as u64) < broadcasts || pushed.len() < pushes {
        match peer.next() {
            ServerBody::Broadcast(broadcast) => logged.push(broadcast.bseq),
            ServerBody::Push(push) => {
                if pushed.is_empty() {
                    before = logged.len();
                }
                pushed.push((push.seq, push.skip));
            }
            other => panic!("{other:?}"),
        }
    }
    (logged, pushed, before)
}

#[test]
fn messages_pass_a_quarter_of_a_mebibyte_of_broadcasts() {
    for way in Way::ALL {
        let (mut room, tls) = room(|setup| {
            setup.bounds = Bounds { connection: 1 << 20, reserve: 64 << 10, thread: 64 << 20 };
        });
        let mut peer = room.bound_peer(way, &tls, "u");
        let broadcasts = stuff(&room);
        // The second takes the place of the first, and what comes between says that the number holds nothing.
        for part in [
            vec![keyed(1, "weather", false), keyed(2, "", false)],
            vec![keyed(3, "weather", false), keyed(4, "news", false)],
            vec![keyed(5, "news", true)],
        ] {
            assert!(room.deliver(part).iter().all(|delivery| *delivery == Delivery::Sent));
        }
        let (logged, pushed, before) = frames(&mut peer, broadcasts, 3);
        assert_eq!(pushed, [(2, 1), (3, 0), (5, 1)], "{way:?}");
        assert_eq!(logged, (1..=broadcasts).collect::<Vec<_>>(), "{way:?}");
        let passed = (broadcasts as usize - before) * PAYLOAD;
        assert!(passed >= PASSED, "{way:?}: {passed} bytes were passed, {before} broadcasts came before");
        room.count("both are counted", |counts| counts.replaced == 2);
        room.stop();
    }
}
