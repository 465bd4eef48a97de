//! A node whose clock jumps by an hour, there and back.

use std::time::Duration;

use e2e::{Layout, faults::Fault};

use crate::{everything, tour, trial};

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_jumps_by_an_hour() -> anyhow::Result<()> {
    const NODES: [&str; 4] = ["saver-1", "center-1", "room-1", "register-1"];
    let layout = Layout { clocks: NODES.map(str::to_owned).to_vec(), ..everything() };
    trial(layout, "", async |cluster| {
        let faults = NODES.into_iter().flat_map(|name| {
            ["+1h", "-1h"].map(|by| (Fault::Clock(name.to_owned(), by), Duration::from_secs(4)))
        });
        tour(cluster, faults).await
    })
    .await
}
