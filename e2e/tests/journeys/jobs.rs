//! Broadcasts that choose their audience, are previewed, paced, steered, watched and taken back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use e2e::{ApiClient, Crowd, Profile, Shape, Stack, TestDevice, eventually};
use longwire::api::Api;
use proto::v1::GetBroadcastRequest;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wire::frame::Network;

use crate::leave;

crate::journeys! {
    a_broadcast_reaches_whom_it_is_meant_for,
    a_canary_reaches_the_same_users_again_and_more_with_a_greater_share,
    a_preview_counts_and_sends_nothing,
    a_paced_broadcast_is_steered,
    a_cancelled_broadcast_stops_where_it_is,
    a_recalled_broadcast_stops_and_is_told,
    a_broadcast_that_is_not_acked_slows_and_pauses_by_itself expects ["a broadcast has paused itself"],
    progress_is_streamed_to_the_end,
    a_reconnect_storm_reads_the_log_once_a_room expects ["peer does not answer"],
}

async fn a_broadcast_reaches_whom_it_is_meant_for(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let is = |tags: &[&str], version: &str, network: Network| Profile {
        app_version: version.to_owned(),
        network,
        ..Profile::tags(tags)
    };
    let mut home = TestDevice::bound_as(stack, "home", &is(&["ios"], "3.1", Network::Wifi)).await?;
    let mut desk = TestDevice::bound_as(stack, "desk", &is(&[], "3.0.5", Network::Wired)).await?;
    let mut away = TestDevice::bound_as(stack, "away", &is(&["ios"], "3.10", Network::Network5g)).await?;
    let mut silent = TestDevice::bound(stack, "silent").await?;
    let preview = api.told(api.post("/v1/broadcasts/preview", &json!({ "payload": "x" })).await?)?;
    let zone = preview["zones"][0]["zone"].as_str().with_context(|| format!("no zone: {preview}"))?;

    let ways = [
        (json!({ "networks": ["wifi"] }), "wifi"),
        (json!({ "networks": ["5g", "wired"] }), "5g or wired"),
        (json!({ "networks": ["unknown"] }), "unknown network"),
        (json!({ "version_from": "3.1" }), "3.1 and later"),
        (json!({ "version_below": "3.1" }), "before 3.1"),
        (json!({ "version_from": "3.1", "version_below": "3.10" }), "3.1 to 3.10"),
        (json!({ "zones": [zone] }), "this zone"),
        (json!({ "zones": ["nowhere"] }), "no zone"),
        (json!({ "audience": "ios", "networks": ["5g", "4g"] }), "ios on the road"),
        (json!({ "percent": 100.0 }), "everyone"),
    ];
    for (mut body, text) in ways {
        body["payload"] = json!(text);
        api.broadcast_with(&body).await.with_context(|| text.to_owned())?;
    }
    let expected: [(&mut TestDevice, &[&str]); 4] = [
        (&mut home, &["wifi", "3.1 and later", "3.1 to 3.10", "this zone", "everyone"]),
        (&mut desk, &["5g or wired", "before 3.1", "this zone", "everyone"]),
        (&mut away, &["5g or wired", "3.1 and later", "this zone", "ios on the road", "everyone"]),
        (&mut silent, &["unknown network", "this zone", "everyone"]),
    ];
    for (device, texts) in expected {
        for text in texts {
            device.expect_broadcast(text).await?;
        }
    }

    // Who comes later is judged by what it tells then.
    leave(stack, desk, 4).await?;
    api.broadcast_with(&json!({ "payload": "update now", "version_below": "3.1" })).await?;
    api.broadcast_with(&json!({ "payload": "thanks", "version_from": "3.1" })).await?;
    let mut desk = TestDevice::bound_as(stack, "desk", &is(&[], "3.2", Network::Wired)).await?;
    desk.expect_broadcast("thanks").await?;
    desk.expect_nothing(Duration::from_millis(300)).await?;

    for (field, value) in [
        ("version_from", json!("three")),
        ("version_below", json!("1.2.3.4.5")),
        ("networks", json!(["6g"])),
        ("percent", json!(0.0)),
        ("percent", json!(100.5)),
        ("priority", json!("extreme")),
    ] {
        let mut body = json!({ "payload": "x" });
        body[field] = value;
        let (status, answer) = api.post("/v1/broadcasts", &body).await?;
        ensure!(status == StatusCode::BAD_REQUEST, "{body}: {status} {answer}");
        ensure!(answer.to_string().contains(field.trim_end_matches('s')), "{body}: {answer}");
    }
    Ok(())
}

