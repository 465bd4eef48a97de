//! kill -9 of services.

use std::time::Duration;

use e2e::faults::{Fault, dice};
use rand::{RngExt as _, seq::SliceRandom as _};

use crate::{everything, tour, trial};

/// Each service in turn, in random order; back before its lease has ended, or after.
#[tokio::test(flavor = "multi_thread")]
async fn each_service_in_turn() -> anyhow::Result<()> {
    let (_, mut dice) = dice();
    trial(everything(), "", async |cluster| {
        let mut names = cluster.names();
        names.shuffle(&mut dice);
        let faults: Vec<_> = names
            .into_iter()
            .map(|name| (Fault::Kill(vec![name]), Duration::from_millis(dice.random_range(0..8_000))))
            .collect();
        tour(cluster, faults).await
    })
    .await
}

/// Pairs that matter: both of a role, and those of two roles that a message passes.
#[tokio::test(flavor = "multi_thread")]
async fn two_at_once() -> anyhow::Result<()> {
    const PAIRS: [(&str, &str); 8] = [
        ("saver-1", "saver-2"),
        ("register-1", "register-2"),
        ("room-1", "room-2"),
        ("center-1", "center-2"),
        ("room-1", "register-2"),
        ("saver-2", "room-2"),
        ("center-1", "saver-1"),
        ("coordinator-1", "dispatcher-1"),
    ];
    let (_, mut dice) = dice();
    trial(everything(), "", async |cluster| {
        let faults: Vec<_> = PAIRS
            .into_iter()
            .map(|(one, other)| {
                let both = Fault::Kill(vec![one.to_owned(), other.to_owned()]);
                (both, Duration::from_millis(dice.random_range(0..7_000)))
            })
            .collect();
        tour(cluster, faults).await
    })
    .await
}
