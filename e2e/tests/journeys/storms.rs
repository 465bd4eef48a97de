//! `storm verify`, the judge, while connections come and go and while processes of the cluster end.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::{Shape, Stack, Tuning};
use storm::scenario::{
    Api, Devices,
    verify::{Control, Phase, Verdict, VerifyOptions, run_with},
};

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
