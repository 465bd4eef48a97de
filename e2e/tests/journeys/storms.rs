//! `storm verify`, the judge, while connections come and go and while processes of the cluster end.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::{
    Shape, Stack, Tuning, UpProcess, program,
    up_process::{describe, finish},
};
use storm::scenario::{
    Api, Devices,
    verify::{Control, Phase, Verdict, VerifyOptions, run_with},
};
use tokio::process::Command;

crate::journeys! { nothing_is_lost_while_connections_come_and_go }

/// The judge's run against these addresses: modest, for a debug build on a busy machine.
pub(crate) fn options(centers: Vec<String>, dispatcher: &str, key: &str) -> VerifyOptions {
    VerifyOptions {
        devices: Devices { users: 60, dispatcher: dispatcher.to_owned(), ramp: 200.0, ..Devices::default() },
        api: Api { centers, key: Some(key.to_owned()), ..Api::default() },
        seconds: Duration::from_secs(10),
        rate: 150.0,
        broadcasts: 2.0,
        churn: 5.0,
        sample: 100,
        quiet: true,
        ..VerifyOptions::default()
    }
}

pub(crate) fn options_for(stack: &Stack) -> VerifyOptions {
    let addresses = stack.addresses();
    options(addresses.api.clone(), &addresses.route, &addresses.key)
}

/// Fails unless every promise was kept.
pub(crate) fn pass(verdict: &Verdict) -> anyhow::Result<()> {
    println!("{verdict}");
    ensure!(verdict.is_ok(), "{verdict}");
    Ok(())
}

/// Runs the judge and `faults` beside it, which begin when messages flow; pushing stops when they end.
pub(crate) async fn judge(
    options: VerifyOptions,
    faults: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Verdict> {
    let control = Control::default();
    let (stop, mut phase) = (control.stop.clone(), control.phase.subscribe());
    let run = tokio::spawn(run_with(options, control));
    let faults = async {
        phase.wait_for(|phase| *phase >= Phase::Pushing).await.context("the judge gave up")?;
        let outcome = faults.await;
        // A little more, so that what was broken is used again.
        tokio::time::sleep(Duration::from_secs(2)).await;
        stop.cancel();
        outcome
    };
    let (verdict, faulted) = tokio::join!(run, faults);
    let verdict = verdict??;
    faulted.with_context(|| verdict.to_string())?;
    Ok(verdict)
}

async fn nothing_is_lost_while_connections_come_and_go(stack: &mut Stack) -> anyhow::Result<()> {
    pass(&run_with(options_for(stack), Control::default()).await?)
}

/// One after the other ends in good order and comes back, under load, as in an upgrade: nobody's push even fails for
/// good, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_upgraded_under_load() -> anyhow::Result<()> {
    let mut stack = Stack::start(Shape::Cluster, Tuning::default()).await?;
    let options = VerifyOptions { seconds: Duration::from_secs(100), churn: 1.0, ..options_for(&stack) };
    let verdict = judge(options, async {
        let processes = stack.processes().context("a cluster has processes")?;
        for name in processes.names() {
            processes.terminate(&name).await?;
            processes.spawn(&name)?;
            processes.ready().await?;
        }
        Ok(())
    })
    .await?;
    pass(&verdict)
}

/// As a program: 0 when all is well, 2 when there can be no verdict; and it finds `up` where that listens by default.
#[tokio::test(flavor = "multi_thread")]
async fn the_judge_as_a_program() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let up = UpProcess::start(folder.path(), "").await?;
    let key = up.key()?;
    let verify = async |key: &str| {
        let mut command = Command::new(program("storm")?);
        command.args([
            "verify",
            "--users",
            "20",
            "--seconds",
            "3s",
            "--rate",
            "50",
            "--churn",
            "2",
            "--json",
            "--quiet",
        ]);
        command.args(["--center", &format!("http://{}", up.ports().api), "--key", key]);
        command.args(["--dispatcher", &format!("http://{}", up.ports().route), "--drain", "20s"]);
        finish(command).await
    };
    let good = verify(&key).await?;
    ensure!(good.status.success(), "{}", describe(&good));
    let verdict: serde_json::Value = serde_json::from_slice(&good.stdout)?;
    ensure!(
        verdict["accepted"].as_u64().is_some_and(|n| n > 50) && verdict["findings"]["lost"] == 0,
        "{verdict}"
    );
    let bad = verify("lwk_wrong").await?;
    ensure!(bad.status.code() == Some(2), "{}", describe(&bad));
    let defaults = VerifyOptions::default();
    ensure!(defaults.devices.dispatcher == "http://127.0.0.1:7700", "{}", defaults.devices.dispatcher);
    ensure!(defaults.api.centers == ["http://127.0.0.1:7800"], "{:?}", defaults.api.centers);
    Ok(())
}
