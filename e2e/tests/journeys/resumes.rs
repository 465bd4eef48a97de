//! Connections that break: the device goes on where it was, and nobody hears of it unless it stays away.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use client::Event;
use e2e::{App, Backend, Proxy, RawDevice, Stack, TestDevice, Traffic, eventually};
use serde_json::json;
use wire::{
    codec::PREAMBLE,
    frame::{Connect, Connected, Leave, Push, ResumeBinding},
};

crate::journeys! {
    a_cut_is_mended_and_nobody_hears_of_it with "[room]\nresume_grace = \"15s\"\n",
    who_stays_away_is_offline_after_the_grace with "[room]\nresume_grace = \"5s\"\n",
    a_token_is_good_once_for_its_device,
    it_can_be_switched_off with "[room]\nresume = false\n",
}

/// What a resume must not cost: sessions entered and removed at the registers, binds and reads of inboxes.
async fn asked(stack: &Stack) -> anyhow::Result<[u64; 4]> {
    // The rooms' threads tell theirs once a second.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let mut sums = [0; 4];
    let names = ["register_binds", "register_unbinds", "room_bound", "room_loads"];
    for (sum, name) in sums.iter_mut().zip(names) {
        *sum = stack.metric(&format!("longwire_{name}_total"), "").await?;
    }
    Ok(sums)
}

async fn resumed(stack: &Stack, outcome: &str) -> anyhow::Result<u64> {
    stack.metric("longwire_room_resumes_total", &format!("outcome=\"{outcome}\"")).await
}

async fn counted(stack: &Stack, outcome: &str, count: u64) -> anyhow::Result<()> {
    eventually(&format!("{count} counted as {outcome}"), Duration::from_secs(10), async || {
        let now = resumed(stack, outcome).await?;
        ensure!(now == count, "{now}");
        Ok(())
    })
    .await
}

async fn app_with_state(stack: &Stack) -> anyhow::Result<(Backend, App)> {
    let backend = Backend::start().await?;
    let app = stack.create_app("chat", json!({ "state_url": backend.url() })).await?;
    Ok((backend, app))
}

async fn back(device: &mut TestDevice) -> anyhow::Result<bool> {
    let take = |event: &Event| match event {
        Event::Connected { resumed, .. } => Some(*resumed),
        _ => None,
    };
    device.expect("connected again", take).await
}

async fn a_cut_is_mended_and_nobody_hears_of_it(stack: &mut Stack) -> anyhow::Result<()> {
    let (backend, app) = app_with_state(stack).await?;
    let proxy = Proxy::start("127.0.0.1:0".parse()?, stack.room_for("alice").await?).await?;
    let mut alice = TestDevice::at(stack, "phone", proxy.address())?;
    alice.knows("chat", app.api.clone());
    alice.bind("chat", "alice", &[]).await?;
    ensure!(backend.next().await?.body["type"] == "online", "alice came");
    app.api.push("alice", "before").await?;
    alice.expect_text("before").await?;
    app.api.depth_becomes("alice", 0).await?;
    ensure!(!back(&mut alice).await?, "the first connection goes on from none");
    let before = asked(stack).await?;

    // While she is away she is online, and what is stored for her waits.
    proxy.set(Traffic::Cut);
    for n in 1..=3 {
        app.api.push("alice", &format!("meanwhile {n}")).await?;
    }
    app.api.broadcast("to all", "").await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    ensure!(app.api.user("alice").await?["online"] == true, "{}", app.api.user("alice").await?);
    proxy.set(Traffic::Pass);
    ensure!(back(&mut alice).await?, "she had to begin afresh");
    for n in 1..=3 {
        alice.expect_text(&format!("meanwhile {n}")).await?;
    }
    alice.expect_broadcast("to all").await?;
    app.api.depth_becomes("alice", 0).await?;
    let after = asked(stack).await?;
    ensure!(after[..3] == before[..3], "binds and unbinds: {after:?} after {before:?}");
    ensure!(after[3] == before[3] + 1, "her inbox was read once: {after:?} after {before:?}");

    // Where nothing was missed nobody is asked for anything.
    for _ in 0..3 {
        proxy.set(Traffic::Cut);
        tokio::time::sleep(Duration::from_millis(100)).await;
        proxy.set(Traffic::Pass);
        ensure!(back(&mut alice).await?, "she had to begin afresh");
    }
    ensure!(asked(stack).await? == after, "{:?} after {after:?}", asked(stack).await?);
    counted(stack, "resumed", 4).await?;
    app.api.push("alice", "after").await?;
    alice.expect_text("after").await?;
    alice.expect_nothing(Duration::from_millis(300)).await?;
    ensure!(backend.silent_for(Duration::from_secs(1)).await, "the app heard of it");

    // Who says good-bye is gone at once.
    let begun = Instant::now();
    alice.close().await;
    ensure!(backend.next().await?.body["type"] == "offline", "alice went");
    ensure!(begun.elapsed() < Duration::from_secs(10), "after {:?}", begun.elapsed());
    Ok(())
}

