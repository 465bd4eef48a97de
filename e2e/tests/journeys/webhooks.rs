//! From devices to an app's backend: what they send, and that they come and go.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use client::{Event, session::UpOutcome};
use e2e::{App, Backend, RawDevice, Stack, TestDevice, backend::Call};
use reqwest::Method;
use serde_json::{Value, json};
use wire::frame::{Up, UpAck, UpCode};

crate::journeys! {
    upstream_reaches_the_webhook_signed,
    a_failing_webhook_gets_it_again_in_order,
    a_backend_that_hangs_slows_nobody_else with "[coordinator.webhook]\ntimeout = \"5s\"\n",
    comings_and_goings_reach_the_state_webhook with "[room]\nresume_grace = \"1s\"\n",
}

async fn up_done(device: &mut TestDevice, reference: u64) -> anyhow::Result<UpOutcome> {
    device
        .expect("the fate of the upstream frame", |event| match event {
            Event::UpDone { reference: r, outcome } if *r == reference => Some(*outcome),
            _ => None,
        })
        .await
}

async fn device_of(stack: &Stack, app: &App, uid: &str) -> anyhow::Result<(TestDevice, wire::id::BindingId)> {
    let mut device = TestDevice::start(stack, &format!("phone-of-{uid}"))?;
    device.knows(&app.name, app.api.clone());
    let binding = device.bind(&app.name, uid, &[]).await?;
    Ok((device, binding))
}

