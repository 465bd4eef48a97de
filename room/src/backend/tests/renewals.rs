//! Registers that start anew.

use std::{sync::Arc, time::Duration};

use wire::id::{AppId, ConnId, FenceNumber, Uid};

use super::cluster::{Side, picture};
use crate::{
    event_loop::Order,
    exchange::{BindingKey, HeldSession},
};

fn session(uid: &str, fence: u64) -> HeldSession {
    HeldSession {
        binding: BindingKey { slot: 1, generation: 1 },
        app: AppId(7),
        uid: Uid::new(uid).unwrap(),
        conn: ConnId(5),
        fence: FenceNumber(fence),
    }
}

#[tokio::test(start_paused = true)]
async fn a_register_that_starts_anew_is_told_what_the_threads_hold() {
    let mut side = Side::new();
    side.registers.send(Arc::new(picture(1))).unwrap();
    side.settle().await;
    assert!(side.orders.try_recv().is_err(), "nothing has changed");
    side.registers.send(Arc::new(picture(2))).unwrap();
    let Order::Held(0, _, reply) = side.order().await else { panic!("no question") };
    reply.send((vec![session("alice", 9)], Some(4))).unwrap();
    let Order::Renewed(renewed, reply) = side.order().await else { panic!("no new fence") };
    assert_eq!((renewed.old, renewed.new), (FenceNumber(9), FenceNumber(10)));
    reply.send(true).unwrap();
    let Order::Held(4, _, reply) = side.order().await else { panic!("it goes on") };
    reply.send((Vec::new(), None)).unwrap();
    side.settle().await;
    {
        let state = side.services.state();
        assert_eq!((&state.settled[..], &state.aboves[..]), (&[2][..], &[9][..]));
        assert_eq!(state.sessions["alice"], 10);
    }
    side.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ended_meanwhile_is_given_back() {
    let mut side = Side::new();
    side.settle().await;
    side.registers.send(Arc::new(picture(2))).unwrap();
    let Order::Held(0, _, reply) = side.order().await else { panic!("no question") };
    reply.send((vec![session("alice", 9)], None)).unwrap();
    let Order::Renewed(_, reply) = side.order().await else { panic!("no new fence") };
    reply.send(false).unwrap();
    side.settle().await;
    assert!(side.services.state().sessions.is_empty());
    side.end().await;
}

/// The register answered, then died; the thread was asked what it holds before it had the binding.
#[tokio::test(start_paused = true)]
async fn a_bind_that_the_earlier_life_answered_is_told_again() {
    let mut side = Side::new();
    side.services.state().bind_takes = Duration::from_millis(500);
    let ask = side.bind_ask("alice");
    side.asks.binds.send(vec![ask]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    side.registers.send(Arc::new(picture(2))).unwrap();
    let Order::Held(0, _, reply) = side.order().await else { panic!("no question") };
    reply.send((Vec::new(), None)).unwrap();
    let done = side.bound().await.result.unwrap();
    let Order::Renewed(renewed, reply) = side.order().await else { panic!("no new fence") };
    assert_eq!(renewed.old, done.fence);
    reply.send(true).unwrap();
    side.end().await;
}
