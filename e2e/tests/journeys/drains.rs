//! Ending in good order, as on SIGTERM.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::{
    RawDevice, Shape, Stack, TestDevice,
    judge::{judge, options_for, pass},
};
use storm::scenario::verify::VerifyOptions;
use wire::frame::{Push, Reconnect, ServerBody};

crate::journeys! { a_drain_sends_devices_away_and_loses_nothing expects ["peer does not answer"] }

async fn a_drain_sends_devices_away_and_loses_nothing(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let mut alice = stack.raw_bound("alice").await?;
    // Delivered and not acked; waiting for who is away; and on a device that moves by itself.
    let unacked = api.push("alice", "unacked").await?;
    let push: Push = alice.expect().await?;
    ensure!(push.payload == "unacked", "{push:?}");
    api.push("bob", "for bob").await?;
    let mut carol = TestDevice::bound(stack, "carol").await?;
    let mut idle = vec![];
    for n in 0..20 {
        idle.push(RawDevice::connect(stack.room_for("idle").await?, &format!("idle-{n}")).await?);
    }

    let begun = std::time::Instant::now();
    let watch = async {
        let mut told: Option<Reconnect> = None;
        while let Some(frame) = alice.next_within(Duration::from_secs(40)).await? {
            if let ServerBody::Reconnect(reconnect) = frame {
                told = Some(reconnect);
            }
        }
        told.context("the room hung up without a word")
    };
    let (drained, told) = tokio::join!(stack.drain(), watch);
    drained?;
    let took = begun.elapsed();
    println!("drained in {took:?}");
    ensure!(took < Duration::from_secs(45), "the drain took {took:?}");
    let told = told?;
    ensure!(told.after_ms <= 60_000, "{told:?}");
    for device in &mut idle {
        // Told, too, or at least told goodbye.
        while device.next().await?.is_some() {}
    }

    stack.start_again().await?;
    let mut alice = stack.raw_bound("alice").await?;
    let push: Push = alice.expect().await?;
    ensure!(push.payload == "unacked" && push.id.to_string() == unacked, "{push:?}");
    TestDevice::bound(stack, "bob").await?.expect_text("for bob").await?;
    // Came back by herself.
    api.online_becomes("carol", true).await?;
    api.push("carol", "welcome back").await?;
    carol.expect_text("welcome back").await?;
    Ok(())
}

/// Two rooms go and come back one after the other, the first by a signal and the second by a call, while users are pushed to
/// and broadcast to. The judge looks at what every device's app was given: nothing lost, nothing twice, all in order.
#[tokio::test(flavor = "multi_thread")]
async fn rooms_drain_one_after_the_other_under_load() -> anyhow::Result<()> {
    crate::travel(Shape::Cluster, "", &["peer does not answer"], drain_one_after_the_other).await
}

async fn drain_one_after_the_other(stack: &mut Stack) -> anyhow::Result<()> {
    let options = VerifyOptions {
        // The drains' end is the end.
        seconds: Duration::from_secs(3_600),
        churn: 1.0,
        drain: Duration::from_secs(60),
        // All of them.
        sample: 1_000_000,
        ..options_for(stack)
    };
    let processes = stack.processes().context("a cluster has processes")?;
    let verdict = judge(options, async {
        processes.terminate("room-1").await?;
        processes.spawn("room-1")?;
        processes.ready().await?;
        // Devices come back to it, so that it is not only the second that is full.
        tokio::time::sleep(Duration::from_secs(3)).await;
        processes.drain_by_call("room-2").await?;
        processes.spawn("room-2")?;
        processes.ready().await
    });
    pass(&verdict.await?)
}