async fn who_stays_away_is_offline_after_the_grace(stack: &mut Stack) -> anyhow::Result<()> {
    let (backend, app) = app_with_state(stack).await?;
    let room = stack.room_for("bob").await?;
    let token = app.api.token("chat", "bob").await?;
    let mut bob = RawDevice::connect(room, "raw").await?;
    bob.bind(1, "chat", "bob", &token).await?;
    ensure!(backend.next().await?.body["type"] == "online", "bob came");
    drop(bob);
    ensure!(backend.silent_for(Duration::from_secs(2)).await, "told too early");
    ensure!(app.api.user("bob").await?["online"] == true, "{}", app.api.user("bob").await?);
    let offline = backend.next().await?.body;
    ensure!(offline["type"] == "offline" && offline["uid"] == "bob", "{offline}");
    app.api.online_becomes("bob", false).await?;

    // He comes again, without a token, while his old connection is kept: that one is replaced, and nobody was offline.
    let mut bob = RawDevice::connect(room, "raw").await?;
    bob.bind(1, "chat", "bob", &token).await?;
    ensure!(backend.next().await?.body["type"] == "online", "bob came");
    drop(bob);
    let mut bob = RawDevice::connect(room, "raw").await?;
    bob.bind(1, "chat", "bob", &token).await?;
    ensure!(backend.next().await?.body["type"] == "online", "bob came");
    ensure!(backend.silent_for(Duration::from_secs(7)).await, "an event of the one that was replaced");
    app.api.push("bob", "hello").await?;
    let push: Push = bob.expect().await?;
    ensure!(push.payload == "hello", "{push:?}");

    // A device that leaves, whatever SDK it has.
    let begun = Instant::now();
    bob.send(Leave {}).await?;
    let offline = backend.next().await?.body;
    ensure!(offline["type"] == "offline" && offline["uid"] == "bob", "{offline}");
    ensure!(begun.elapsed() < Duration::from_millis(4_500), "after {:?}", begun.elapsed());
    Ok(())
}

/// Connects with a token.
async fn greet(room: SocketAddr, name: &str, token: &Bytes) -> anyhow::Result<(RawDevice, Connected)> {
    let mut device = RawDevice::open(room).await?;
    device.write(&PREAMBLE).await?;
    let has = ResumeBinding { binding: 1, ..ResumeBinding::default() };
    let connect = Connect {
        device: name.to_owned(),
        version: wire::limits::VERSION,
        resume_token: token.clone(),
        resume: vec![has],
        ..Connect::default()
    };
    device.send(connect).await?;
    let connected = device.expect().await?;
    Ok((device, connected))
}

async fn a_token_is_good_once_for_its_device(stack: &mut Stack) -> anyhow::Result<()> {
    let room = stack.room_for("carol").await?;
    let api = stack.api();
    let (mut carol, connected) = greet(room, "phone", &Bytes::new()).await?;
    ensure!(!connected.resumed && !connected.resume_token.is_empty(), "{connected:?}");
    carol.bind(1, "demo", "carol", &api.token("demo", "carol").await?).await?;
    let conn = connected.conn;
    let mut token = connected.resume_token;
    // The kernel leads her to any of the room's threads, and each finds her seat.
    for turn in 0..20 {
        if turn % 2 == 0 {
            drop(carol);
        }
        // Else the room has not noticed that the old connection is not used any more.
        let (device, connected) = greet(room, "phone", &token).await?;
        ensure!(connected.resumed && connected.conn == conn, "{turn}: {connected:?}");
        carol = device;
        let spent = std::mem::replace(&mut token, connected.resume_token);
        let (_, connected) = greet(room, "phone", &spent).await?;
        ensure!(!connected.resumed && connected.conn != conn, "{turn}: {connected:?}");
    }
    counted(stack, "spent", 20).await?;
    drop(carol);
    let (_, other) = greet(room, "tablet", &token).await?;
    ensure!(!other.resumed, "another device: {other:?}");
    let guess = Bytes::from(token.iter().map(|byte| byte ^ 1).collect::<Vec<_>>());
    let (_, guessed) = greet(room, "phone", &guess).await?;
    ensure!(!guessed.resumed, "{guessed:?}");
    counted(stack, "forged", 2).await?;
    let (_carol, connected) = greet(room, "phone", &token).await?;
    ensure!(connected.resumed, "nobody has harmed it: {connected:?}");
    let all = resumed(stack, "resumed").await? + resumed(stack, "taken_over").await?;
    ensure!(all >= 20, "{all} went on");
    Ok(())
}

async fn it_can_be_switched_off(stack: &mut Stack) -> anyhow::Result<()> {
    let (mut dave, connected) = greet(stack.room_for("dave").await?, "phone", &Bytes::new()).await?;
    ensure!(connected.resume_token.is_empty(), "{connected:?}");
    dave.bind(1, "demo", "dave", &stack.api().token("demo", "dave").await?).await?;
    drop(dave);
    let begun = Instant::now();
    stack.api().online_becomes("dave", false).await?;
    ensure!(begun.elapsed() < Duration::from_secs(10), "after {:?}", begun.elapsed());
    stack.api().user("dave").await.context("no answer").map(|_| ())
}
