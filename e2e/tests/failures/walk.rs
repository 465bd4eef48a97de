//! Whatever may happen, in any order.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use e2e::{
    Layout,
    faults::{self, dice},
};
use rand::RngExt as _;
use tokio::time::sleep;

use crate::{SAFE, everything, trial};

/// Two minutes, or what `E2E_WALK` says (`./test --soak`: half an hour). `E2E_SEED` repeats a walk.
#[tokio::test(flavor = "multi_thread")]
async fn random_faults() -> anyhow::Result<()> {
    let time = match std::env::var("E2E_WALK") {
        Ok(time) => humantime::parse_duration(&time).context("E2E_WALK")?,
        Err(_) => Duration::from_secs(120),
    };
    let (seed, mut dice) = dice();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    // A proxy in front of a node would be a way around the cut between halves.
    let halves = dice.random_bool(0.5);
    let layout = Layout {
        halves,
        proxied: if halves { vec![] } else { names(&["saver-1", "saver-2", "register-1"]) },
        clocks: names(&["saver-2", "center-2", "room-2", "register-2"]),
        ..everything()
    };
    trial(layout, SAFE, async |cluster| {
        let begun = Instant::now();
        while begun.elapsed() < time {
            let (fault, lasts) = faults::random(&mut dice, cluster);
            println!("{:?}: {fault} for {lasts:?}", begun.elapsed());
            fault.last(cluster, lasts).await?;
            sleep(Duration::from_millis(dice.random_range(0..3_000))).await;
        }
        Ok(())
    })
    .await
    .with_context(|| format!("E2E_SEED={seed}"))
}