async fn a_canary_reaches_the_same_users_again_and_more_with_a_greater_share(
    stack: &mut Stack,
) -> anyhow::Result<()> {
    let api = stack.api();
    let crowd = Crowd::gather(stack, "user", 80).await?;
    let mut reached = vec![];
    for percent in [20.0, 20.0, 50.0, 100.0] {
        let canary = json!({ "payload": "canary", "percent": percent });
        let id = api.broadcast_with(&canary).await?;
        // It is done when all rooms have chosen their part of them.
        let users = eventually("all of them have acked", Duration::from_secs(30), async || {
            let state = api.state(&id).await?;
            let (acked, seen) = (state["acked"].as_u64().unwrap_or(0), crowd.seen(&id).len());
            ensure!(state["state"] == "done" && state["stored"] == 0, "{state}");
            ensure!(acked > 0 && usize::try_from(acked)? == seen, "{seen} have it: {state}");
            Ok(seen)
        })
        .await?;
        let mut users: Vec<_> = crowd.expect(&id, users).await?.into_keys().collect();
        users.sort();
        reached.push(users);
    }
    let [first, again, half, all] = &reached[..] else { anyhow::bail!("four rounds") };
    println!("{} of 20 %, {} of 50 %, {} of all", first.len(), half.len(), all.len());
    ensure!(first == again, "another canary: {first:?} {again:?}");
    ensure!((4..=36).contains(&first.len()) && (25..=55).contains(&half.len()), "far from the share");
    ensure!(first.iter().all(|uid| half.contains(uid)), "{first:?} is not in {half:?}");
    ensure!(all.len() == 80, "{} of 80", all.len());
    Ok(())
}

async fn a_preview_counts_and_sends_nothing(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let mut devices = vec![];
    for n in 0..5 {
        let tags: &[&str] = if n < 3 { &["ios"] } else { &[] };
        devices.push(TestDevice::bound_with_tags(stack, &format!("user-{n}"), tags).await?);
    }
    let preview = async |body: Value| api.told(api.post("/v1/broadcasts/preview", &body).await?);
    let told = preview(json!({ "payload": "hello", "audience": "ios", "users_per_second": 1 })).await?;
    ensure!(told["users"] == 3 && told["rooms_missed"] == 0 && told["duration_ms"] == 5000, "{told}");
    let zones: u64 = told["zones"].as_array().into_iter().flatten().filter_map(|z| z["users"].as_u64()).sum();
    ensure!(zones == 3, "{told}");
    let bytes = told["bytes"].as_u64().context("no bytes")?;
    ensure!((15..300).contains(&bytes), "three frames with 5 bytes each: {told}");
    let told = preview(json!({ "payload": "hello", "audience": "not ios" })).await?;
    ensure!(told["users"] == 2, "{told}");
    let (status, _) = api.post("/v1/broadcasts/preview", &json!({ "payload": "x", "audience": "(" })).await?;
    ensure!(status == StatusCode::BAD_REQUEST, "{status}");
    let listed = api.told(api.get("/v1/broadcasts").await?)?;
    ensure!(listed["broadcasts"].as_array().is_some_and(Vec::is_empty), "{listed}");
    for device in &mut devices {
        device.expect_nothing(Duration::from_millis(100)).await?;
    }
    Ok(())
}

/// Waits until at least so many have seen it.
async fn seen_by(crowd: &Crowd, id: &str, users: usize) -> anyhow::Result<()> {
    eventually(&format!("{users} have seen {id}"), Duration::from_secs(20), async || {
        let seen = crowd.seen(id).len();
        ensure!(seen >= users, "only {seen}");
        Ok(())
    })
    .await
}

