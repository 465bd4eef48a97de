//! Broadcast logs.

use std::time::Duration;

use proto::internal as rpc;
use wire::id::AppId;

use super::cluster::Side;
use crate::{event_loop::Order, exchange::PageAsk};

fn notice(bseq: u64) -> rpc::BroadcastNotice {
    rpc::BroadcastNotice { app: 7, epoch: 1, bseq, id: 100 + bseq, ..rpc::BroadcastNotice::default() }
}

fn stored(bseq: u64) -> rpc::StoredBroadcast {
    rpc::StoredBroadcast { epoch: 1, bseq, id: 100 + bseq, ..rpc::StoredBroadcast::default() }
}

impl Side {
    /// (after, numbers, through) of the next run.
    async fn run(&mut self) -> (u64, Vec<u64>, u64) {
        match self.order().await {
            Order::Log(run) | Order::Page(run) => {
                let alive = run.entries.iter().filter(|entry| !entry.recalled);
                (run.after, alive.map(|entry| entry.bseq).collect(), run.through)
            }
            other => panic!("{other:?}"),
        }
    }

    async fn notice(&self, bseq: u64) {
        self.backend.broadcasts.notice(notice(bseq)).await.unwrap();
    }

    fn store(&self, log: Vec<rpc::StoredBroadcast>) {
        let mut state = self.services.state();
        state.head = log.last().map_or(0, |stored| stored.bseq);
        state.log = log;
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_is_followed_from_the_first_bind_on() {
    let mut side = Side::new();
    side.services.state().head = 4;
    side.notice(5).await;
    assert!(side.orders.try_recv().is_err(), "nobody of the app is here");
    side.bind("alice").await;
    side.notice(4).await;
    side.notice(5).await;
    assert_eq!(side.run().await, (4, vec![5], 5));
    side.notice(5).await;
    assert!(side.orders.try_recv().is_err(), "each once");
    side.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_overtakes_waits_a_moment() {
    let mut side = Side::new();
    side.bind("alice").await;
    side.notice(2).await;
    side.notice(1).await;
    assert_eq!(side.run().await, (0, vec![1, 2], 2));
    side.settle().await;
    assert!(!side.services.state().calls.contains(&"log"), "nothing had to be read");
    side.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_is_read() {
    let mut side = Side::new();
    side.bind("alice").await;
    side.store(vec![stored(1), stored(3)]);
    side.notice(3).await;
    assert_eq!(side.run().await, (0, vec![1, 3], 3));
    side.end().await;
}

/// A center that died after it stored a broadcast, before it told the rooms.
#[tokio::test(start_paused = true)]
async fn what_nobody_told_is_found_by_its_head() {
    let mut side = Side::new();
    side.bind("alice").await;
    side.store(vec![stored(1)]);
    let began = tokio::time::Instant::now();
    assert_eq!(side.run().await, (0, vec![1], 1));
    assert!(began.elapsed() <= Duration::from_secs(11));
    side.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_is_tried_again() {
    let mut side = Side::new();
    side.bind("alice").await;
    side.store(vec![stored(1), stored(2)]);
    side.services.fail("log", 1);
    side.notice(2).await;
    assert_eq!(side.run().await, (0, vec![1, 2], 2));
    side.end().await;
}

#[tokio::test(start_paused = true)]
async fn recalled_and_unreadable_ones_hold_nothing() {
    let mut side = Side::new();
    side.bind("alice").await;
    side.store(vec![
        rpc::StoredBroadcast { recalled: true, ..stored(1) },
        rpc::StoredBroadcast { audience: "a and".into(), ..stored(2) },
        stored(3),
    ]);
    assert_eq!(side.run().await, (0, vec![3], 3));
    side.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_thread_gets_the_page_that_it_asks_for() {
    let mut side = Side::new();
    side.store(vec![stored(1), stored(2), stored(3)]);
    side.asks.pages.send(vec![PageAsk { app: AppId(7), after: 1 }]).await.unwrap();
    assert_eq!(side.run().await, (1, vec![2, 3], 3));
    side.asks.pages.send(vec![PageAsk { app: AppId(7), after: 2 }]).await.unwrap();
    assert_eq!(side.run().await, (2, vec![3], 3));
    assert_eq!(side.services.state().calls.iter().filter(|call| **call == "log").count(), 1, "read once");
    side.services.fail("log", 1);
    side.asks.pages.send(vec![PageAsk { app: AppId(7), after: 3 }]).await.unwrap();
    assert!(matches!(side.order().await, Order::PageFailed(AppId(7))));
    side.end().await;
}
