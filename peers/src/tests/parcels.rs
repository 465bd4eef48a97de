//! Items that come together.

use std::{sync::atomic::Ordering, time::Duration};

use cluster::{Role, rendezvous::user_key};
use proto::internal as rpc;
use tokio::time::Instant;

use super::{
    fake_saver::FakeSaver,
    fakes::FakeRegister,
    town::{Town, limits},
};
use crate::{First, PeerError, Registers, Savers};

fn load(n: u32) -> rpc::LoadItem {
    rpc::LoadItem { app: 7, uid: n.to_string(), bind: true, max_bytes: 64 << 10, ..Default::default() }
}

fn bind(uid: &str, conn: u64) -> rpc::BindItem {
    rpc::BindItem { app: 7, uid: uid.to_owned(), conn, ..Default::default() }
}

fn done<T>(first: First<T>) -> T {
    match first {
        First::Done(done) => done,
        First::Failed(error) => panic!("{error}"),
        First::Again(again) => panic!("{}", again.error()),
    }
}

#[tokio::test(start_paused = true)]
async fn each_owner_is_called_once_and_answers_keep_their_order() {
    let mut town = Town::new();
    let fakes = [1, 2, 3].map(FakeSaver::new);
    for fake in &fakes {
        town.add(Role::Saver, fake.id, fake.routes()).await;
    }
    let savers = Savers::new(&town.cluster, limits(), town.cancel.clone());
    let results = savers.load_all((0..100).map(load).collect()).await;
    for (n, first) in (0_u32..).zip(results) {
        let owner = town.owner(Role::Saver, user_key(7, &n.to_string()));
        assert_eq!(savers.owner(7, &n.to_string()).map(|node| node.0), Some(owner));
        let start = done(first).start.unwrap();
        assert_eq!((start.epoch, start.seq), (owner.into(), n.into()));
    }
    let calls = fakes.each_ref().map(|fake| fake.seen.lock().unwrap().loads.clone());
    assert!(calls.iter().all(|calls| calls.len() == 1), "{calls:?}");
    assert_eq!(calls.iter().flatten().sum::<usize>(), 100);
    assert!(savers.load_all(Vec::new()).await.is_empty());
}

/// What is answered has to fit into one answer.
#[tokio::test(start_paused = true)]
async fn a_call_has_no_more_than_its_answer_may_weigh() {
    let mut town = Town::new();
    let fake = FakeSaver::new(1);
    town.add(Role::Saver, 1, fake.routes()).await;
    let savers = Savers::new(&town.cluster, limits(), town.cancel.clone());
    let results = savers.load_all((0..300).map(load).collect()).await;
    let numbers: Vec<_> = results.into_iter().map(|first| done(first).start.unwrap().seq).collect();
    assert_eq!(numbers, (0..300).collect::<Vec<u64>>());
    assert_eq!(fake.seen.lock().unwrap().loads, [128, 128, 44], "8 MiB of 64 KiB each");
}

#[tokio::test(start_paused = true)]
async fn what_fails_goes_on_by_itself() {
    let mut town = Town::new();
    let fake = FakeSaver::new(1);
    fake.failing.store(2, Ordering::SeqCst);
    town.add(Role::Saver, 1, fake.routes()).await;
    let savers = Savers::new(&town.cluster, limits(), town.cancel.clone());
    let mut results = savers.load_all((0..3).map(load).collect()).await.into_iter();
    let (Some(First::Again(again)), 2) = (results.next(), results.len()) else {
        panic!("one attempt is made")
    };
    assert!(matches!(again.error(), PeerError::Unavailable { .. }));
    assert_eq!(savers.load_again(load(0), again).await.unwrap().start.unwrap().seq, 0);
    assert_eq!(fake.seen.lock().unwrap().loads, [3, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_both_attempts_is_one() {
    let mut town = Town::new();
    town.add(Role::Saver, 1, FakeSaver { hangs: true, ..FakeSaver::new(1) }.routes()).await;
    let savers = Savers::new(&town.cluster, limits(), town.cancel.clone());
    let start = Instant::now();
    let mut results = savers.load_all(vec![load(1)]).await;
    assert_eq!(start.elapsed(), Duration::from_secs(2), "the time-out of a call");
    let Some(First::Again(again)) = results.pop() else { panic!("it may be tried again") };
    assert!(savers.load_again(load(1), again).await.is_err());
    assert!(start.elapsed() <= limits().deadline);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_for_good_and_for_its_item_alone() {
    let mut town = Town::new();
    let refusal = Some(rpc::Refusal { code: "busy".into(), ..Default::default() });
    town.add(Role::Saver, 1, FakeSaver { refusal, ..FakeSaver::new(1) }.routes()).await;
    town.add(Role::Register, 2, FakeRegister(2).routes()).await;
    let savers = Savers::new(&town.cluster, limits(), town.cancel.clone());
    let results = savers.load_all(vec![load(1)]).await;
    assert!(matches!(&results[..], [First::Failed(PeerError::Refused(_))]));
    let registers = Registers::new(&town.cluster, limits(), town.cancel.clone());
    let items = vec![bind("alice", 3), bind("nobody's", 4), bind("bob", 5)];
    let results = registers.bind_all(items).await;
    assert!(matches!(&results[..], [First::Done(4), First::Again(_), First::Done(6)]), "{results:?}");
}

#[tokio::test(start_paused = true)]
async fn without_the_role_it_is_waited_for() {
    let mut town = Town::new();
    let registers = Registers::new(&town.cluster, limits(), town.cancel.clone());
    assert_eq!(registers.owner(7, "alice"), None);
    let Some(First::Again(again)) = registers.bind_all(vec![bind("alice", 3)]).await.pop() else {
        panic!("one may come")
    };
    let waiting = tokio::spawn({
        let registers = registers.clone();
        async move { registers.bind_again(bind("alice", 3), again).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    town.add(Role::Register, 1, FakeRegister(1).routes()).await;
    assert_eq!(waiting.await.unwrap().unwrap(), 4);
}
