//! What overtakes, and what takes the place of what is not read.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use e2e::{RawDevice, Stack, TestDevice};
use serde_json::{Value, json};
use wire::frame::{Push, ServerBody};

crate::journeys! {
    a_newer_message_takes_the_place_of_older_ones_while_the_user_is_away,
    a_newer_message_takes_the_place_of_older_ones_while_the_user_does_not_read with "[room]\nqueued_bytes = 32768\n",
    an_urgent_message_overtakes_whatever_waits with "[room]\nqueued_bytes = 262144\n",
}

async fn push(stack: &Stack, body: Value) -> anyhow::Result<String> {
    let api = stack.api();
    let answer = api.told(api.post("/v1/push", &body).await?)?;
    answer["id"].as_str().map(str::to_owned).with_context(|| format!("no id: {answer}"))
}

async fn score(stack: &Stack, uid: &str, text: &str) -> anyhow::Result<String> {
    push(stack, json!({ "uid": uid, "payload": text, "collapse_key": "score" })).await
}

async fn a_newer_message_takes_the_place_of_older_ones_while_the_user_is_away(
    stack: &mut Stack,
) -> anyhow::Result<()> {
    let api = stack.api();
    let first = score(stack, "alice", "1:0").await?;
    api.push("alice", "a letter").await?;
    let second = score(stack, "alice", "1:1").await?;
    push(stack, json!({ "uid": "alice", "payload": "sunny", "collapse_key": "weather" })).await?;
    let third = score(stack, "alice", "2:1").await?;
    let other = score(stack, "bob", "0:0").await?;
    api.depth_becomes("alice", 3).await?;
    for (id, state) in [(&first, "dropped/replaced"), (&second, "dropped/replaced"), (&third, "stored")] {
        api.ledger_shows(id, state, 1).await?;
    }
    api.ledger_shows(&other, "stored", 1).await?;

    let mut alice = TestDevice::bound(stack, "alice").await?;
    ensure!(alice.expect_text("a letter").await?.collapse_key.is_none(), "a key that nobody gave");
    ensure!(alice.expect_text("sunny").await?.collapse_key.as_deref() == Some("weather"), "another key");
    let newest = alice.expect_text("2:1").await?;
    ensure!(newest.collapse_key.as_deref() == Some("score") && newest.id.to_string() == third, "{newest:?}");
    alice.expect_nothing(Duration::from_millis(300)).await?;
    // What was left out is told, so it is no hole.
    ensure!(!alice.saw_disconnect(), "the SDK has taken it for a hole");
    api.depth_becomes("alice", 0).await?;

    // What is read is not replaced, and the next one just comes.
    score(stack, "alice", "2:2").await?;
    alice.expect_text("2:2").await?;
    api.ledger_shows(&third, "acked", 1).await?;

    for (wrong, why) in [
        (json!({ "uid": "alice", "payload": "x", "collapse_key": "k".repeat(65) }), "too long"),
        (json!({ "uid": "alice", "payload": "x", "collapse_key": "k", "transient": true }), "transient"),
    ] {
        let (status, answer) = api.post("/v1/push", &wrong).await?;
        ensure!(status.as_u16() == 400, "{why}: {status} {answer}");
    }
    Ok(())
}

/// A device that reads so little that its connection is full, with letters of 60 kB before it.
async fn clogged(stack: &Stack, uid: &str, letters: usize) -> anyhow::Result<RawDevice> {
    let api = stack.api();
    let mut device = RawDevice::connect_narrow(stack.room_for(uid).await?, "narrow", 4_096).await?;
    device.bind(1, "demo", uid, &api.token("demo", uid).await?).await?;
    let letter = "x".repeat(60_000);
    for _ in 0..letters {
        api.push(uid, &letter).await?;
    }
    // Whatever the kernel and the room take for it, they have taken.
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(device)
}

async fn a_newer_message_takes_the_place_of_older_ones_while_the_user_does_not_read(
    stack: &mut Stack,
) -> anyhow::Result<()> {
    const LETTERS: usize = 80;
    let mut carol = clogged(stack, "carol", LETTERS).await?;
    let mut last = String::new();
    for n in 1..=20 {
        last = score(stack, "carol", &format!("{n}:0")).await?;
    }
    stack.api().push("carol", "the last").await?;
    carol.widen(1 << 20)?;
    let (mut letters, mut scores, mut before) = (0, vec![], None);
    loop {
        let push: Push = carol.expect().await?;
        if let Some(before) = before {
            ensure!(
                push.seq == before + push.skip + 1,
                "a hole: {before}, then {} - {}",
                push.seq,
                push.skip
            );
        }
        before = Some(push.seq);
        carol.ack(1, push.seq).await?;
        match &push.payload[..] {
            b"the last" => break,
            letter if letter.len() == 60_000 => letters += 1,
            _ => {
                ensure!(push.collapse_key == "score", "{push:?}");
                scores.push(String::from_utf8_lossy(&push.payload).into_owned());
            }
        }
    }
    ensure!(letters == LETTERS, "{letters} letters");
    ensure!(scores == ["20:0"], "it was not read, and still came: {scores:?}");
    stack.api().ledger_shows(&last, "acked", 1).await
}

async fn an_urgent_message_overtakes_whatever_waits(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    // Two users on one connection: messages of one inbox never change places.
    let mut phone = RawDevice::connect_narrow(stack.room_for("dan").await?, "narrow", 4_096).await?;
    for (binding, uid) in [(1, "dan"), (2, "eve")] {
        phone.bind(binding, "demo", uid, &api.token("demo", uid).await?).await?;
    }
    let news = "n".repeat(20_000);
    for _ in 0..300 {
        api.broadcast(&news, "").await?;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    api.push("dan", "by the way").await?;
    api.push("eve", "first").await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    push(stack, json!({ "uid": "eve", "payload": "fire", "priority": "urgent" })).await?;
    push(stack, json!({ "uid": "frank", "payload": "not for this one", "priority": "urgent" })).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    phone.widen(1 << 20)?;
    let (mut order, mut broadcasts) = (vec![], 0);
    while order.len() < 3 || broadcasts < 300 {
        match phone.next_within(Duration::from_secs(30)).await?.context("the room has closed")? {
            ServerBody::Push(push) => {
                phone.ack(push.binding, push.seq).await?;
                order.push((String::from_utf8_lossy(&push.payload).into_owned(), broadcasts));
            }
            ServerBody::Broadcast(_) => broadcasts += 1,
            ServerBody::Pong(_) => {}
            other => bail!("{other:?}"),
        }
    }
    println!("with the broadcasts before each: {order:?}");
    let at = |text: &str| order.iter().position(|(payload, _)| payload == text);
    let (first, fire, aside) = (at("first"), at("fire"), at("by the way"));
    ensure!(first < fire, "messages of one inbox have changed places: {order:?}");
    ensure!(fire < aside, "it overtook nothing: {order:?}");
    let before_fire = fire.and_then(|at| order.get(at)).map_or(300, |(_, broadcasts)| *broadcasts);
    ensure!(before_fire < 300, "the broadcasts all came first: {order:?}");
    Ok(())
}
