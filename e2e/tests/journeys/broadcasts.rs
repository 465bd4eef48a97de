//! To everyone, and to those whose tags match.

use std::time::Duration;

use anyhow::ensure;
use e2e::{Stack, TestDevice, eventually};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::leave;

crate::journeys! {
    a_broadcast_reaches_everyone,
    a_broadcast_reaches_those_whose_tags_match,
    who_was_away_gets_broadcasts_and_who_is_new_does_not,
}

async fn a_broadcast_reaches_everyone(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let other = stack.create_app("other", json!({})).await?;
    let mut devices = vec![];
    for n in 0..12 {
        devices.push(TestDevice::bound(stack, &format!("user-{n}")).await?);
    }
    // Two users on one connection get it once; a user of another app not at all.
    devices[0].bind("demo", "second-of-0", &[]).await?;
    let mut stranger = TestDevice::start(stack, "stranger")?;
    stranger.knows("other", other.api.clone());
    stranger.bind("other", "user-0", &[]).await?;

    let id = api.broadcast("to all", "").await?;
    for device in &mut devices {
        let broadcast = device.expect_broadcast("to all").await?;
        ensure!(broadcast.id.to_string() == id && broadcast.cursor.bseq.get() == 1, "{broadcast:?}");
    }
    let path = format!("/v1/broadcasts/{id}");
    let state = eventually("13 bindings that acked", Duration::from_secs(15), async || {
        let state = api.told(api.get(&path).await?)?;
        ensure!(state["acked"] == 13, "{state}");
        Ok(state)
    })
    .await?;
    ensure!(state["targets"] == 13 && state["sent"] == 13 && state["bseq"] == 1, "{state}");
    ensure!(state["audience"] == "" && state["recalled"] == false && state["app"] == "demo", "{state}");
    let ledger = api.ledger(&id).await?;
    ensure!(ledger["kind"] == "broadcast", "{ledger}");
    devices[0].expect_nothing(Duration::from_millis(300)).await?;
    stranger.expect_nothing(Duration::from_millis(10)).await?;

    // In order with what follows, and a repeat with the same key is none.
    let keyed = async |text: &str| {
        let call = api.request(Method::POST, "/v1/broadcasts").header("Idempotency-Key", "b-1");
        api.send(call.json(&json!({ "payload": text }))).await
    };
    let (_, first) = keyed("keyed").await?;
    let (_, again) = keyed("keyed").await?;
    ensure!(first["id"] == again["id"] && again["repeated"] == true && again["bseq"] == 2, "{first} {again}");
    ensure!(keyed("other").await?.0 == StatusCode::CONFLICT, "the key was taken for another request");
    for n in 3..=10 {
        api.broadcast(&format!("number {n}"), "").await?;
    }
    devices[5].expect_broadcast("keyed").await?;
    for n in 3..=10 {
        devices[5].expect_broadcast(&format!("number {n}")).await?;
    }
    Ok(())
}

async fn a_broadcast_reaches_those_whose_tags_match(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let mut old_ios = TestDevice::bound_with_tags(stack, "old-ios", &["ios", "eu"]).await?;
    let mut beta_ios = TestDevice::bound_with_tags(stack, "beta-ios", &["ios", "eu", "beta"]).await?;
    let mut android = TestDevice::bound_with_tags(stack, "android", &["android"]).await?;
    let mut plain = TestDevice::bound(stack, "plain").await?;
    for (audience, text) in [
        ("ios", "all ios"),
        ("ios and not beta", "old ios"),
        ("android or (ios and beta)", "android or beta"),
        ("not (ios or android)", "neither"),
        ("ios and android", "nobody"),
        ("", "all"),
    ] {
        api.broadcast(text, audience).await?;
    }
    for text in ["all ios", "old ios", "all"] {
        old_ios.expect_broadcast(text).await?;
    }
    for text in ["all ios", "android or beta", "all"] {
        beta_ios.expect_broadcast(text).await?;
    }
    for text in ["android or beta", "all"] {
        android.expect_broadcast(text).await?;
    }
    for text in ["neither", "all"] {
        plain.expect_broadcast(text).await?;
    }
    // Tags hold for what was missed, too, as they are at the bind.
    leave(stack, android, 2).await?;
    api.broadcast("for tablets", "tablet").await?;
    api.broadcast("for android", "android").await?;
    let mut android = TestDevice::bound_with_tags(stack, "android", &["tablet"]).await?;
    android.expect_broadcast("for tablets").await?;
    android.expect_nothing(Duration::from_millis(300)).await?;

    let (status, body) =
        api.post("/v1/broadcasts", &json!({ "payload": "x", "audience": "ios and (" })).await?;
    ensure!(status == StatusCode::BAD_REQUEST && body["error"]["field"] == "audience", "{status} {body}");
    Ok(())
}

async fn who_was_away_gets_broadcasts_and_who_is_new_does_not(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let mut alice = TestDevice::bound(stack, "alice").await?;
    api.broadcast("number 1", "").await?;
    alice.expect_broadcast("number 1").await?;
    let kept = leave(stack, alice, 1).await?;
    for n in 2..=30 {
        api.broadcast(&format!("number {n}"), "").await?;
    }
    let stale = json!({ "payload": "stale", "ttl_s": 1 });
    api.told(api.post("/v1/broadcasts", &stale).await?)?;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    // A device that keeps nothing goes on where the cluster knows that the user was.
    let mut alice = TestDevice::bound(stack, "alice").await?;
    for n in 2..=30 {
        alice.expect_broadcast(&format!("number {n}")).await?;
    }
    alice.expect_nothing(Duration::from_millis(300)).await?;
    leave(stack, alice, 29).await?;
    // Another device of the user, which keeps an older place: the user has had them.
    let mut restored = TestDevice::resume(stack, "phone", kept)?;
    restored.bind("demo", "alice", &[]).await?;
    restored.expect_nothing(Duration::from_millis(300)).await?;
    // A user never seen before gets none of the old ones, but what follows, also when it is away by then.
    let mut new = TestDevice::bound(stack, "new").await?;
    new.expect_nothing(Duration::from_millis(500)).await?;
    new.close().await;
    api.broadcast("after the first visit", "").await?;
    let mut new = TestDevice::bound(stack, "new").await?;
    new.expect_broadcast("after the first visit").await?;
    new.expect_nothing(Duration::from_millis(300)).await
}
