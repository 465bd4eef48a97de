//! Bindings: several on one connection, at run time, and of one user at two places.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::{RawDevice, Stack, TestDevice};
use serde_json::json;
use wire::frame::{BindCode, Push, Unbound, UnboundReason};

crate::journeys! {
    one_connection_serves_users_of_several_apps,
    a_second_bind_replaces_the_first,
    a_late_unbind_does_not_remove_a_newer_binding,
    a_device_comes_back_by_itself expects ["peer does not answer"],
}

async fn one_connection_serves_users_of_several_apps(stack: &mut Stack) -> anyhow::Result<()> {
    let demo = stack.api();
    let news = stack.create_app("news", json!({})).await?;
    let mut phone = TestDevice::start(stack, "phone")?;
    phone.knows("news", news.api.clone());
    let alice = phone.bind("demo", "alice", &[]).await?;
    let reader = phone.bind("news", "alice", &["sports"]).await?;
    // Same name, different app: two inboxes.
    demo.push("alice", "from demo").await?;
    let message = phone.expect_text("from demo").await?;
    ensure!(message.binding == alice, "{message:?}");
    news.api.push("alice", "from news").await?;
    let message = phone.expect_text("from news").await?;
    ensure!(message.binding == reader, "{message:?}");
    ensure!(demo.user("alice").await?["conn"] == news.api.user("alice").await?["conn"], "two connections");

    // One goes, the other stays.
    phone.unbind(reader).await?;
    news.api.online_becomes("alice", false).await?;
    ensure!(demo.user("alice").await?["online"] == true, "both are gone");
    news.api.push("alice", "while away").await?;
    phone.expect_nothing(Duration::from_millis(300)).await?;
    // It comes back, and others join.
    let reader = phone.bind("news", "alice", &[]).await?;
    let message = phone.expect_text("while away").await?;
    ensure!(message.binding == reader, "{message:?}");
    for n in 0..5 {
        let uid = format!("guest-{n}");
        let binding = phone.bind("demo", &uid, &[]).await?;
        demo.push(&uid, &uid).await?;
        ensure!(phone.expect_text(&uid).await?.binding == binding, "the wrong binding");
    }
    Ok(())
}

async fn a_second_bind_replaces_the_first(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let mut first = TestDevice::bound(stack, "alice").await?;
    let mut second = TestDevice::bound(stack, "alice").await?;
    ensure!(first.expect_unbound().await? == UnboundReason::Replaced, "no word of the replacement");
    api.push("alice", "for the second").await?;
    second.expect_text("for the second").await?;
    // The first one does not fight back, though it stays connected.
    first.expect_nothing(Duration::from_millis(500)).await?;
    second.expect_nothing(Duration::from_millis(10)).await?;
    ensure!(api.user("alice").await?["online"] == true, "offline");
    // Its app may ask for the user back.
    let mut third = TestDevice::start(stack, "third")?;
    third.bind("demo", "alice", &[]).await?;
    ensure!(second.expect_unbound().await? == UnboundReason::Replaced, "no word of the replacement");
    api.push("alice", "for the third").await?;
    third.expect_text("for the third").await?;
    first.expect_nothing(Duration::from_millis(10)).await?;

    // The same on one connection, and in all rooms there are.
    let token = api.token("demo", "bob").await?;
    let mut before: Option<(RawDevice, u32)> = None;
    for (n, room) in stack.rooms().await?.into_iter().cycle().take(4).enumerate() {
        let mut device = RawDevice::connect(room, &format!("raw-{n}")).await?;
        let binding = n as u32 + 10;
        device.bind(binding, "demo", "bob", &token).await?;
        if let Some((mut before, binding)) = before.take() {
            let unbound: Unbound = before.expect().await?;
            ensure!(unbound.binding == binding && unbound.reason() == UnboundReason::Replaced, "{unbound:?}");
        }
        before = Some((device, binding));
    }
    let (mut last, binding) = before.context("there is no room")?;
    let bind = wire::frame::Bind { binding, ..e2e::raw::bind("demo", "carol", &token) };
    let refused = last.try_bind(bind).await?.err().context("a binding number was given twice")?;
    ensure!(refused.code() == BindCode::Duplicate, "{refused:?}");
    last.bind(99, "demo", "bob", &token).await.map(|_| ())
}

async fn a_late_unbind_does_not_remove_a_newer_binding(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let token = api.token("demo", "alice").await?;
    let rooms = stack.rooms().await?;
    // Old and new in one room, and in two.
    for (old_room, new_room) in [(rooms[0], rooms[0]), (rooms[0], rooms[rooms.len() - 1])] {
        let mut old = RawDevice::connect(old_room, "old").await?;
        old.bind(1, "demo", "alice", &token).await?;
        let mut new = RawDevice::connect(new_room, "new").await?;
        new.bind(1, "demo", "alice", &token).await?;
        // The old one has not read that it was replaced, says goodbye to its binding, and goes.
        old.send(wire::frame::Unbind { binding: 1 }).await?;
        let unbound: Unbound = old.expect().await?;
        // Whichever came first to the old room, the goodbye or the word of the replacement.
        let either = [UnboundReason::Replaced, UnboundReason::Requested];
        ensure!(either.contains(&unbound.reason()), "{unbound:?}");
        drop(old);
        tokio::time::sleep(Duration::from_millis(700)).await;
        let user = api.user("alice").await?;
        ensure!(user["online"] == true, "the late unbind took the new binding away: {user}");
        let begun = std::time::Instant::now();
        api.push("alice", "at the new one").await?;
        let push: Push = new.expect().await?;
        ensure!(push.payload == "at the new one", "{push:?}");
        ensure!(begun.elapsed() < Duration::from_secs(5), "only the sweeper found it");
        new.ack(1, push.seq).await?;
        api.depth_becomes("alice", 0).await?;
    }
    Ok(())
}

/// Its connection is cut (the room restarts); nothing is lost and nothing comes twice.
async fn a_device_comes_back_by_itself(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let mut alice = TestDevice::bound(stack, "alice").await?;
    api.push("alice", "before").await?;
    alice.expect_text("before").await?;
    api.depth_becomes("alice", 0).await?;
    stack.restart().await?;
    let take = |event: &client::Event| matches!(event, client::Event::Bound { .. }).then_some(());
    alice.expect("bound again", take).await?;
    api.online_becomes("alice", true).await?;
    api.push("alice", "after").await?;
    alice.expect_text("after").await?;
    alice.expect_nothing(Duration::from_millis(300)).await
}
