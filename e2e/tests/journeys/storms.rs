//! `storm verify`, the judge, while connections come and go and while processes of the cluster end.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::{
    Backing, Layout, Shape, Stack, Tuning, UpProcess,
    judge::{judge, options_for, pass},
    program,
    up_process::{describe, finish},
};
use storm::scenario::verify::{Control, VerifyOptions, run_with};
use tokio::process::Command;

crate::journeys! { nothing_is_lost_while_connections_come_and_go }

async fn nothing_is_lost_while_connections_come_and_go(stack: &mut Stack) -> anyhow::Result<()> {
    pass(&run_with(options_for(stack), Control::default()).await?)
}

/// The other way to run processes: a fixed list of peers, in plain text, on SQLite.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_any_server_keeps_its_promises() -> anyhow::Result<()> {
    let layout = Layout { backing: Backing::Embedded, ..Layout::default() };
    let stack = Stack::start(Shape::Cluster, Tuning { layout, ..Tuning::default() }).await?;
    let options = VerifyOptions { seconds: Duration::from_secs(100), churn: 1.0, ..options_for(&stack) };
    let verdict = judge(options, async {
        let processes = stack.processes().context("a cluster has processes")?;
        for name in ["saver-1", "room-2", "register-1"] {
            processes.kill(name).await?;
            processes.spawn(name)?;
            processes.ready().await?;
        }
        Ok(())
    })
    .await?;
    pass(&verdict)
}

/// One after the other ends in good order and comes back, under load, as in an upgrade: nobody's push even fails for
/// good, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_upgraded_under_load() -> anyhow::Result<()> {
    let stack = Stack::start(Shape::Cluster, Tuning::default()).await?;
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

/// A scenario's file against `up`: phases that follow and overlap each other, a verdict, and a page to look at.
#[tokio::test(flavor = "multi_thread")]
async fn a_scenario_as_a_program() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let up = UpProcess::start(folder.path(), "").await?;
    let scenario = folder.path().join("small.toml");
    let text = format!(
        "[fleet]\nusers = 20\ndispatcher = 'http://{}'\nprocesses = 2\nprograms = ['longwire']\n\
         [api]\ncenters = ['http://{}']\nkey = '{}'\n\
         [[phase]]\nkind = 'ramp'\nrate = 100\n\
         [[phase]]\nname = 'load'\nkind = 'unicast'\nrate = 50\nduration = '3s'\n\
         [[phase]]\nkind = 'churn'\nwith = 'load'\nshare = 0.05\nuntil = 'load'\n\
         [[phase]]\nname = 'news'\nkind = 'broadcast'\nwith = 'load'\nevery = '500ms'\ncount = 3\n\
         [expect]\nlost = 0\ndoubled = 0\ndisordered = 0\nfailed = 0\ngone = 0\n",
        up.ports().route,
        up.ports().api,
        up.key()?
    );
    std::fs::write(&scenario, text)?;
    let page = folder.path().join("report.html");
    let mut command = Command::new(program("storm")?);
    command.arg("run").arg(&scenario).arg("--html").arg(&page).args(["--json", "--quiet"]);
    let output = finish(command).await?;
    ensure!(output.status.success(), "{}", describe(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let whole = &report["whole"];
    ensure!(whole["counts"]["messages"].as_u64().is_some_and(|n| n > 100), "{whole}");
    ensure!(whole["counts"]["broadcasts"] == 60 && whole["lost"] == 0, "{whole}");
    ensure!(report["servers"].as_array().is_some_and(|servers| !servers.is_empty()), "{report}");
    let page = std::fs::read_to_string(&page)?;
    ensure!(page.matches("<svg").count() >= 6 && page.ends_with("</html>\n"), "no plots");
    Ok(())
}
