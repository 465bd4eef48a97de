//! SIGSTOP: a process that wakes after its lease has ended, and believes that no time has passed.

use std::time::{Duration, Instant};

use e2e::{
    Processes,
    faults::{Fault, dice},
};
use rand::seq::SliceRandom as _;
use tokio::time::sleep;

use crate::{SAFE, everything, trial};

/// Four times the lease of a node.
const PAUSED: Duration = Duration::from_secs(20);
/// Between two that are paused: at any moment some two or three are.
const BETWEEN: Duration = Duration::from_secs(8);

/// Every service, one beginning before another has ended.
#[tokio::test(flavor = "multi_thread")]
async fn each_service_sleeps_for_20_seconds() -> anyhow::Result<()> {
    let (_, mut dice) = dice();
    trial(everything(), "", async |cluster| {
        let mut names = cluster.names();
        names.shuffle(&mut dice);
        overlapping(cluster, names.into_iter().map(Fault::Pause).collect()).await
    })
    .await
}

/// Redis, MariaDB and etcd's leader.
#[tokio::test(flavor = "multi_thread")]
async fn each_store_sleeps_for_20_seconds() -> anyhow::Result<()> {
    trial(everything(), SAFE, async |cluster| {
        overlapping(cluster, vec![Fault::PauseRedis, Fault::PauseEtcdLeader, Fault::PauseMariaDb]).await
    })
    .await
}

async fn overlapping(cluster: &Processes, faults: Vec<Fault>) -> anyhow::Result<()> {
    let begun = Instant::now();
    let one = async |n: u32, fault: &Fault| {
        sleep(BETWEEN * n).await;
        println!("{:?}: {fault}", begun.elapsed());
        fault.strike(cluster).await?;
        sleep(PAUSED).await;
        fault.heal(cluster).await
    };
    futures::future::try_join_all((0..).zip(&faults).map(|(n, fault)| one(n, fault))).await?;
    cluster.ready().await
}
