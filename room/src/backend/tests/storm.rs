//! Everybody comes back right after a broadcast: the logs are read once for the room and not for each device.

use std::collections::HashMap;

use audience::Device;
use bytes::Bytes;
use proto::internal as rpc;
use wire::{
    frame::{Bind, Connect},
    id::{AppId, Cursor, Epoch, Position, Seq},
};

use super::cluster::Side;
use crate::{
    clock::Now,
    event_loop::Order,
    exchange::{BindAnswer, BindDone, LoadDone},
    session::{Class, Limits, Outlet, Sessions},
};

const APP: AppId = AppId(7);
const DEVICES: u32 = 15_000;
/// A paced broadcast has left so many entries.
const SLICES: u64 = 600;
const NOW: Now = Now { ms: 0, unix_ms: 1_800_000_000_000 };

/// Counts what is shared, by connection.
#[derive(Debug, Default)]
struct Counting(HashMap<u32, usize>);

impl Outlet for Counting {
    fn share(&mut self, slot: u32, _: &Bytes, class: Class) -> bool {
        if class == Class::Data {
            *self.0.entry(slot).or_default() += 1;
        }
        true
    }

    fn write(&mut self, _: u32, _: usize, _: Class, _: impl FnOnce(&mut Vec<u8>)) -> bool {
        true
    }

    fn is_busy(&self, _: u32) -> bool {
        false
    }

    fn stalled_ms(&self, _: u32, _: u64) -> u64 {
        0
    }

    fn finish(&mut self, _: u32) {}

    fn abort(&mut self, _: u32) {}
}

/// A whole broadcast, then one in slices.
fn log() -> Vec<rpc::StoredBroadcast> {
    let whole = rpc::StoredBroadcast { epoch: 1, bseq: 1, id: 1, ..rpc::StoredBroadcast::default() };
    let width = (1u64 << 32).div_ceil(SLICES);
    let slice = |number: u64| rpc::StoredBroadcast {
        epoch: 1,
        bseq: 2 + number,
        id: 2,
        payload: Bytes::from(vec![7; 1_000]),
        filter: Some(rpc::Filter {
            hash_from: number * width,
            hash_below: if number + 1 == SLICES { 0 } else { (number + 1) * width },
            ..rpc::Filter::default()
        }),
        ..rpc::StoredBroadcast::default()
    };
    std::iter::once(whole).chain((0..SLICES).map(slice)).collect()
}

impl Side {
    fn keep_log(&self) -> u64 {
        let mut state = self.services.state();
        state.log = log();
        state.head = SLICES + 1;
        state.head
    }

    fn log_calls(&self) -> usize {
        self.services.state().calls.iter().filter(|call| **call == "log").count()
    }
}

fn place(bseq: u64) -> Cursor {
    Cursor { epoch: Epoch(1), bseq: bseq.into() }
}

#[tokio::test(start_paused = true)]
async fn fifteen_thousand_who_lag_cost_a_few_reads() {
    let mut side = Side::new();
    let head = side.keep_log();
    let mut sessions = Sessions::new(Limits::default(), 0, 1, NOW);
    let mut out = Counting::default();
    for number in 0..DEVICES {
        let slot = sessions.open(NOW).unwrap().slot;
        let connect = Connect { device: "d".into(), version: 1, ..Connect::default() };
        sessions.on_frame(slot, connect.into(), NOW, &mut out);
        let uid = format!("user-{number}");
        let bind = Bind { binding: 1, app: "demo".into(), uid, token: "t".into(), ..Bind::default() };
        sessions.on_frame(slot, bind.into(), NOW, &mut out);
        let ask = sessions.asks.binds.take(1).pop().unwrap();
        let start = Position { epoch: Epoch(1), seq: Seq(0) };
        let done = BindDone {
            app: APP,
            fence: 1.into(),
            inbox: LoadDone { start, ..LoadDone::default() },
            cursor: place(0),
            saved_cursor: place(0),
            owed: Vec::new(),
            log: place(head),
            kicked: None,
            reload: false,
        };
        let answer =
            BindAnswer { binding: ask.binding, tags: ask.tags, device: Device::default(), result: Ok(done) };
        sessions.on_bound(answer, NOW, &mut out);
        // They come over seconds; what they wait for is read meanwhile.
        if number % 100 == 0 || number + 1 == DEVICES {
            loop {
                while sessions.work(NOW, &mut out) {}
                let pages = sessions.asks.pages.take(16);
                if pages.is_empty() {
                    break;
                }
                side.asks.pages.send(pages).await.unwrap();
                let Order::Page(run) = side.order().await else { panic!("no page") };
                sessions.on_log(&run, true);
            }
        }
    }
    assert!(side.log_calls() <= 4, "the log was read {} times", side.log_calls());
    assert_eq!(out.0.len(), DEVICES as usize);
    assert!(out.0.values().all(|count| *count == 2), "each its slice, once, and what is for all");
    assert_eq!(sessions.progress(2).pending, u64::from(DEVICES));
    side.end().await;
}

/// After a room has died its devices know more than the saver: that is counted at their binds, from one reading of the log.
#[tokio::test(start_paused = true)]
async fn what_devices_have_is_counted_at_their_binds_from_one_reading() {
    let mut side = Side::new();
    let head = side.keep_log();
    side.services.state().cursor = Some(0);
    for number in 0..200 {
        let uid = format!("user-{number}");
        let mut ask = side.bind_ask(&uid);
        ask.broadcasts = Some(place(head));
        side.services.fail("ack", usize::from(number == 9));
        side.asks.binds.send(vec![ask]).await.unwrap();
        let done = side.bound().await.result.unwrap();
        assert_eq!(done.cursor.bseq.0, head);
        if number == 9 {
            // The archive was away: the binding tells it later.
            assert_eq!((done.saved_cursor.bseq.0, done.owed.len()), (0, 2));
        } else {
            assert_eq!((done.saved_cursor.bseq.0, done.owed.len()), (head, 0));
        }
    }
    let acks = side.services.state().acks.clone();
    assert_eq!(acks.len(), 199);
    for ack in &acks {
        let ids: Vec<u64> = ack.credits.iter().map(|credit| credit.id).collect();
        assert_eq!(ids, [1, 2], "{ack:?}");
        assert!(ack.credits.iter().all(|credit| credit.kind() == rpc::CreditKind::Acked));
    }
    assert!(side.log_calls() <= 4, "the log was read {} times", side.log_calls());
    side.end().await;
}

/// The saver was told the device's whole place with the part of the counts that could be read: the rest was never counted.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_at_a_bind_is_not_passed() {
    let mut side = Side::new();
    let head = side.keep_log();
    side.services.state().cursor = Some(0);
    for (uid, own, known) in [("first", 10, 10), ("second", head, 256)] {
        let mut ask = side.bind_ask(uid);
        ask.broadcasts = Some(place(own));
        side.asks.binds.send(vec![ask]).await.unwrap();
        let done = side.bound().await.result.unwrap();
        assert_eq!((done.cursor.bseq.0, done.saved_cursor.bseq.0), (own, known));
        assert_eq!(side.services.state().acks.pop().unwrap().cursor.unwrap().bseq, known);
        // Only the page that is here.
        side.services.fail("log", 9);
    }
    side.end().await;
}
