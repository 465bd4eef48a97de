//! The journeys of messages, devices and operators. Each is written once and run against all six services in one
//! process and against a cluster of real processes; those that are about the command line or about a killed process
//! run against processes only.

#![allow(clippy::unwrap_used, reason = "the lint knows only functions marked as tests")]

mod admin;
mod admission;
mod apps;
mod bindings;
mod broadcasts;
mod commands;
mod drains;
mod exits;
mod grpc;
mod http;
mod inboxes;
mod jobs;
mod kills;
mod lanes;
mod multicasts;
mod pushes;
mod recalls;
mod resumes;
mod schedules;
mod storms;
mod tcp;
mod tokens;
mod transports;
mod users;
mod webhooks;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use client::Snapshot;
use e2e::{Shape, Stack, TestDevice, Tuning, eventually, problems};

/// No journey takes longer, unless something hangs.
const JOURNEY_WITHIN: Duration = Duration::from_secs(120);

/// Runs a journey and looks at what it left behind in the logs.
async fn travel(
    shape: Shape,
    tuning: &str,
    expected: &[&str],
    journey: impl AsyncFnOnce(&mut Stack) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut stack = Stack::start(shape, Tuning::toml(tuning)).await?;
    let outcome = tokio::time::timeout(JOURNEY_WITHIN, journey(&mut stack)).await;
    let outcome =
        outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("the journey takes over {JOURNEY_WITHIN:?}")));
    let log = stack.log();
    let problems = problems::in_log(&log, expected);
    outcome.with_context(|| format!("the services' warnings and errors:\n{}", problems.join("\n")))?;
    ensure!(problems.is_empty(), "all went well but for these lines in the logs:\n{}", problems.join("\n"));
    Ok(())
}

/// A device leaves, and the archive counts the broadcasts that it has acked, so many. Who comes back before that and keeps
/// nothing itself is offered again what it has had.
async fn leave(stack: &Stack, device: TestDevice, acked: u64) -> anyhow::Result<Snapshot> {
    let counted = async || stack.metric("longwire_saver_broadcast_credits_total", "").await;
    let before = counted().await?;
    let kept = device.close().await;
    if stack.addresses().admin.is_empty() {
        // A cluster that runs already does not show its metrics.
        tokio::time::sleep(Duration::from_secs(1)).await;
        return Ok(kept);
    }
    eventually("its broadcasts are counted", Duration::from_secs(20), async || {
        let now = counted().await?;
        ensure!(now >= before + acked, "{now} after {before}, not {acked} more");
        Ok(())
    })
    .await?;
    Ok(kept)
}

/// Tests of a journey in both shapes: `journeys! { name, other_name with "[saver]…", third expects ["a warning"] }`.
macro_rules! journeys {
    ($($name:ident $(with $tuning:literal)? $(expects [$($expected:literal),*])?),+ $(,)?) => {
        mod all_in_one {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() -> anyhow::Result<()> {
                let (tuning, expected) = (concat!("" $(, $tuning)?), &[$($($expected),*)?]);
                crate::travel(e2e::Shape::AllInOne, tuning, expected, super::$name).await
            })+
        }
        mod cluster {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() -> anyhow::Result<()> {
                let (tuning, expected) = (concat!("" $(, $tuning)?), &[$($($expected),*)?]);
                crate::travel(e2e::Shape::Cluster, tuning, expected, super::$name).await
            })+
        }
    };
}
pub(crate) use journeys;
