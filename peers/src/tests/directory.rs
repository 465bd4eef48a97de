//! The apps at hand.

use std::{sync::atomic::Ordering, time::Duration};

use cluster::Role;
use futures::future::join_all;
use proto::internal as rpc;
use tokio::{task::JoinHandle, time::Instant};

use super::{
    fake_saver::FakeSaver,
    town::{Town, limits, settle},
};
use crate::{AppDirectory, PeerError, Savers};

fn app(id: u32, key: &str, revision: u64) -> rpc::App {
    rpc::App { id, key: key.into(), revision, ..Default::default() }
}

impl FakeSaver {
    /// Makes or changes an app, as the next revision.
    fn put(&self, id: u32, key: &str) {
        let mut directory = self.directory.lock().unwrap();
        directory.revision += 1;
        let revision = directory.revision;
        directory.apps.retain(|app| app.id != id);
        directory.apps.push(app(id, key, revision));
    }
}

async fn town() -> (Town, FakeSaver, AppDirectory, JoinHandle<()>) {
    let mut town = Town::new();
    let fake = FakeSaver::new(1);
    fake.put(1, "demo");
    town.add(Role::Saver, 1, fake.routes()).await;
    let savers = Savers::new(&town.cluster, limits(), town.cancel.clone());
    let (directory, task) = AppDirectory::start(savers, town.cancel.clone());
    directory.loaded().await;
    (town, fake, directory, task)
}

#[tokio::test(start_paused = true)]
async fn knows_the_apps_and_follows_their_changes() {
    let (_town, fake, directory, _task) = town().await;
    assert_eq!(directory.get(1u32).unwrap().key, "demo");
    assert_eq!(directory.get_by_key("demo").unwrap().id, 1);
    fake.put(1, "renamed");
    fake.put(2, "demo");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(directory.get_by_key("renamed").unwrap().id, 1);
    assert_eq!(directory.get_by_key("demo").unwrap().id, 2);
    assert_eq!(directory.all().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_app_that_was_just_made_is_found() {
    let (_town, fake, directory, _task) = town().await;
    let start = Instant::now();
    for n in 2..10 {
        fake.put(n, &format!("app {n}"));
        assert_eq!(directory.find_by_key(&format!("app {n}")).await.unwrap().unwrap().id, n);
        assert!(directory.find(n).await.unwrap().is_some());
    }
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn unknown_apps_share_few_fetches() {
    let (_town, fake, directory, _task) = town().await;
    let before = fake.seen.lock().unwrap().apps;
    let start = Instant::now();
    for round in 0..10 {
        let keys: Vec<_> = (0..500).map(|n| format!("no app {round} {n}")).collect();
        let found = join_all(keys.iter().map(|key| directory.find_by_key(key))).await;
        assert!(found.into_iter().all(|found| found.unwrap().is_none()));
    }
    let fetches = fake.seen.lock().unwrap().apps - before;
    assert!(fetches <= 12, "{fetches} fetches for 5,000 misses");
    assert!(start.elapsed() <= Duration::from_secs(2));
    let crowd = join_all((0..2000u32).map(|n| directory.find(n + 100))).await;
    assert!(crowd.into_iter().any(|found| matches!(found, Err(PeerError::Full(Role::Saver)))));
}

#[tokio::test(start_paused = true)]
async fn what_is_known_stays_while_the_savers_are_away() {
    let (town, fake, directory, _task) = town().await;
    town.kill(1);
    fake.failing.store(u32::MAX, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(directory.find_by_key("demo").await.unwrap().is_some());
    assert!(matches!(directory.find_by_key("other").await, Err(PeerError::Unavailable { .. })));
}

#[tokio::test(start_paused = true)]
async fn an_archive_that_was_replaced_is_read_anew() {
    let (_town, fake, directory, _task) = town().await;
    fake.put(2, "two");
    directory.refresh().await.unwrap();
    assert!(directory.get(2u32).is_some());
    *fake.directory.lock().unwrap() = rpc::AppsResponse { apps: vec![app(9, "new", 1)], revision: 1 };
    directory.refresh().await.unwrap();
    assert_eq!(directory.all().iter().map(|app| app.id).collect::<Vec<_>>(), [9]);
}

#[tokio::test(start_paused = true)]
async fn the_end_answers_who_waits() {
    let (town, _fake, directory, task) = town().await;
    town.kill(1);
    let waiting = tokio::spawn({
        let directory = directory.clone();
        async move { directory.find_by_key("other").await }
    });
    settle().await;
    town.cancel.cancel();
    task.await.unwrap();
    assert!(matches!(waiting.await.unwrap(), Err(PeerError::ShuttingDown)));
    assert!(matches!(directory.find(5u32).await, Err(PeerError::ShuttingDown)));
}
