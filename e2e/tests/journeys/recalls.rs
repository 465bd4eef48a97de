//! Taking messages back.

use std::time::Duration;

use anyhow::ensure;
use e2e::{Stack, TestDevice};
use reqwest::StatusCode;
use serde_json::json;

crate::journeys! {
    a_stored_message_is_taken_back,
    a_delivered_message_is_taken_back,
    a_broadcast_is_taken_back,
}

async fn a_stored_message_is_taken_back(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    api.push("alice", "first").await?;
    let regretted = api.push("alice", "regretted").await?;
    api.push("alice", "last").await?;
    let answer = api.recall(&regretted).await?;
    ensure!(answer["recalled"] == 1 && answer["notified"] == 0, "{answer}");
    ensure!(api.ledger(&regretted).await?["recalled"] == 1, "the ledger does not say so");
    ensure!(api.depth("alice").await? == 2, "it still counts");
    let again = api.recall(&regretted).await?;
    ensure!(again["recalled"] == 0, "taken back twice: {again}");

    let mut alice = TestDevice::bound(stack, "alice").await?;
    alice.expect_text("first").await?;
    alice.expect_text("last").await?;
    alice.expect_nothing(Duration::from_millis(300)).await?;

    let (status, body) = api.delete("/v1/messages/12345").await?;
    ensure!(status == StatusCode::NOT_FOUND && body["error"]["code"] == "unknown_message", "{status} {body}");
    Ok(())
}

async fn a_delivered_message_is_taken_back(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let mut alice = TestDevice::bound(stack, "alice").await?;
    let id = api.push("alice", "regretted").await?;
    alice.expect_text("regretted").await?;
    api.ledger_shows(&id, "acked", 1).await?;
    let answer = api.recall(&id).await?;
    ensure!(answer["recalled"] == 0 && answer["notified"] == 1, "{answer}");
    ensure!(alice.expect_recall().await?.to_string() == id, "another message was taken back");
    ensure!(api.ledger(&id).await?["acked"] == 1, "what was acked stays acked");

    // One of two has it, the other does not yet.
    let list = json!({ "uids": ["alice", "bob"], "payload": "for both" });
    let sent = api.told(api.post("/v1/multicast", &list).await?)?;
    let id = sent["id"].as_str().unwrap_or_default();
    alice.expect_text("for both").await?;
    api.ledger_shows(id, "acked", 1).await?;
    let answer = api.recall(id).await?;
    ensure!(answer["recalled"] == 1 && answer["notified"] == 1, "{answer}");
    ensure!(alice.expect_recall().await?.to_string() == id, "another message was taken back");
    let mut bob = TestDevice::bound(stack, "bob").await?;
    bob.expect_nothing(Duration::from_millis(300)).await
}

async fn a_broadcast_is_taken_back(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let mut alice = TestDevice::bound(stack, "alice").await?;
    // Bob is known, and away.
    TestDevice::bound(stack, "bob").await?.close().await;
    let id = api.broadcast("regretted", "").await?;
    alice.expect_broadcast("regretted").await?;
    let answer = api.recall(&id).await?;
    ensure!(answer["recalled"] == 1 && answer["notified"] == 1, "{answer}");
    ensure!(alice.expect_recall().await?.to_string() == id, "another message was taken back");
    let state = api.told(api.get(&format!("/v1/broadcasts/{id}")).await?)?;
    ensure!(state["recalled"] == true, "{state}");
    api.broadcast("kept", "").await?;
    let mut bob = TestDevice::bound(stack, "bob").await?;
    bob.expect_broadcast("kept").await?;
    bob.expect_nothing(Duration::from_millis(300)).await
}
