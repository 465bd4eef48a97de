//! What is sent later: at a moment, and when a clock on the device's wall shows a time.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use e2e::{Profile, Stack, TestDevice, eventually};
use reqwest::StatusCode;
use serde_json::{Value, json};

crate::journeys! {
    a_push_comes_at_its_time_or_is_cancelled,
    a_local_time_comes_on_each_device_by_its_own_clock,
    what_is_scheduled_survives_a_restart_of_everything,
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn id(answer: &Value) -> anyhow::Result<String> {
    answer["id"].as_str().map(str::to_owned).with_context(|| format!("no id: {answer}"))
}

/// `2026-11-21T09:00` of a clock that shows UTC, so many minutes from now.
fn clock(minutes: i64) -> String {
    let at = i64::try_from(now_ms() / 60_000).unwrap_or(0) + minutes;
    // Days to a date of the calendar, as everybody computes it: years that begin in March.
    let (days, of_day) = (at.div_euclid(1_440), at.rem_euclid(1_440));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}", of_day / 60, of_day % 60)
}

async fn a_push_comes_at_its_time_or_is_cancelled(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let mut alice = TestDevice::bound(stack, "alice").await?;
    // Before that all is asked for, listed, and one taken back.
    let at = now_ms() + 5_000;
    let when = |text: &str, at: u64| json!({ "uid": "alice", "payload": text, "when": { "at_ms": at } });
    let later = api.told(api.post("/v1/push", &when("later", at)).await?)?;
    ensure!(later["outcome"] == "scheduled", "{later}");
    let never = api.told(api.post("/v1/push", &when("never", at + 2_000)).await?)?;
    let list = json!({ "uids": ["alice", "bob"], "payload": "to both", "when": { "at_ms": at + 1_000 } });
    let both = api.told(api.post("/v1/multicast", &list).await?)?;

    let listed = stack.api_of(1).told(stack.api_of(1).get("/v1/scheduled").await?)?;
    let waits: Vec<_> = listed["scheduled"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|s| (s["id"].clone(), s["kind"].clone(), s["due_ms"].as_u64(), s["targets"].as_u64()))
        .collect();
    let expected = [
        (later["id"].clone(), json!("unicast"), Some(at), Some(1)),
        (both["id"].clone(), json!("multicast"), Some(at + 1_000), Some(2)),
        (never["id"].clone(), json!("unicast"), Some(at + 2_000), Some(1)),
    ];
    ensure!(waits == expected, "{listed}");
    let cancel = async |id: &str| stack.api_of(1).delete(&format!("/v1/scheduled/{id}")).await;
    let cancelled = api.told(cancel(&id(&never)?).await?)?;
    ensure!(cancelled["cancelled"] == 1, "{cancelled}");

    let got = alice.expect_text("later").await?;
    let late = i64::try_from(now_ms())? - i64::try_from(at)?;
    println!("{late} ms late");
    // It is accepted at its time, and its life begins then.
    ensure!((0..3_000).contains(&late) && got.id.to_string() == id(&later)?, "{late} ms, {got:?}");
    alice.expect_text("to both").await?;
    api.depth_becomes("bob", 1).await?;
    let ledger = api.ledger(&id(&both)?).await?;
    ensure!(ledger["targets"] == 2 && ledger["kind"] == "multicast", "{ledger}");
    // It is taken off the list after it was sent.
    eventually("nothing waits", Duration::from_secs(5), async || {
        let listed = api.told(api.get("/v1/scheduled").await?)?;
        ensure!(listed["scheduled"].as_array().is_some_and(Vec::is_empty), "{listed}");
        Ok(())
    })
    .await?;
    let past = (at + 2_500).saturating_sub(now_ms());
    alice.expect_nothing(Duration::from_millis(past.max(300))).await?;

    for (when, field) in [
        (json!({ "local_time": "25:00" }), "local_time"),
        (json!({ "local_time": "09:00", "time_zone": "Mars/Olympus" }), "time_zone"),
        (json!({ "at_ms": 1_000 }), "at_ms"),
        (json!({ "at_ms": now_ms() + 1_000, "local_time": "09:00" }), "when"),
    ] {
        let body = json!({ "uid": "alice", "payload": "x", "when": when });
        let (status, answer) = api.post("/v1/push", &body).await?;
        let blamed = answer["error"]["field"].as_str().unwrap_or_default().contains(field);
        ensure!(status == StatusCode::BAD_REQUEST && blamed, "{body}: {status} {answer}");
    }
    let (status, answer) = cancel("1").await?;
    ensure!(status == StatusCode::NOT_FOUND || answer["cancelled"] == 0, "{status} {answer}");
    Ok(())
}

