//! A node whose clock jumps by an hour, there and back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use e2e::{Layout, Processes, faults::Fault};
use tokio::time::sleep;

use crate::{everything, trial};

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_jumps_by_an_hour() -> anyhow::Result<()> {
    const NODES: [&str; 4] = ["saver-1", "center-1", "room-1", "register-1"];
    let layout = Layout { clocks: NODES.map(str::to_owned).to_vec(), ..everything() };
    trial(layout, "", async |cluster| {
        for (name, by) in NODES.into_iter().flat_map(|name| ["+1h", "-1h"].map(|by| (name, by))) {
            let fault = Fault::Clock(name.to_owned(), by);
            let wrong = async {
                sleep(Duration::from_secs(3)).await;
                // Dates of answers are kept until the clock has passed them: they show only jumps ahead.
                let off = minutes_off(cluster, name).await?;
                ensure!(off == 60, "{fault}: {off} minutes");
                anyhow::Ok(())
            };
            let (struck, wrong) = tokio::join!(fault.last(cluster, Duration::from_secs(4)), wrong);
            struck?;
            wrong?;
            sleep(Duration::from_millis(500)).await;
        }
        Ok(())
    })
    .await
}

/// By how much a process' clock is wrong, as its answers say.
async fn minutes_off(cluster: &Processes, name: &str) -> anyhow::Result<i64> {
    let url = format!("http://{}/healthz", cluster.admin(name)?);
    let answer = e2e::api::http().get(url).send().await?;
    let date = answer.headers().get("date").context("no date")?.to_str()?.to_owned();
    // Seconds of the day are enough, but for midnight, where a day is missing.
    let minutes = |clock: &str| {
        let mut parts = clock.split(':').filter_map(|part| part.parse::<i64>().ok());
        Some(parts.next()? * 60 + parts.next()?)
    };
    let theirs = date.split(' ').nth(4).and_then(minutes).with_context(|| date.clone())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() / 60 % 1_440;
    let off = (theirs - i64::try_from(now)? + 720).rem_euclid(1_440) - 720;
    // The minute may have ended between the two looks.
    Ok(if off % 60 == 0 { off } else { off + 1 })
}