/// That nobody gets it any more, a moment after this was asked for.
async fn stands_still(crowd: &Crowd, id: &str) -> anyhow::Result<usize> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let seen = crowd.seen(id).len();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let later = crowd.seen(id).len();
    ensure!(seen == later, "it goes on: {seen}, then {later}");
    Ok(seen)
}

async fn a_paced_broadcast_is_steered(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let crowd = Crowd::gather(stack, "user", 100).await?;
    let id = api.broadcast_with(&json!({ "payload": "slowly", "users_per_second": 10 })).await?;
    seen_by(&crowd, &id, 10).await?;

    let other = stack.api_of(1);
    let paused = other.control(&id, &json!({ "action": "pause" })).await?;
    ensure!(paused["state"] == "paused", "{paused}");
    let seen = stands_still(&crowd, &id).await?;
    ensure!((10..90).contains(&seen), "{seen} after the pause");
    let state = api.state(&id).await?;
    let released = state["released"].as_f64().unwrap_or(0.0);
    ensure!(state["state"] == "paused" && (0.05..0.95).contains(&released), "{state}");

    // A later one does not wait for it.
    let quick = api.broadcast("quickly", "").await?;
    crowd.expect(&quick, 100).await?;

    let resumed = api.control(&id, &json!({ "action": "resume" })).await?;
    ensure!(resumed["state"] == "running", "{resumed}");
    seen_by(&crowd, &id, seen + 5).await?;
    let hastened = other.control(&id, &json!({ "users_per_second": 12 })).await?;
    ensure!(hastened["users_per_second"] == 12 && hastened["users_per_second_asked"] == 12, "{hastened}");
    let rest = 100 - crowd.seen(&id).len();
    other.control(&id, &json!({ "users_per_second": 0 })).await?;
    let since = Instant::now();
    crowd.expect(&id, 100).await?;
    println!("{rest} as fast as the rooms can: {:?}", since.elapsed());
    ensure!(since.elapsed() < Duration::from_secs(4) || rest < 50, "{:?} for {rest}", since.elapsed());
    let all = json!({ "state": "done", "acked": 100, "targets": 100, "sent": 100 });
    let done = api.state_shows(&id, &all).await?;
    ensure!(done["released"] == 1.0, "{done}");
    ensure!(done["ended_ms"].as_u64() >= done["starts_ms"].as_u64(), "{done}");

    // Both are listed, the newest first.
    let listed = api.told(api.get("/v1/broadcasts?limit=10").await?)?;
    let ids: Vec<_> =
        listed["broadcasts"].as_array().into_iter().flatten().map(|b| b["id"].clone()).collect();
    ensure!(ids == [json!(quick), json!(id)], "{listed}");
    let before = api.told(api.get(&format!("/v1/broadcasts?before={quick}")).await?)?;
    ensure!(before["broadcasts"][0]["id"] == json!(id), "{before}");

    for (what, body, expected) in [
        (&id, json!({ "action": "pause" }), StatusCode::CONFLICT),
        (&id, json!({ "action": "stop" }), StatusCode::BAD_REQUEST),
        (&"1".to_owned(), json!({ "action": "pause" }), StatusCode::NOT_FOUND),
    ] {
        let request = api.request(Method::PATCH, &format!("/v1/broadcasts/{what}")).json(&body);
        let (status, answer) = api.send(request).await?;
        ensure!(status == expected, "{body}: {status} {answer}");
    }
    Ok(())
}

