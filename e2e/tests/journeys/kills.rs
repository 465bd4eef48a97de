//! kill -9 at any moment: nothing that was accepted is lost, doubled or out of order.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use e2e::{
    RawDevice, Shape, Stack, Tuning, UpProcess,
    judge::{judge, options, options_for, pass},
    problems,
};
use rand::{RngExt as _, seq::SliceRandom as _};
use reqwest::Method;
use serde_json::json;
use storm::scenario::verify::VerifyOptions;
use wire::frame::Push;

/// Kill points of the first test.
const KILLS: u32 = 16;

/// `longwire up` is killed again and again under load; callers repeat what was not answered, devices reconnect.
#[tokio::test(flavor = "multi_thread")]
async fn up_loses_nothing_at_any_kill_point() -> anyhow::Result<()> {
    let (_, mut dice) = e2e::faults::dice();
    let folder = tempfile::tempdir()?;
    let mut up = UpProcess::start(folder.path(), "").await?;
    let ports = up.ports();
    let options = VerifyOptions {
        seconds: Duration::from_secs(300),
        churn: 1.0,
        rate: 300.0,
        drain: Duration::from_secs(90),
        ..options(vec![format!("http://{}", ports.api)], &format!("http://{}", ports.route), &up.key()?)
    };
    let verdict = judge(options, async {
        for n in 0..KILLS {
            // From the middle of the start (nothing but the process is there yet) to well under way.
            let life = Duration::from_millis(dice.random_range(50..2_500));
            tokio::time::sleep(life).await;
            println!("kill {n} after {life:?}");
            up.kill().await?;
            if dice.random_bool(0.7) { up.start_again().await? } else { up.spawn()? }
        }
        // The last life has to come up, whatever the others left.
        tokio::time::sleep(Duration::from_millis(200)).await;
        up.kill().await?;
        up.start_again().await
    })
    .await;
    let logs = up.all_logs();
    let lines = problems::in_log(&logs, &[]);
    let verdict = verdict.with_context(|| lines.join("\n"))?;
    pass(&verdict).with_context(|| lines.join("\n"))?;
    ensure!(!logs.contains("panicked at") && !logs.contains(" ERROR "), "{}", lines.join("\n"));
    ensure!(up.end("TERM").await?.success(), "it does not end well after all that");
    Ok(())
}

/// The narrow case: killed right after the answer, before the message has gone anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_there_after_the_kill() -> anyhow::Result<()> {
    let (_, mut dice) = e2e::faults::dice();
    let folder = tempfile::tempdir()?;
    let mut up = UpProcess::start(folder.path(), "").await?;
    for round in 0..6 {
        let api = up.api()?;
        let uid = format!("user-{round}");
        let (answered, mut answers) = tokio::sync::mpsc::channel(1_000);
        let caller = tokio::spawn({
            let (api, uid) = (api.clone(), uid.clone());
            async move {
                for n in 0..1_000 {
                    let body = json!({ "uid": uid, "payload": format!("number {n}") });
                    let call =
                        api.request(Method::POST, "/v1/push").header("Idempotency-Key", format!("{uid}-{n}"));
                    match api.send(call.json(&body)).await {
                        Ok((status, body)) if status.is_success() => {
                            let id = body["id"].as_str().unwrap_or_default().to_owned();
                            let _ = answered.send((n, id)).await;
                        }
                        _ => return n,
                    }
                }
                1_000
            }
        });
        tokio::time::sleep(Duration::from_millis(dice.random_range(20..400))).await;
        up.kill().await?;
        let unanswered = caller.await?;
        up.start_again().await?;

        // The caller repeats the one that was not answered: it is stored once, whether it had been or not.
        let body = json!({ "uid": uid, "payload": format!("number {unanswered}") });
        let call =
            api.request(Method::POST, "/v1/push").header("Idempotency-Key", format!("{uid}-{unanswered}"));
        let last = api.told(api.send(call.json(&body)).await?)?;
        let mut ids = vec![];
        while let Ok((_, id)) = answers.try_recv() {
            ids.push(id);
        }
        ids.push(last["id"].as_str().unwrap_or_default().to_owned());
        ensure!(ids.len() == unanswered + 1, "{} answers, {unanswered} calls", ids.len());
        let depth = api.depth(&uid).await?;
        ensure!(depth == ids.len() as u64, "round {round}: {depth} are stored of {}", ids.len());
        let token = api.token("demo", &uid).await?;
        let mut device = RawDevice::connect(up.ports().room, "raw").await?;
        device.bind(1, "demo", &uid, &token).await?;
        for (n, id) in ids.iter().enumerate() {
            let push: Push = device.expect().await?;
            let place = n as u64 + 1;
            ensure!(
                push.seq == place && push.skip == 0 && push.id.to_string() == *id,
                "round {round}: {push:?}"
            );
        }
        device.ack(1, ids.len() as u64).await?;
        api.depth_becomes(&uid, 0).await?;
        println!("round {round}: {} messages", ids.len());
    }
    Ok(())
}

/// Each process of a cluster is killed under load and comes back after a while, in random order.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_loses_nothing_whatever_process_is_killed() -> anyhow::Result<()> {
    let (seed, mut dice) = e2e::faults::dice();
    let stack = Stack::start(Shape::Cluster, Tuning::default()).await?;
    let options = VerifyOptions {
        seconds: Duration::from_secs(300),
        churn: 1.0,
        drain: Duration::from_secs(90),
        ..options_for(&stack)
    };
    let begun = Instant::now();
    let verdict = judge(options, async {
        let processes = stack.processes().context("a cluster has processes")?;
        let mut names = processes.names();
        names.shuffle(&mut dice);
        for name in names {
            println!("{:?}: kill -9 {name}", begun.elapsed());
            processes.kill(&name).await?;
            tokio::time::sleep(Duration::from_millis(dice.random_range(0..2_000))).await;
            processes.spawn(&name)?;
            processes.ready().await?;
            tokio::time::sleep(Duration::from_millis(dice.random_range(0..1_000))).await;
        }
        Ok(())
    })
    .await;
    let log = stack.log();
    let lines = problems::in_log(&log, &[]);
    let tell = || format!("E2E_SEED={seed}\n{}", lines[..lines.len().min(60)].join("\n"));
    let verdict = verdict.with_context(tell)?;
    pass(&verdict).with_context(tell)?;
    ensure!(!log.contains("panicked at"), "{}", tell());
    Ok(())
}
