//! Disks that are full.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::{
    Backing, Layout, UpProcess,
    faults::SmallDisk,
    judge::{judge, options, pass},
    problems,
};
use storm::scenario::verify::VerifyOptions;
use tokio::time::sleep;

use crate::{SAFE, trial};

const FULL_FOR: Duration = Duration::from_secs(6);

/// `longwire up` on SQLite: pushes are refused while nothing can be written, and accepted after.
#[tokio::test(flavor = "multi_thread")]
async fn sqlite_has_no_room() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let disk = SmallDisk::mount(&folder.path().join("disk"), 64)?;
    let up = UpProcess::start(disk.path(), "").await?;
    let ports = up.ports();
    let options = VerifyOptions {
        seconds: Duration::from_secs(3_600),
        churn: 1.0,
        drain: Duration::from_secs(60),
        ..options(vec![format!("http://{}", ports.api)], &format!("http://{}", ports.route), &up.key()?)
    };
    let verdict = judge(options, async {
        for but_kib in [0, 64] {
            disk.fill(but_kib)?;
            sleep(FULL_FOR).await;
            disk.free()?;
            sleep(Duration::from_secs(2)).await;
        }
        Ok(())
    })
    .await;
    let logs = up.all_logs();
    let lines = problems::in_log(&logs, &[]).join("\n");
    let verdict = verdict.with_context(|| lines.clone())?;
    pass(&verdict).with_context(|| lines.clone())?;
    ensure!(verdict.retries > 0, "the disk was never full");
    ensure!(!logs.contains("panicked at"), "{lines}");
    Ok(())
}

/// MariaDB cannot write, or gives up and is started again when there is room.
#[tokio::test(flavor = "multi_thread")]
async fn mariadb_has_no_room() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let disk = SmallDisk::mount(&folder.path().join("disk"), 400)?;
    let place = Some(disk.path().to_owned());
    let layout =
        Layout { backing: Backing::Own { etcd: 1, mariadb: place, replica: false }, ..Layout::default() };
    trial(layout, SAFE, async |cluster| {
        disk.fill(0)?;
        sleep(FULL_FOR).await;
        disk.free()?;
        // What the system does with a service that has ended.
        let db = &cluster.own_stores()?.db;
        if let Some(status) = db.server().ended()? {
            println!("MariaDB ended with {status}");
            db.kill().await?;
            db.start_again().await?;
        }
        sleep(Duration::from_secs(5)).await;
        Ok(())
    })
    .await
}
