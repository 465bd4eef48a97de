//! To a list of users of any length, streamed, and what became of each.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context as _, ensure};
use e2e::{Crowd, Stack, api::http};
use futures::stream;
use longwire::api::Api;
use proto::v1::{ListTargetsRequest, MulticastChunk, MulticastRequest};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

crate::journeys! {
    a_long_list_is_streamed_and_each_user_accounted_for,
    a_streamed_list_that_is_wrong_is_refused,
}

const USERS: usize = 20_000;
const ONLINE: usize = 20;
/// A call about all of them takes a second or two, and on a busy machine many.
const PATIENCE: Duration = Duration::from_secs(60);

/// The head, then a user a line.
fn ndjson(head: &Value, uids: impl IntoIterator<Item = String>) -> String {
    let mut text = head.to_string();
    for uid in uids {
        text.push('\n');
        text += &Value::String(uid).to_string();
    }
    text
}

async fn a_long_list_is_streamed_and_each_user_accounted_for(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let crowd = Crowd::gather(stack, "user", ONLINE).await?;
    let uids = || (0..USERS).map(|n| format!("user-{n}"));
    let stream = async |key: &str| {
        let request = api
            .request(Method::POST, "/v1/multicasts")
            .header("Content-Type", "application/x-ndjson")
            .header("Idempotency-Key", key)
            .timeout(PATIENCE)
            .body(ndjson(&json!({ "payload": "to the list" }), uids()));
        api.told(api.send(request).await?)
    };
    let begun = std::time::Instant::now();
    let answer = stream("list").await?;
    println!("{USERS} users in {:?}", begun.elapsed());
    ensure!(answer["targets"] == USERS && answer["accepted"] == USERS, "{answer}");
    ensure!(
        answer["failed"].as_array().is_some_and(Vec::is_empty) && answer["repeated"] == false,
        "{answer}"
    );
    let id = answer["id"].as_str().context("no id")?.to_owned();
    crowd.expect(&id, ONLINE).await?;
    api.ledger_shows(&id, "acked", ONLINE as u64).await?;
    let ledger = api.ledger(&id).await?;
    ensure!(ledger["targets"] == USERS && ledger["stored"] == USERS - ONLINE, "{ledger}");
    ensure!(ledger["kind"] == "multicast", "{ledger}");

    // Each user once, with what became of it.
    let url = format!("{}/v1/messages/{id}/targets", stack.addresses().api[0]);
    let response = http().get(url).bearer_auth(api.key()).timeout(PATIENCE).send().await?;
    ensure!(response.status() == StatusCode::OK, "{}", response.status());
    let mut states = HashMap::new();
    for line in response.text().await?.lines() {
        let target: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let (uid, state) = (target["uid"].as_str().unwrap_or_default(), target["state"].as_str());
        let before = states.insert(uid.to_owned(), state.unwrap_or_default().to_owned());
        ensure!(before.is_none(), "{uid} is told twice");
    }
    ensure!(states.len() == USERS, "{} of {USERS}", states.len());
    for (n, uid) in uids().enumerate() {
        let expected = if n < ONLINE { "acked" } else { "stored" };
        ensure!(states.get(&uid).is_some_and(|state| state == expected), "{uid}: {:?}", states.get(&uid));
    }

    // A repeat does nothing.
    let again = stream("list").await?;
    ensure!(again["id"] == json!(id) && again["repeated"] == true, "{again}");
    let ledger = api.ledger(&id).await?;
    ensure!(ledger["targets"] == USERS, "{ledger}");

    // By gRPC likewise, in chunks.
    let addresses = stack.addresses();
    let grpc = Api::connect(&addresses.api[0], &addresses.key, "demo").await;
    let mut push = grpc.map_err(|e| anyhow::anyhow!("{e}"))?.push();
    let head = MulticastRequest { payload: "in chunks".into(), ..MulticastRequest::default() };
    let mut chunks = vec![MulticastChunk { head: Some(head), uids: vec!["user-0".to_owned()] }];
    for from in (1..2_000).step_by(500) {
        let uids = (from..from + 500).map(|n| format!("user-{n}")).collect();
        chunks.push(MulticastChunk { head: None, uids });
    }
    let answer = push.multicast_stream(stream::iter(chunks)).await?.into_inner();
    ensure!(answer.targets == 2_001 && answer.accepted == 2_001, "{answer:?}");
    crowd.expect(&answer.id.to_string(), ONLINE).await?;
    let request = ListTargetsRequest { id: answer.id, ..Default::default() };
    let mut targets = push.list_targets(request).await?.into_inner();
    let mut told = 0;
    while let Some(target) = targets.message().await? {
        ensure!(!target.uid.is_empty() && !target.state.is_empty(), "{target:?}");
        told += 1;
    }
    ensure!(told == 2_001, "{told}");
    Ok(())
}

async fn a_streamed_list_that_is_wrong_is_refused(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let send = async |body: String| {
        let request =
            api.request(Method::POST, "/v1/multicasts").header("Content-Type", "application/x-ndjson");
        api.send(request.body(body)).await
    };
    let head = json!({ "payload": "x" });
    for (what, body) in [
        ("nothing", String::new()),
        ("no head", "\"alice\"\n\"bob\"".to_owned()),
        ("a head with a field that nobody knows", "{\"payload\":\"x\",\"speed\":1}\n\"alice\"".to_owned()),
        ("a line that is no user", ndjson(&head, ["alice".to_owned()]) + "\n17"),
        ("a name that is too long", ndjson(&head, ["x".repeat(129)])),
        ("nobody", head.to_string()),
    ] {
        let (status, answer) = send(body).await?;
        ensure!(status == StatusCode::BAD_REQUEST, "{what}: {status} {answer}");
    }
    let (status, answer) = api.get("/v1/messages/1/targets").await?;
    ensure!(status == StatusCode::NOT_FOUND, "{status} {answer}");
    Ok(())
}
