//! The network between two halves of a cluster. Clients reach both.

use std::time::Duration;

use e2e::{Cut, Layout, faults::Fault};

use crate::{everything, tour, trial};

#[tokio::test(flavor = "multi_thread")]
async fn halves_that_do_not_reach_each_other() -> anyhow::Result<()> {
    let layout = Layout { halves: true, ..everything() };
    trial(layout, "", async |cluster| {
        let cut = |cut, seconds| (Fault::Network(cut), Duration::from_secs(seconds));
        tour(
            cluster,
            [cut(Cut::Between, 2), cut(Cut::Isolated, 2), cut(Cut::Between, 15), cut(Cut::Isolated, 15)],
        )
        .await
    })
    .await
}
