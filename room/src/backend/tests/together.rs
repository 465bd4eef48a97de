//! Binds that come together.

use std::{collections::HashMap, time::Duration};

use wire::frame::BindCode;

use super::cluster::Side;
use crate::{
    backend::BackendLimits,
    event_loop::Order,
    exchange::{BindAnswer, BindAsk, BindingKey},
};

/// The answers to all of these, handed over at once.
async fn answers(side: &mut Side, asks: Vec<BindAsk>) -> HashMap<BindingKey, BindAnswer> {
    let count = asks.len();
    side.asks.binds.send(asks).await.unwrap();
    let mut all = HashMap::new();
    while all.len() < count {
        let Order::Bound(answers) = side.order().await else { panic!("no answer") };
        all.extend(answers.into_iter().map(|answer| (answer.binding, answer)));
    }
    all
}

#[tokio::test(start_paused = true)]
async fn who_meets_an_obstacle_holds_up_nobody() {
    let mut side = Side::new();
    side.services.state().bind_takes = Duration::from_millis(100);
    let mut asks: Vec<BindAsk> = ["alice", "bob", "carol", "bob"].map(|uid| side.bind_ask(uid)).into();
    asks[0].token = "bad".to_owned();
    let keys: Vec<BindingKey> = asks.iter().map(|ask| ask.binding).collect();
    let mut all = answers(&mut side, asks).await;
    let mut result = |place: usize| all.remove(&keys[place]).unwrap().result;
    assert_eq!(result(0).unwrap_err().code, BindCode::BadToken);
    let (first, second) = (result(1).unwrap().fence, result(3).unwrap().fence);
    assert!(first < second && result(2).is_ok(), "binds of one user keep their order");
    side.settle().await;
    let online = |uid: &str| side.services.state().events.iter().filter(|event| event.0 == uid).count();
    assert_eq!([online("alice"), online("bob"), online("carol")], [0, 2, 1]);
    side.end().await;
}

/// More are handed over at once than may be under way, whatever becomes of them.
#[tokio::test(start_paused = true)]
async fn all_are_answered_however_many_come() {
    let most = BackendLimits::default().binds;
    for bad in [false, true] {
        let mut side = Side::new();
        let mut asks: Vec<BindAsk> = (0..3 * most).map(|n| side.bind_ask(&format!("u{n}"))).collect();
        if bad {
            asks.iter_mut().for_each(|ask| ask.token = "bad".to_owned());
        }
        let all = answers(&mut side, asks).await;
        assert!(all.values().all(|answer| answer.result.is_err() == bad));
        let entered = side.services.state().sessions.len();
        assert_eq!(entered, if bad { 0 } else { 3 * most });
        side.end().await;
    }
}
