//! What goes on by itself: the sweep and clean-up.

use super::{tests::*, *};
use crate::{
    cleanup::{self, CleanupSettings},
    inbox::Waiting,
    sweep::{self, Nudge, Nudged, SweepSettings},
};

#[tokio::test]
async fn clean_up_expires_and_forgets() {
    let rig = Rig::new().await;
    for n in 1..=5 {
        rig.push(n, &format!("u{n}")).await.unwrap();
    }
    rig.engine.append(vec![append(6, &["a", "b"])]).await.remove(0).unwrap();
    let settings = CleanupSettings { retention: std::time::Duration::from_secs(120), per_second: 1_000_000 };
    assert_eq!(cleanup::round(&rig.engine, settings, &|_| true).await.unwrap(), 0);
    rig.pass(60_000);
    assert_eq!(cleanup::round(&rig.engine, settings, &|_| true).await.unwrap(), 7);
    assert_eq!(counts(&rig.ledger(6).await), [2, 0, 0, 2, 0, 0]);
    rig.pass(120_000);
    assert_eq!(cleanup::round(&rig.engine, settings, &|_| true).await.unwrap(), 7);
    assert!(!rig.ledger(6).await.found && !rig.ledger(1).await.found);
}

struct Recorder(std::sync::Mutex<Vec<(String, u64)>>, Nudged);

impl Nudge for Recorder {
    async fn away(&self, keys: &[InboxKey]) -> Vec<bool> {
        // Of these the registers are certain.
        keys.iter().map(|key| key.uid().as_str().starts_with("away")).collect()
    }

    async fn nudge(&self, key: &InboxKey, waiting: Waiting) -> Nudged {
        self.0.lock().unwrap().push((key.uid().to_string(), waiting.reaches.seq.0));
        self.1
    }
}

#[tokio::test]
async fn overdue_inboxes_are_nudged_until_acked() {
    let rig = Rig::new().await;
    let settings = SweepSettings { after: std::time::Duration::from_secs(10), per_second: 100 };
    let online = Recorder(std::sync::Mutex::default(), Nudged::Online);
    let last = rig.push(1, "a").await.unwrap();
    rig.push(2, "b").await.unwrap();
    rig.ack("a", last.positions[0]).await;
    assert_eq!(sweep::step(&rig.engine, &online, settings).await.unwrap(), 0);
    rig.pass(10_000);
    assert_eq!(sweep::step(&rig.engine, &online, settings).await.unwrap(), 1);
    rig.pass(5_000);
    assert_eq!(sweep::step(&rig.engine, &online, settings).await.unwrap(), 0);
    rig.pass(5_000);
    let offline = Recorder(std::sync::Mutex::default(), Nudged::Offline);
    assert_eq!(sweep::step(&rig.engine, &offline, settings).await.unwrap(), 0);
    // Nobody there: not looked up again until something happens.
    rig.pass(50_000);
    assert_eq!(sweep::step(&rig.engine, &offline, settings).await.unwrap(), 0);
    assert_eq!(*online.0.lock().unwrap(), [("b".to_owned(), 1)]);
    assert_eq!(*offline.0.lock().unwrap(), [("b".to_owned(), 1)]);
}

/// Users that are certainly offline are asked for together; nobody is told of them, and they are not looked up again.
#[tokio::test]
async fn who_is_away_is_not_nudged() {
    let rig = Rig::new().await;
    let settings = SweepSettings { after: std::time::Duration::from_secs(10), per_second: 100 };
    rig.engine.append(vec![append(1, &["away-1", "a", "away-2", "b"])]).await.remove(0).unwrap();
    rig.pass(10_000);
    let online = Recorder(std::sync::Mutex::default(), Nudged::Online);
    assert_eq!(sweep::step(&rig.engine, &online, settings).await.unwrap(), 2);
    rig.pass(10_000);
    assert_eq!(sweep::step(&rig.engine, &online, settings).await.unwrap(), 2);
    let mut told = online.0.lock().unwrap().clone();
    told.sort();
    let told: Vec<&str> = told.iter().map(|(uid, _)| uid.as_str()).collect();
    assert_eq!(told, ["a", "a", "b", "b"]);
}

/// After a kill nothing is in memory and so nothing is on watch, though a center may have died with the saver.
#[tokio::test]
async fn a_new_life_sweeps_what_the_last_one_left() {
    let rig = Rig::new().await;
    rig.push(1, "a").await.unwrap();
    rig.engine.append(vec![append(2, &["b", "c"])]).await.remove(0).unwrap();
    let rig = rig.again().await;
    let settings = SweepSettings { after: std::time::Duration::from_secs(10), per_second: 100 };
    sweep::recover(&rig.engine, settings, |_| true).await;
    rig.pass(10_000);
    let online = Recorder(std::sync::Mutex::default(), Nudged::Online);
    assert_eq!(sweep::step(&rig.engine, &online, settings).await.unwrap(), 3);
}