async fn a_cancelled_broadcast_stops_where_it_is(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let crowd = Crowd::gather(stack, "user", 60).await?;
    let id = api.broadcast_with(&json!({ "payload": "half", "users_per_second": 8 })).await?;
    seen_by(&crowd, &id, 10).await?;
    let cancelled = stack.api_of(1).control(&id, &json!({ "action": "cancel" })).await?;
    ensure!(cancelled["state"] == "cancelled", "{cancelled}");
    let seen = stands_still(&crowd, &id).await?;
    ensure!((10..60).contains(&seen), "{seen}");
    // Those who have it keep it, and are all that it was meant for in the end.
    let state = api.state_shows(&id, &json!({ "acked": seen, "stored": 0 })).await?;
    ensure!(state["state"] == "cancelled" && state["targets"] == seen && crowd.recalled(&id) == 0, "{state}");
    let request = api.request(Method::PATCH, &format!("/v1/broadcasts/{id}"));
    let (status, answer) = api.send(request.json(&json!({ "action": "resume" }))).await?;
    ensure!(status == StatusCode::CONFLICT, "{status} {answer}");
    Ok(())
}

async fn a_recalled_broadcast_stops_and_is_told(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let mut crowd = Crowd::gather(stack, "user", 40).await?;
    crowd.leave(30..40).await;
    let id = api.broadcast_with(&json!({ "payload": "a mistake", "users_per_second": 5 })).await?;
    seen_by(&crowd, &id, 8).await?;
    stack.api_of(1).recall(&id).await?;
    let seen = stands_still(&crowd, &id).await?;
    ensure!((8..30).contains(&seen), "{seen}");
    eventually("who has it is told", Duration::from_secs(10), async || {
        let told = crowd.recalled(&id);
        ensure!(told as usize >= seen, "{told} of {seen}");
        Ok(())
    })
    .await?;
    // Who comes now does not get it.
    crowd.come(30..40).await?;
    let state = api.state_shows(&id, &json!({ "state": "recalled", "acked": seen })).await?;
    ensure!(state["recalled"] == true && state["stored"] == 0, "{state}");
    ensure!(crowd.seen(&id).len() == seen, "somebody got it after it was recalled");
    Ok(())
}

/// Half of the devices take what comes and say nothing. So the job gets slower, stops, and says why; when they answer again
/// somebody lets it go on.
async fn a_broadcast_that_is_not_acked_slows_and_pauses_by_itself(stack: &mut Stack) -> anyhow::Result<()> {
    const USERS: usize = 160;
    let api = stack.api();
    let crowd = Crowd::gather(stack, "user", USERS).await?;
    crowd.read(0..USERS / 2, false);
    let body = json!({ "payload": "hm", "users_per_second": 5, "feedback": { "min_ack_ratio": 0.9 } });
    let id = api.broadcast_with(&body).await?;
    // Twenty of them are evidence, ten seconds after they were sent to.
    let look = async |what: &str, state: &str, why: &str| {
        eventually(what, Duration::from_secs(45), async || {
            let now = api.state(&id).await?;
            let told = now["why"].as_str().unwrap_or_default();
            ensure!(now["state"] == state && told.starts_with(why), "{now}");
            ensure!(told.contains("have acked after 10 s; the bound is 0.9"), "{now}");
            Ok(now)
        })
        .await
    };
    let slowed = look("it slows", "running", "slowed to ").await?;
    let speed = slowed["users_per_second"].as_u64().context("no speed")?;
    ensure!((1..5).contains(&speed) && slowed["users_per_second_asked"] == 5, "{slowed}");
    let paused = look("it pauses", "paused", "paused: ").await?;
    println!("{}", paused["why"]);
    let released = paused["released"].as_f64().unwrap_or(1.0);
    ensure!((0.1..0.9).contains(&released), "{paused}");
    stands_still(&crowd, &id).await?;
    ensure!(api.state(&id).await?["released"] == paused["released"], "{paused}");

    crowd.read(0..USERS / 2, true);
    let go_on = json!({ "action": "resume", "users_per_second": 500 });
    let resumed = stack.api_of(1).control(&id, &go_on).await?;
    ensure!(resumed["state"] == "running", "{resumed}");
    crowd.expect(&id, USERS).await?;
    api.state_shows(&id, &json!({ "state": "done", "acked": USERS, "stored": 0 })).await?;
    Ok(())
}

