//! To one user and to a list: stored and transient, once and again.

use std::time::Duration;

use anyhow::ensure;
use e2e::{Stack, TestDevice};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

crate::journeys! {
    a_stored_message_is_delivered_acked_and_forgotten,
    a_transient_message_goes_only_to_who_is_online,
    a_list_of_users_gets_one_message,
    a_repeat_with_the_same_key_does_no_harm,
}

async fn a_stored_message_is_delivered_acked_and_forgotten(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let mut alice = TestDevice::bound(stack, "alice").await?;
    let body = json!({ "uid": "alice", "payload": "hello" });
    let pushed = api.told(api.post("/v1/push", &body).await?)?;
    ensure!(pushed["outcome"] == "stored" && pushed["repeated"] == false, "{pushed}");
    let seq = pushed["seq"].as_u64().unwrap_or(0);
    stack.before(seq)?;
    let id = pushed["id"].as_str().unwrap_or_default();

    let message = alice.expect_text("hello").await?;
    ensure!(message.id.to_string() == id, "another id: {message:?}");
    ensure!(message.position.is_some_and(|p| p.seq.get() == seq), "{message:?}");

    api.ledger_shows(id, "acked", 1).await?;
    let ledger = api.ledger(id).await?;
    ensure!(ledger["kind"] == "unicast" && ledger["targets"] == 1 && ledger["stored"] == 0, "{ledger}");
    ensure!(ledger["accepted_ms"] == message.accepted_ms, "{ledger}, {message:?}");
    ensure!(api.depth("alice").await? == 0, "the inbox is not empty");

    // Bytes that are no text, up to the bound.
    let bytes: Vec<u8> = (0..65_536_u32).map(|n| (n * 31) as u8).collect();
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &bytes);
    api.told(api.post("/v1/push", &json!({ "uid": "alice", "payload_base64": encoded })).await?)?;
    ensure!(alice.expect_message().await?.payload == bytes, "the payload is another");
    alice.expect_nothing(Duration::from_millis(200)).await
}

async fn a_transient_message_goes_only_to_who_is_online(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let transient = |uid: &str| json!({ "uid": uid, "payload": "now or never", "transient": true });
    let mut alice = TestDevice::bound(stack, "alice").await?;

    let sent = api.told(api.post("/v1/push", &transient("alice")).await?)?;
    ensure!(sent["outcome"] == "sent", "{sent}");
    let message = alice.expect_text("now or never").await?;
    ensure!(message.position.is_none(), "a transient message has no place in an inbox: {message:?}");

    let missed = api.told(api.post("/v1/push", &transient("bob")).await?)?;
    ensure!(missed["outcome"] == "offline", "{missed}");
    ensure!(api.depth("bob").await? == 0, "a transient message was stored");
    let list = json!({ "uids": ["alice", "bob"], "payload": "both", "transient": true });
    let answer = api.told(api.post("/v1/multicast", &list).await?)?;
    ensure!(answer["targets"] == 2 && answer["accepted"] == 1, "{answer}");
    alice.expect_text("both").await?;

    let mut bob = TestDevice::bound(stack, "bob").await?;
    bob.expect_nothing(Duration::from_millis(500)).await
}

async fn a_list_of_users_gets_one_message(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let mut alice = TestDevice::bound(stack, "alice").await?;
    // Far more users than shards, one of them twice.
    let mut uids: Vec<String> = (0..40).map(|n| format!("reader-{n}")).collect();
    uids.extend(["alice".to_owned(), "alice".to_owned()]);
    let list = json!({ "uids": uids, "payload": "to all of you" });
    let answer = api.told(api.post("/v1/multicast", &list).await?)?;
    ensure!(answer["targets"] == 41 && answer["accepted"] == 41 && answer["failed"] == json!([]), "{answer}");
    let id = answer["id"].as_str().unwrap_or_default();
    ensure!(alice.expect_text("to all of you").await?.id.to_string() == id, "another id");
    alice.expect_nothing(Duration::from_millis(200)).await?;
    api.ledger_shows(id, "acked", 1).await?;
    let ledger = api.ledger(id).await?;
    ensure!(ledger["kind"] == "multicast" && ledger["targets"] == 41 && ledger["stored"] == 40, "{ledger}");
    let mut reader = TestDevice::bound(stack, "reader-7").await?;
    reader.expect_text("to all of you").await?;
    api.ledger_shows(id, "acked", 2).await?;

    // One name that is none spoils the call before anything is stored, and is told by its place.
    for bad in [String::new(), "x".repeat(129)] {
        let list = json!({ "uids": ["carol", bad, "dave"], "payload": "x" });
        let (status, body) = api.post("/v1/multicast", &list).await?;
        ensure!(status == StatusCode::BAD_REQUEST && body["error"]["field"] == "uids[1]", "{status} {body}");
    }
    ensure!(api.depth("carol").await? == 0 && api.depth("dave").await? == 0, "stored all the same");
    Ok(())
}

/// Pushes with an idempotency key through the n-th center.
async fn push_as(
    stack: &Stack,
    center: usize,
    key: &str,
    body: &Value,
) -> anyhow::Result<(StatusCode, Value)> {
    let api = stack.api_of(center);
    api.send(api.request(Method::POST, "/v1/push").header("Idempotency-Key", key).json(body)).await
}

async fn a_repeat_with_the_same_key_does_no_harm(stack: &mut Stack) -> anyhow::Result<()> {
    let body = json!({ "uid": "alice", "payload": "once" });
    let (status, first) = push_as(stack, 0, "k-1", &body).await?;
    ensure!(status == StatusCode::OK && first["repeated"] == false, "{status} {first}");
    // The same center, and the other one.
    for center in [0, 1] {
        let (status, again) = push_as(stack, center, "k-1", &body).await?;
        ensure!(status == StatusCode::OK && again["repeated"] == true, "{status} {again}");
        ensure!(again["id"] == first["id"] && again["seq"] == first["seq"], "{again}, at first {first}");
    }
    ensure!(stack.api().depth("alice").await? == 1, "stored twice");
    let other = json!({ "uid": "alice", "payload": "something else" });
    for center in [0, 1] {
        let (status, refused) = push_as(stack, center, "k-1", &other).await?;
        ensure!(status == StatusCode::CONFLICT, "{status} {refused}");
        ensure!(refused["error"]["code"] == "idempotency_key_reused", "{refused}");
    }
    // Many at once, over both centers: one of them does the work.
    let body = json!({ "uid": "bob", "payload": "once" });
    let calls = (0..20).map(|n| push_as(stack, n, "k-2", &body));
    let answers = futures::future::try_join_all(calls).await?;
    let did = answers.iter().filter(|(_, body)| body["repeated"] == false).count();
    let ids: std::collections::BTreeSet<_> = answers.iter().map(|(_, body)| body["id"].to_string()).collect();
    ensure!(did == 1 && ids.len() == 1, "{answers:?}");
    let mut bob = TestDevice::bound(stack, "bob").await?;
    bob.expect_text("once").await?;
    bob.expect_nothing(Duration::from_millis(200)).await?;
    // A repeat after the ack is still a repeat, and brings nothing back.
    stack.api().depth_becomes("bob", 0).await?;
    let (_, again) = push_as(stack, 1, "k-2", &body).await?;
    ensure!(again["repeated"] == true, "{again}");
    bob.expect_nothing(Duration::from_millis(300)).await
}
