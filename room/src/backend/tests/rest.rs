//! Loads, acks, ends, upstream.

use std::time::Duration;

use bytes::Bytes;
use proto::internal as rpc;
use tokio::time::Instant;
use wire::{
    frame::UpCode,
    id::{AppId, ConnId, Cursor, Epoch, FenceNumber, Position, Seq, Uid},
};

use super::cluster::Side;
use crate::{
    event_loop::Order,
    exchange::{AckAsk, BindingKey, ConnKey, EndAsk, LoadAsk, UpAsk},
};

fn uid() -> Uid {
    Uid::new("alice").unwrap()
}

fn place(seq: u64) -> Position {
    Position { epoch: Epoch(3), seq: Seq(seq) }
}

fn end(fence: u64) -> EndAsk {
    EndAsk {
        app: AppId(7),
        uid: uid(),
        conn: ConnId(5),
        fence: FenceNumber(fence),
        inbox: None,
        cursor: None,
        credits: Vec::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_is_answered_whatever_comes_of_it() {
    let mut side = Side::new();
    let binding = BindingKey { slot: 1, generation: 1 };
    let ask = LoadAsk { binding, app: AppId(7), uid: uid(), after: place(4) };
    side.services.fail("load", 1);
    for works in [false, true] {
        side.asks.loads.send(vec![ask.clone()]).await.unwrap();
        let Order::Loaded(answers) = side.order().await else { panic!("no answer") };
        assert_eq!((answers[0].binding, answers[0].result.is_some()), (binding, works));
    }
    let after = side.services.state().loads[0].after;
    assert_eq!(after, Some(rpc::Position { epoch: 3, seq: 4 }));
    side.end().await;
}

#[tokio::test(start_paused = true)]
async fn acks_are_tried_until_they_are_written() {
    let side = Side::new();
    side.services.fail("ack", 3);
    let ask = AckAsk { app: AppId(7), uid: uid(), inbox: place(9) };
    side.asks.acks.send(vec![ask]).await.unwrap();
    side.settle().await;
    assert_eq!(side.services.state().acks.len(), 1);
    assert!(!side.backend.is_busy());
    side.end().await;
}

/// With a saver that takes a second for each call and acks for four times what may be under way: they wait, none is lost, and
/// the moment it is quick again all is done.
#[tokio::test(start_paused = true)]
async fn a_slow_saver_delays_acks_and_loads_and_loses_none() {
    let mut side = Side::new();
    side.services.state().saver_takes = Duration::from_secs(1);
    let (acks, queue) = (4 * side.backend.limits.acks, side.asks.acks.clone());
    let sent = tokio::spawn(async move {
        for seq in 0..acks as u64 / 512 {
            let ask = AckAsk { app: AppId(7), uid: uid(), inbox: place(seq + 1) };
            // What does not fit waits in the thread; here it is this task.
            queue.send(vec![ask; 512]).await.unwrap();
        }
    });
    let binding = BindingKey { slot: 1, generation: 1 };
    side.asks
        .loads
        .send(vec![LoadAsk { binding, app: AppId(7), uid: uid(), after: place(4) }])
        .await
        .unwrap();
    let begun = Instant::now();
    let Order::Loaded(answers) = side.order().await else { panic!("no answer") };
    assert!(answers[0].result.is_some() && begun.elapsed() >= Duration::from_secs(1));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(side.services.state().acks.len(), side.backend.limits.acks, "the rest waits");
    assert!(!sent.is_finished(), "for a place in the queue");
    side.services.state().saver_takes = Duration::ZERO;
    // What was under way takes its second; what waited takes no time.
    tokio::time::sleep(Duration::from_secs(1)).await;
    side.settle().await;
    assert_eq!(side.services.state().acks.len(), acks);
    assert_eq!(side.backend.metrics.acks_lost.get(), 0);
    side.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_end_writes_down_what_is_left_then_tells_the_register_then_the_app() {
    let mut side = Side::new();
    side.bind("alice").await;
    side.settle().await;
    side.services.state().calls.clear();
    side.services.fail("unbind", 2);
    let cursor = Some(Cursor { epoch: Epoch(1), bseq: 6.into() });
    side.asks.ends.send(vec![EndAsk { inbox: Some(place(9)), cursor, ..end(1) }]).await.unwrap();
    side.settle().await;
    {
        let state = side.services.state();
        assert_eq!(state.calls[..4], ["ack", "unbind", "unbind", "unbind"]);
        assert_eq!(state.acks[0].cursor, Some(rpc::BroadcastCursor { epoch: 1, bseq: 6 }));
        assert_eq!(state.events[1], ("alice".to_owned(), false, 1));
    }
    side.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_has_bound_elsewhere_is_not_offline() {
    let mut side = Side::new();
    side.bind("alice").await;
    side.services.state().sessions.insert("alice".to_owned(), 2);
    side.asks.ends.send(vec![end(1)]).await.unwrap();
    side.settle().await;
    assert_eq!(side.services.state().events.len(), 1, "online, and nothing else");
    assert_eq!(side.services.state().sessions["alice"], 2);
    side.end().await;
}

#[tokio::test(start_paused = true)]
async fn upstream_outcomes_reach_the_device() {
    let mut side = Side::new();
    side.services.state().up =
        [rpc::UpOutcome::Taken, rpc::UpOutcome::Rejected, rpc::UpOutcome::Retry].into();
    let codes = [UpCode::Ok, UpCode::Rejected, UpCode::Retry, UpCode::Retry];
    for (reference, code) in (1..).zip(codes) {
        if reference == 4 {
            side.services.fail("up", 1);
        }
        let ask = UpAsk {
            conn: ConnKey { slot: 1, generation: 2 },
            app: AppId(7),
            uid: uid(),
            kind: "k".into(),
            payload: Bytes::new(),
            reference,
        };
        side.asks.ups.send(vec![ask]).await.unwrap();
        let Order::Ups(answers) = side.order().await else { panic!("no answer") };
        assert_eq!((answers[0].reference, answers[0].code), (reference, code));
        assert_eq!(answers[0].retry_after_ms > 0, code == UpCode::Retry);
    }
    side.end().await;
}