async fn upstream_reaches_the_webhook_signed(stack: &mut Stack) -> anyhow::Result<()> {
    let backend = Backend::start().await?;
    let app = stack.create_app("chat", json!({ "upstream_url": backend.url() })).await?;
    let (mut device, binding) = device_of(stack, &app, "alice").await?;
    let reference = device.sdk().up(binding, "say", "good morning".into()).await?;
    let call = backend.next().await?;
    ensure!(call.signed_by(&app.webhook_secret), "the signature is wrong: {call:?}");
    ensure!(!call.signed_by("another secret"), "any signature will do");
    let body = &call.body;
    ensure!(
        body["type"] == "up" && body["app"] == "chat" && body["uid"] == "alice" && body["kind"] == "say",
        "{body}"
    );
    ensure!(body["payload"] == BASE64.encode("good morning"), "{body}");
    ensure!(body["id"].as_str().is_some_and(|id| id.parse::<u64>().is_ok()), "{body}");
    ensure!(body["at_ms"].as_u64().is_some_and(|at| at > 1_700_000_000_000), "{body}");
    ensure!(up_done(&mut device, reference).await? == UpOutcome::Accepted, "not acknowledged");
    // Bytes that are no text, and in order.
    for n in 0..20_u8 {
        device.sdk().up(binding, "count", vec![n, 255].into()).await?;
    }
    for n in 0..20_u8 {
        let body = backend.next().await?.body;
        ensure!(body["payload"] == BASE64.encode([n, 255]), "{n}: {body}");
    }
    // An app without a webhook takes nothing.
    let mut raw = stack.raw_bound("bob").await?;
    raw.send(Up { binding: 1, kind: "say".into(), payload: "x".into(), r#ref: 77 }).await?;
    let ack: UpAck = raw.expect().await?;
    ensure!(ack.r#ref == 77 && ack.code() == UpCode::Rejected, "{ack:?}");
    // Nor does a binding that is not there.
    raw.send(Up { binding: 9, kind: "say".into(), payload: "x".into(), r#ref: 78 }).await?;
    let ack: UpAck = raw.expect().await?;
    ensure!(ack.r#ref == 78 && ack.code() == UpCode::Rejected, "{ack:?}");
    Ok(())
}

async fn a_failing_webhook_gets_it_again_in_order(stack: &mut Stack) -> anyhow::Result<()> {
    let backend = Backend::start().await?;
    let app = stack.create_app("chat", json!({ "upstream_url": backend.url() })).await?;
    let (mut device, binding) = device_of(stack, &app, "alice").await?;
    backend.fail_next(3);
    let mut references = vec![];
    for n in 0..5 {
        references.push(device.sdk().up(binding, "say", format!("number {n}").into()).await?);
    }
    let mut ids = vec![];
    for n in 0..5 {
        let call = backend.next().await?;
        ensure!(call.signed_by(&app.webhook_secret), "the signature is wrong: {call:?}");
        ensure!(call.body["payload"] == BASE64.encode(format!("number {n}")), "{n}: {}", call.body);
        ids.push(call.body["id"].to_string());
    }
    ids.dedup();
    ensure!(ids.len() == 5, "ids are not of their own: {ids:?}");
    for reference in references {
        ensure!(up_done(&mut device, reference).await? == UpOutcome::Accepted, "not acknowledged");
    }
    ensure!(backend.silent_for(Duration::from_millis(500)).await, "more than was sent");
    Ok(())
}

/// The dead backend of one app costs the users of another nothing.
async fn a_backend_that_hangs_slows_nobody_else(stack: &mut Stack) -> anyhow::Result<()> {
    // Takes connections and never answers.
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let deaf_url = format!("http://{}/hook", deaf.local_addr()?);
    let backend = Backend::start().await?;
    let dead = stack.create_app("dead", json!({ "upstream_url": deaf_url, "state_url": deaf_url })).await?;
    let chat = stack.create_app("chat", json!({ "upstream_url": backend.url() })).await?;
    let (mut of_dead, dead_binding) = device_of(stack, &dead, "alice").await?;
    let (mut of_chat, chat_binding) = device_of(stack, &chat, "alice").await?;
    let mut waiting = vec![];
    for _ in 0..20 {
        waiting.push(of_dead.sdk().up(dead_binding, "say", "into the void".into()).await?);
    }
    let begun = std::time::Instant::now();
    let reference = of_chat.sdk().up(chat_binding, "say", "hello".into()).await?;
    backend.next().await?;
    ensure!(up_done(&mut of_chat, reference).await? == UpOutcome::Accepted, "not acknowledged");
    // It did not wait for the other one to run out of time.
    ensure!(begun.elapsed() < Duration::from_secs(4), "it took {:?}", begun.elapsed());
    // What the dead backend did not take is in the durable queue: the device is done with it.
    for reference in waiting {
        ensure!(up_done(&mut of_dead, reference).await? == UpOutcome::Accepted, "not acknowledged");
    }
    // The backend comes back at another address: it gets what waits, in order.
    let revived = Backend::start().await?;
    let api = stack.api();
    let patch = api.request(Method::PATCH, "/v1/apps/dead").json(&json!({ "upstream_url": revived.url() }));
    api.told(api.send(patch).await?)?;
    for _ in 0..20 {
        let call = revived.next().await?;
        ensure!(call.body["payload"] == BASE64.encode("into the void"), "{}", call.body);
    }
    Ok(())
}

async fn state(backend: &Backend, app: &App) -> anyhow::Result<Value> {
    let call: Call = backend.next().await?;
    ensure!(call.signed_by(&app.webhook_secret), "the signature is wrong: {call:?}");
    Ok(call.body)
}

fn fence(event: &Value) -> anyhow::Result<u64> {
    Ok(event["fence"].as_str().with_context(|| format!("no fence: {event}"))?.parse()?)
}

async fn comings_and_goings_reach_the_state_webhook(stack: &mut Stack) -> anyhow::Result<()> {
    let backend = Backend::start().await?;
    let app = stack.create_app("chat", json!({ "state_url": backend.url() })).await?;
    let (device, _) = device_of(stack, &app, "alice").await?;
    let online = state(&backend, &app).await?;
    ensure!(online["type"] == "online" && online["uid"] == "alice" && online["app"] == "chat", "{online}");
    let user = app.api.user("alice").await?;
    ensure!(online["room"] == user["room"] && online["conn"] == user["conn"], "{online}, {user}");
    ensure!(online["at_ms"].as_u64().is_some_and(|at| at > 1_700_000_000_000), "{online}");

    // Another connection takes the user over: it was never offline.
    let (second, _) = device_of(stack, &app, "alice").await?;
    let replaced = state(&backend, &app).await?;
    ensure!(replaced["type"] == "online" && fence(&replaced)? > fence(&online)?, "{replaced} after {online}");
    device.close().await;
    ensure!(backend.silent_for(Duration::from_secs(1)).await, "an event of the one that was replaced");

    second.close().await;
    let offline = state(&backend, &app).await?;
    ensure!(
        offline["type"] == "offline" && fence(&offline)? >= fence(&replaced)?,
        "{offline} after {replaced}"
    );

    // A connection that just breaks: when the grace is over.
    let mut raw = RawDevice::connect(stack.room_for("bob").await?, "raw").await?;
    raw.bind(1, "chat", "bob", &app.api.token("chat", "bob").await?).await?;
    ensure!(state(&backend, &app).await?["type"] == "online", "bob came");
    drop(raw);
    let offline = state(&backend, &app).await?;
    ensure!(offline["type"] == "offline" && offline["uid"] == "bob", "{offline}");

    // Put out by the app itself.
    let (_kicked, _) = device_of(stack, &app, "carol").await?;
    ensure!(state(&backend, &app).await?["type"] == "online", "carol came");
    ensure!(app.api.kick("carol").await?, "carol was online");
    let offline = state(&backend, &app).await?;
    ensure!(offline["type"] == "offline" && offline["uid"] == "carol", "{offline}");
    Ok(())
}
