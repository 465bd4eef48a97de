//! Registers that start anew, come and go; a room that had lapsed.

use std::{sync::Arc, time::Duration};

use wire::id::{AppId, ConnId, FenceNumber, Uid};

use super::cluster::{Side, picture, registers};
use crate::{
    event_loop::Order,
    exchange::{BindingKey, HeldSession, KickWhy},
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

/// How long a change takes until it is acted upon, generously.
const SOON: Duration = Duration::from_millis(300);

#[tokio::test(start_paused = true)]
async fn a_register_that_starts_anew_is_told_what_the_threads_hold() {
    let mut side = Side::new();
    side.services.state().round = 3;
    side.registers.send(Arc::new(picture(1))).unwrap();
    side.settle().await;
    assert!(side.orders.try_recv().is_err(), "nothing has changed");
    assert_eq!(side.services.state().settled[&2], 3, "there was nothing to tell");
    side.registers.send(Arc::new(picture(2))).unwrap();
    let Order::Held(0, _, reply) = side.order().await else { panic!("no question") };
    reply.send((vec![session("alice", 9)], Some(4))).unwrap();
    let mut orders = [side.order().await, side.order().await];
    orders.sort_by_key(|order| matches!(order, Order::Over(..)));
    let [Order::Held(4, _, rest), Order::Over(_, over)] = orders else { panic!("it goes on") };
    rest.send((Vec::new(), None)).unwrap();
    over.send(Vec::new()).unwrap();
    side.settle().await;
    {
        let state = side.services.state();
        assert_eq!(state.told, [(9, vec![(2, "alice".to_owned(), 9)])], "with the fence that it has");
        assert_eq!(state.settled[&2], 3);
        assert_eq!(state.sessions["alice"], 9);
    }
    side.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ended_meanwhile_is_removed_again() {
    let mut side = Side::new();
    side.settle().await;
    side.registers.send(Arc::new(picture(2))).unwrap();
    side.held(vec![session("alice", 9)]).await;
    side.over(vec![0]).await;
    side.settle().await;
    {
        let state = side.services.state();
        assert!(state.sessions.is_empty());
        // Its end had reached the register before the session did, and so had told nobody.
        assert_eq!(state.events, [("alice".to_owned(), false, 9)]);
    }
    side.end().await;
}

/// Alice had come back in another room while this one could not tell the register: hers here is over.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_older_than_another_is_kicked() {
    let mut side = Side::new();
    side.settle().await;
    side.services.state().newer.push("alice".to_owned());
    side.registers.send(Arc::new(picture(2))).unwrap();
    side.held(vec![session("alice", 9), session("bob", 10)]).await;
    let Order::Kick(kicks, _) = side.order().await else { panic!("no kick") };
    let kick = &kicks[0];
    assert_eq!(
        (kicks.len(), kick.uid.as_str(), kick.fence, kick.why),
        (1, "alice", FenceNumber(9), KickWhy::Replaced)
    );
    side.over(Vec::new()).await;
    side.end().await;
}

/// The register answered, then died; the thread was asked what it holds before it had the binding.
#[tokio::test(start_paused = true)]
async fn a_bind_that_the_earlier_life_answered_is_told_again() {
    let mut side = Side::new();
    side.settle().await;
    side.services.state().bind_takes = Duration::from_millis(500);
    let ask = side.bind_ask("alice");
    side.asks.binds.send(vec![ask]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    side.registers.send(Arc::new(picture(2))).unwrap();
    side.held(Vec::new()).await;
    let done = side.bound().await.result.unwrap();
    side.over(Vec::new()).await;
    side.settle().await;
    assert_eq!(side.services.state().told, [(9, vec![(2, "alice".to_owned(), done.fence.0)])]);
    side.end().await;
}

/// Of two registers one is killed: its users go to the other, and nobody else is told again.
#[tokio::test(start_paused = true)]
async fn the_users_of_a_register_that_is_gone_are_told_to_the_other() {
    let mut side = Side::new();
    side.settle().await;
    side.registers.send(Arc::new(registers(&[(2, 1), (3, 1)]))).unwrap();
    side.held(Vec::new()).await;
    side.settle().await;
    side.registers.send(Arc::new(registers(&[(2, 1)]))).unwrap();
    let all: Vec<_> = (0..100).map(|n| session(&format!("u{n}"), n)).collect();
    side.held(all).await;
    side.over(Vec::new()).await;
    tokio::time::sleep(SOON).await;
    let told = std::mem::take(&mut side.services.state().told);
    assert_eq!(told.len(), 1);
    assert!((30..70).contains(&told[0].1.len()), "{}", told[0].1.len());
    assert!(side.orders.try_recv().is_err());
    side.end().await;
}

/// A picture that neither had seen, or a register that has forgotten: it says that it still waits.
#[tokio::test(start_paused = true)]
async fn a_register_that_misses_sessions_is_told_again_without_any_change() {
    let mut side = Side::new();
    side.settle().await;
    side.services.state().round += 1;
    side.held(vec![session("alice", 9)]).await;
    side.over(Vec::new()).await;
    side.settle().await;
    assert_eq!(side.services.state().settled[&2], 1);
    assert!(side.orders.try_recv().is_err(), "once is enough");
    side.end().await;
}

/// One register hung and was still in the picture; the heir of another waited for it.
#[tokio::test(start_paused = true)]
async fn a_register_that_hangs_holds_up_no_other() {
    let mut side = Side::new();
    side.settle().await;
    side.services.state().hanging.push(3);
    side.registers.send(Arc::new(registers(&[(2, 5), (3, 5)]))).unwrap();
    side.held((0..10).map(|n| session(&format!("u{n}"), n)).collect()).await;
    side.over(Vec::new()).await;
    tokio::time::sleep(SOON).await;
    assert!(side.services.state().told.iter().flat_map(|(_, told)| told).all(|(to, ..)| *to == 2));
    // It leaves: all is told to the one that is there.
    side.registers.send(Arc::new(registers(&[(2, 5)]))).unwrap();
    loop {
        match side.order().await {
            Order::Held(0, _, reply) => reply.send((vec![session("alice", 9)], None)).unwrap(),
            Order::Over(_, reply) => {
                reply.send(Vec::new()).unwrap();
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    side.end().await;
}

/// The registers dropped the sessions of a room that was out of the picture, and told everybody that its users were offline.
#[tokio::test(start_paused = true)]
async fn a_room_that_had_lapsed_tells_all_and_looks_into_the_inboxes() {
    let mut side = Side::new();
    side.settle().await;
    side.me.set_joined(77);
    side.held(vec![session("alice", 9)]).await;
    side.over(Vec::new()).await;
    side.held(vec![session("alice", 9)]).await;
    let Order::Deliver(nudges, _) = side.order().await else { panic!("nobody looks") };
    assert_eq!((nudges[0].uid.as_str(), nudges[0].fence), ("alice", Some(FenceNumber(9))));
    assert!(nudges[0].payload.is_none() && nudges[0].seq > 0);
    assert_eq!(side.services.state().told, [(77, vec![(2, "alice".to_owned(), 9)])]);
    side.end().await;
}

/// The register had entered the session and its answer was lost: the user looked online here until the next bind.
#[tokio::test(start_paused = true)]
async fn a_bind_without_an_answer_is_taken_back() {
    let mut side = Side::new();
    side.settle().await;
    side.services.lose_answer();
    let ask = side.bind_ask("alice");
    side.asks.binds.send(vec![ask]).await.unwrap();
    assert!(side.bound().await.result.is_err());
    side.settle().await;
    let unbinds = side.services.state().unbinds.clone();
    assert_eq!(unbinds.len(), 1);
    let item = &unbinds[0];
    assert_eq!(
        (item.uid.as_str(), item.fence, item.room, item.incarnation, item.conn),
        ("alice", 0, 4, 9, 5)
    );
    side.end().await;
}
