//! What goes on for class `fast` while MariaDB is away, seen by backends and devices.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::{Shape, Stack, TestDevice, Tuning, faults::Fault};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::everything;

/// Of a call that waits for what is away: more than any deadline inside.
const PATIENCE: Duration = Duration::from_secs(20);

/// Pushes with an idempotency key through the n-th center.
async fn push_as(stack: &Stack, center: usize, key: &str, text: &str) -> anyhow::Result<Value> {
    let api = stack.api_of(center);
    let body = json!({ "uid": "alice", "payload": text });
    let request = api.request(Method::POST, "/v1/push").header("Idempotency-Key", key).json(&body);
    let (status, answer) = tokio::time::timeout(PATIENCE, api.send(request)).await??;
    ensure!(status == StatusCode::OK, "{key}: {status} {answer}");
    Ok(answer)
}

/// A push with a key has one id whoever repeats it, when, and where; devices get all of it, and move to another room; and
/// when MariaDB is back it has everything.
#[tokio::test(flavor = "multi_thread")]
async fn keyed_pushes_and_known_devices_go_on_without_mariadb() -> anyhow::Result<()> {
    let toml = "[saver]\ndurability = \"fast\"\n".to_owned();
    let mut stack = Stack::start(Shape::Cluster, Tuning { toml, layout: everything() }).await?;
    let mut device = TestDevice::bound(&stack, "alice").await?;
    let before = push_as(&stack, 0, "before", "zero").await?;
    device.expect_text("zero").await?;

    let cluster = stack.processes().context("a cluster has processes")?;
    Fault::MariaDb.strike(cluster).await?;
    let mut ids = vec![before["id"].clone()];
    for n in 0..20 {
        let first = push_as(&stack, n, &format!("key {n}"), &format!("text {n}")).await?;
        ensure!(first["repeated"] == false, "{first}");
        let again = push_as(&stack, n + 1, &format!("key {n}"), &format!("text {n}")).await?;
        ensure!(again["repeated"] == true && again["id"] == first["id"], "{again}, at first {first}");
        ids.push(first["id"].clone());
        device.expect_text(&format!("text {n}")).await?;
    }
    let again = push_as(&stack, 1, "before", "zero").await?;
    ensure!(again["repeated"] == true && again["id"] == ids[0], "{again}");
    let calls = (0..20).map(|n| push_as(&stack, n, "many", "text 20"));
    let many = futures::future::try_join_all(calls).await?;
    ensure!(many.iter().all(|one| one["id"] == many[0]["id"]), "{many:?}");
    ensure!(many.iter().filter(|one| one["repeated"] == false).count() == 1, "{many:?}");
    ids.push(many[0]["id"].clone());
    device.expect_text("text 20").await?;

    // What needs MariaDB is refused, and says for how long.
    let api = stack.api();
    let request = api.request(Method::POST, "/v1/broadcasts").json(&json!({ "payload": "to all" }));
    let refused = tokio::time::timeout(PATIENCE, request.send()).await??;
    ensure!(refused.status() == StatusCode::SERVICE_UNAVAILABLE, "{refused:?}");
    ensure!(refused.headers().contains_key("retry-after"), "{refused:?}");

    // A device that was here before knows its places.
    let saved = device.close().await;
    let kept = push_as(&stack, 0, "kept", "for later").await?;
    ids.push(kept["id"].clone());
    let mut device = TestDevice::resume(&stack, "another phone", saved)?;
    device.bind("demo", "alice", &[]).await?;
    device.expect_text("for later").await?;

    Fault::MariaDb.heal(cluster).await?;
    for (n, id) in ids.iter().enumerate() {
        let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        stack.api().ledger_shows(&id, "acked", 1).await.with_context(|| format!("number {n}"))?;
    }
    for (n, key) in [(0, "before"), (4, "key 3"), (21, "many")] {
        let text = if n == 0 { "zero".to_owned() } else { format!("text {}", n - 1) };
        let again = push_as(&stack, n, key, &text).await?;
        ensure!(again["repeated"] == true && again["id"] == ids[n], "{again}, at first {}", ids[n]);
    }
    device.expect_nothing(Duration::from_secs(1)).await?;
    device.close().await;
    ensure!(!stack.log().contains("panicked at"), "{}", stack.log());
    stack.drain().await
}
