//! kill -9 of what the services stand on.

use std::time::Duration;

use e2e::faults::{Fault, Kept};

use crate::{SAFE, everything, tour, trial};

const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(6);

/// Class `fast`: Redis keeps its data when only the process dies, and MariaDB follows later.
#[tokio::test(flavor = "multi_thread")]
async fn fast_messages_outlive_redis_and_mariadb() -> anyhow::Result<()> {
    trial(everything(), "[saver]\ndurability = \"fast\"\n", async |cluster| {
        tour(
            cluster,
            [
                (Fault::Redis(Kept::All), SHORT),
                (Fault::MariaDb, SHORT),
                (Fault::Redis(Kept::All), LONG),
                (Fault::MariaDb, LONG),
            ],
        )
        .await
    })
    .await
}

/// Class `safe`: Redis may lose everything, or be another one.
#[tokio::test(flavor = "multi_thread")]
async fn safe_messages_outlive_all_that_redis_had() -> anyhow::Result<()> {
    trial(everything(), SAFE, async |cluster| {
        tour(
            cluster,
            [
                (Fault::Redis(Kept::Nothing), SHORT),
                (Fault::FailOver, SHORT),
                (Fault::MariaDb, SHORT),
                (Fault::Redis(Kept::Nothing), LONG),
                (Fault::FailOver, LONG),
                (Fault::MariaDb, LONG),
            ],
        )
        .await
    })
    .await
}

/// The leader of three dies; then all of etcd is away for four leases: the picture freezes and service goes on.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_goes_and_comes() -> anyhow::Result<()> {
    trial(everything(), "", async |cluster| {
        tour(
            cluster,
            [
                (Fault::EtcdLeader, LONG),
                (Fault::EtcdLeader, SHORT),
                (Fault::Etcd, Duration::from_secs(20)),
                (Fault::Kill(vec!["room-1".to_owned()]), LONG),
            ],
        )
        .await
    })
    .await
}
