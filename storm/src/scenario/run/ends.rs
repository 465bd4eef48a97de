//! Phases that end something: a room in good order, or whatever a command does.

use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use proto::internal::{DrainNodeRequest, StatusRequest, node_client::NodeClient};
use tokio::time::{Instant, sleep, timeout};

use super::work::{Ground, Outcome, Part};
use crate::{
    load::rooms::trust::Connector,
    procfs,
    scenario::script::{Drain, Execute},
};

/// Between two looks at whether the room is gone and its devices are back.
const LOOK: Duration = Duration::from_millis(100);

/// A node answers a question within this time, or does not live.
const ANSWER: Duration = Duration::from_secs(3);

/// How a room is told, and seen to be gone.
enum Room {
    Process(u32),
    Node(NodeClient<tonic::transport::Channel>),
}

pub(super) async fn drain(ground: Ground, plan: Drain, part: Part) -> anyhow::Result<Outcome> {
    let mut room = Room::of(&ground, &plan).await?;
    let before = ground.counts.counts().bound;
    let begun = Instant::now();
    room.drain().await?;
    let mut gone_after = None;
    while begun.elapsed() < plan.within && !part.cancel.is_cancelled() {
        if gone_after.is_none() && room.is_gone().await {
            gone_after = Some(begun.elapsed());
        }
        let bound = ground.counts.counts().bound;
        let is_gone = if gone_after.is_some() { "gone" } else { "draining" };
        part.say(format!("{is_gone}, {bound} of {before} bound"));
        if let (Some(after), true) = (gone_after, bound >= before) {
            let note = format!(
                "the room was gone after {:.1} s, all devices bound again after {:.1} s",
                after.as_secs_f64(),
                begun.elapsed().as_secs_f64()
            );
            return Ok(Outcome { note, ..Outcome::default() });
        }
        sleep(LOOK).await;
    }
    let bound = ground.counts.counts().bound;
    let failed = match gone_after {
        None => format!("the room was not gone within {}", humantime::format_duration(plan.within)),
        Some(_) => format!("{bound} of {before} devices were bound again within the time"),
    };
    Ok(Outcome { failed: Some(failed), ..Outcome::default() })
}

impl Room {
    async fn of(ground: &Ground, plan: &Drain) -> anyhow::Result<Self> {
        if let Some(rpc) = plan.rpc {
            let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{rpc}"))?;
            let endpoint = endpoint.connect_timeout(ANSWER);
            let channel = match (&plan.rpc_ca, &plan.rpc_cert, &plan.rpc_key) {
                (Some(ca), Some(cert), Some(key)) => {
                    let trust = Connector::new(ca, cert, key)?;
                    endpoint.connect_with_connector_lazy(trust.to(&rpc.to_string()))
                }
                _ => endpoint.connect_lazy(),
            };
            return Ok(Self::Node(NodeClient::new(channel)));
        }
        if let Some(pid) = plan.pid {
            return Ok(Self::Process(pid));
        }
        let program = plan.program.clone().or_else(|| ground.programs.first().cloned()).unwrap_or_default();
        let all = procfs::of_programs(std::slice::from_ref(&program));
        let first = all.first().with_context(|| format!("no process of the program {program:?} runs"))?;
        Ok(Self::Process(*first))
    }

    async fn drain(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Process(pid) => terminate(*pid),
            Self::Node(node) => {
                let asked = timeout(ANSWER, node.drain(DrainNodeRequest {})).await;
                let asked = asked.map_err(|_| anyhow!("the node does not answer"))?;
                asked.map(drop).map_err(|status| anyhow!("the node does not drain: {}", status.message()))
            }
        }
    }

    async fn is_gone(&mut self) -> bool {
        match self {
            Self::Process(pid) => !procfs::lives(*pid),
            Self::Node(node) => {
                !matches!(timeout(ANSWER, node.status(StatusRequest::default())).await, Ok(Ok(_)))
            }
        }
    }
}

fn terminate(pid: u32) -> anyhow::Result<()> {
    let raw = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let pid = raw.with_context(|| format!("{pid} is no process"))?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)
        .with_context(|| format!("sending SIGTERM to {}", pid.as_raw_nonzero()))
}

pub(super) async fn execute(plan: Execute, part: Part) -> anyhow::Result<Outcome> {
    let (program, arguments) = plan.command.split_first().context("there is no command")?;
    let begun = Instant::now();
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let running = async {
        let output = command.output().await.with_context(|| format!("running {program}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} ended with {}: {}", output.status, last_line(&said));
        anyhow::Ok(())
    };
    part.say(plan.command.join(" "));
    let failed = tokio::select! {
        ended = timeout(plan.within, running) => match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(_) => Some(format!("{program} took longer than {}", humantime::format_duration(plan.within))),
        },
        () = part.cancel.cancelled() => Some(format!("{program} was stopped")),
    };
    let note = format!("{} took {:.1} s", plan.command.join(" "), begun.elapsed().as_secs_f64());
    Ok(Outcome { note, failed, ..Outcome::default() })
}

fn last_line(text: &str) -> &str {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default()
}