/// The states that a watch tells, to its end.
async fn watched(api: &ApiClient, id: &str) -> anyhow::Result<Vec<Value>> {
    let mut response = api.request(Method::GET, &format!("/v1/broadcasts/{id}/events")).send().await?;
    ensure!(response.status().is_success(), "{}", response.status());
    let kind =
        response.headers().get("content-type").map(|kind| kind.as_bytes().to_vec()).unwrap_or_default();
    ensure!(kind.starts_with(b"text/event-stream"), "{kind:?}");
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        text.extend_from_slice(&chunk);
    }
    let text = String::from_utf8(text)?;
    let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
    data.map(|json| serde_json::from_str(json.trim()).with_context(|| json.to_owned())).collect()
}

async fn progress_is_streamed_to_the_end(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let crowd = Crowd::gather(stack, "user", 40).await?;
    let id = api.broadcast_with(&json!({ "payload": "watched", "users_per_second": 20 })).await?;
    let grpc = async {
        let addresses = stack.addresses();
        // The other center, whether it runs the job or not.
        let url = addresses.api.last().context("no center")?;
        let api = Api::connect(url, &addresses.key, "demo").await.map_err(|e| anyhow::anyhow!("{e}"))?;
        let request = GetBroadcastRequest { id: id.parse()?, ..Default::default() };
        let mut stream = api.push().watch_broadcast(request).await?.into_inner();
        let mut states = vec![];
        while let Some(state) = stream.message().await? {
            states.push(state);
        }
        anyhow::Ok(states)
    };
    let (events, states) = tokio::join!(watched(&api, &id), grpc);
    let (events, states) = (events?, states?);
    ensure!(events.len() >= 3 && states.len() >= 3, "{} events, {} states", events.len(), states.len());
    let released: Vec<_> = events.iter().filter_map(|e| e["released"].as_f64()).collect();
    ensure!(released.is_sorted() && released.len() == events.len(), "{released:?}");
    ensure!(events[0]["state"] == "running" && released[0] < 0.9, "{}", events[0]);
    let last = events.last().context("no event")?;
    ensure!(last["state"] == "done" && last["released"] == 1.0, "{last}");
    ensure!(states.last().is_some_and(|s| s.state == "done" && s.released == 1.0), "{:?}", states.last());
    crowd.expect(&id, 40).await?;
    // What has ended is told once.
    let again = watched(&api, &id).await?;
    ensure!(again.len() == 1 && again[0]["state"] == "done", "{again:?}");
    let (status, _) = api.get("/v1/broadcasts/1/events").await?;
    ensure!(status == StatusCode::NOT_FOUND, "{status}");
    Ok(())
}

/// Everybody comes back at once to a log that has grown: the savers are asked by the rooms, and not by the devices. Rooms that were
/// there remember what came meanwhile; those that have just started have to load it.
async fn a_reconnect_storm_reads_the_log_once_a_room(stack: &mut Stack) -> anyhow::Result<()> {
    // In one process both ends of a connection count as open files.
    let users = if stack.shape() == Shape::Cluster { 15_000 } else { 3_000 };
    let api = stack.api();
    let mut crowd = Crowd::gather(stack, "user", users).await?;
    let pages = async |stack: &Stack| stack.metric("longwire_saver_log_pages_total", "").await;
    for restarts in [false, true] {
        crowd.leave(0..users).await;
        let mut ids = vec![];
        for n in 0..10 {
            ids.push(api.broadcast(&format!("number {n}"), "").await?);
        }
        if restarts {
            stack.restart().await?;
        }
        let before = pages(stack).await?;
        let begun = Instant::now();
        crowd.come(0..users).await?;
        println!("{users} are back after {:?}", begun.elapsed());
        for id in &ids {
            crowd.expect(id, users).await?;
            api.state_shows(id, &json!({ "acked": users, "stored": 0 })).await?;
        }
        let rooms = stack.rooms().await?.len() as u64;
        let read = pages(stack).await? - before;
        println!("restarted: {restarts}; {read} pages for {rooms} rooms");
        // A room finds the new ones by itself too, several at a time.
        ensure!(read <= rooms * 3, "{read} pages for {rooms} rooms");
        ensure!(!restarts || read >= 1, "nobody has loaded anything: this counts something else");
    }
    Ok(())
}
