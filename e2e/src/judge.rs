//! `storm verify`, the judge, beside whatever a test does meanwhile.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use storm::scenario::{
    Api, Devices,
    verify::{Control, Phase, Verdict, VerifyOptions, run_with},
};

use crate::Stack;

/// The judge's run against these addresses: modest, for a debug build on a busy machine.
pub fn options(centers: Vec<String>, dispatcher: &str, key: &str) -> VerifyOptions {
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

/// The judge's run against a stack.
pub fn options_for(stack: &Stack) -> VerifyOptions {
    let addresses = stack.addresses();
    options(addresses.api.clone(), &addresses.route, &addresses.key)
}

/// Fails unless every promise was kept.
///
/// # Errors
/// With the verdict, when one was not.
pub fn pass(verdict: &Verdict) -> anyhow::Result<()> {
    println!("{verdict}");
    ensure!(verdict.is_ok(), "{verdict}");
    Ok(())
}

/// Runs the judge and `faults` beside it, which begin when messages flow; pushing stops when they end.
///
/// # Errors
/// When there is no verdict, or `faults` fails.
pub async fn judge(
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