/// Both messages are due on a clock that shows an hour from now in UTC: it has shown that in the east, and has not in the west.
async fn a_local_time_comes_on_each_device_by_its_own_clock(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let at = |minutes: i16| Profile { utc_offset_min: Some(minutes), ..Profile::default() };
    let mut east = TestDevice::bound_as(stack, "east", &at(345)).await?;
    let mut west = TestDevice::bound_as(stack, "west", &at(-480)).await?;
    // The saver writes down where a device's clock stands with what else there is to write; nothing shows that it has.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let due = json!({ "local_time": clock(60), "time_zone": "device" });
    let broadcast = json!({ "payload": "good morning", "start": due });
    let broadcast = api.broadcast_with(&broadcast).await?;
    for uid in ["east", "west"] {
        let body = json!({ "uid": uid, "payload": format!("good morning, {uid}"), "when": due });
        let answer = api.told(api.post("/v1/push", &body).await?)?;
        ensure!(answer["outcome"] == "scheduled", "{answer}");
    }
    east.expect_broadcast("good morning").await?;
    east.expect_text("good morning, east").await?;
    west.expect_nothing(Duration::from_secs(1)).await?;
    api.state_shows(&broadcast, &json!({ "state": "running", "acked": 1 })).await?;
    eventually("the west's waits", Duration::from_secs(5), async || {
        let listed = api.told(api.get("/v1/scheduled").await?)?;
        ensure!(listed["scheduled"].as_array().is_some_and(|all| all.len() == 1), "{listed}");
        Ok(())
    })
    .await?;

    // A named zone and UTC have one moment for all.
    let named = json!({ "local_time": clock(60), "time_zone": "Etc/GMT-1" });
    let body = json!({ "uid": "west", "payload": "one o'clock", "when": named });
    api.told(api.post("/v1/push", &body).await?)?;
    west.expect_text("one o'clock").await?;
    west.expect_nothing(Duration::from_millis(100)).await
}

async fn what_is_scheduled_survives_a_restart_of_everything(stack: &mut Stack) -> anyhow::Result<()> {
    let (push, broadcast, paused) = {
        let api = stack.api();
        let mut alice = TestDevice::bound(stack, "alice").await?;
        let at = now_ms() + 6_000;
        let push = json!({ "uid": "alice", "payload": "a push", "when": { "at_ms": at } });
        let push = id(&api.told(api.post("/v1/push", &push).await?)?)?;
        let broadcast = json!({ "payload": "a broadcast", "start": { "at_ms": at } });
        let broadcast = api.broadcast_with(&broadcast).await?;
        let state = api.state(&broadcast).await?;
        ensure!(state["state"] == "scheduled" && state["starts_ms"] == at, "{state}");
        let paused = api.broadcast_with(&json!({ "payload": "paused", "users_per_second": 1 })).await?;
        api.control(&paused, &json!({ "action": "pause" })).await?;
        alice.expect_nothing(Duration::from_millis(100)).await?;
        alice.close().await;
        (push, broadcast, paused)
    };
    stack.restart().await?;
    let api = stack.api();
    let mut alice = TestDevice::bound(stack, "alice").await?;
    let text = alice.expect_text("a push").await?;
    ensure!(text.id.to_string() == push, "{text:?}");
    let came = alice.expect_broadcast("a broadcast").await?;
    ensure!(came.id.to_string() == broadcast, "{came:?}");
    let state = api.state(&paused).await?;
    ensure!(state["state"] == "paused", "{state}");
    api.control(&paused, &json!({ "action": "resume", "users_per_second": 0 })).await?;
    alice.expect_broadcast("paused").await?;
    alice.expect_nothing(Duration::from_millis(300)).await?;
    api.state_shows(&broadcast, &json!({ "state": "done", "acked": 1 })).await?;
    Ok(())
}
