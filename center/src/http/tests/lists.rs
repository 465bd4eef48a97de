//! Lists of users that are streamed, in and out.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};

use super::*;
use crate::ops::CHUNK_USERS;

/// An app may push to a thousand users a second.
fn slow() -> Config {
    let mut config = Config::default();
    config.new_apps.pushes_per_second = 1_000;
    config
}

fn list(head: &Value, users: impl IntoIterator<Item = String>) -> String {
    let mut text = head.to_string();
    for user in users {
        text += &format!("\n\"{user}\"");
    }
    text
}

fn users(count: usize) -> impl Iterator<Item = String> + Clone {
    (0..count).map(|n| format!("user-{n}"))
}

impl Api {
    async fn stream(&self, key: &str, body: impl Into<Body>) -> Answer {
        let request = Request::post("/v1/multicasts").header("authorization", format!("Bearer {DEMO_KEY}"));
        let request = if key.is_empty() { request } else { request.header("idempotency-key", key) };
        self.send(request.body(body.into()).unwrap()).await
    }

    fn stored(&self) -> usize {
        self.center.fakes.state().inboxes.values().map(Vec::len).sum()
    }
}

#[tokio::test]
async fn a_list_of_any_length_is_stored_and_delivered() {
    let api = Api::start().await;
    api.center.fakes.state().online.extend(users(5_000).step_by(10));
    let head = json!({"payload": "hello", "ttl_s": 60, "collapse_key": "k", "priority": "urgent"});
    // The last is a duplicate far from the first, the one before it of its neighbour.
    let all = users(5_000).chain(["user-4999".to_owned(), "user-0".to_owned()]);
    let answer = api.stream("", list(&head, all)).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    assert_eq!(answer.json["accepted"], 5_001, "{}", answer.json);
    assert_eq!((&answer.json["failures"], &answer.json["scheduled"]), (&json!(0), &json!(false)));
    let id: u64 = answer.json["id"].as_str().unwrap().parse().unwrap();
    api.until(|state| state.delivered.len() >= 500).await;
    let state = api.center.fakes.state();
    assert_eq!(state.inboxes.len(), 5_000);
    assert!(state.inboxes.values().all(|inbox| *inbox == [id]), "each user once");
    for append in &state.appended {
        assert!(append.multicast && append.uids.len() <= CHUNK_USERS, "{}", append.uids.len());
        assert_eq!((append.collapse_key.as_str(), append.expires_ms - append.accepted_ms), ("k", 60_000));
    }
    let item = &state.delivered[0].0;
    assert_eq!((item.collapse_key.as_str(), item.urgent, item.id), ("k", true, id));
}

#[tokio::test]
async fn the_head_and_the_list_are_checked_before_anything_is_stored() {
    let api = Api::start().await;
    let short = Api::with(Config { multicast_stream_max_uids: 3, ..Config::default() }).await;
    for (api, body, error) in [
        (&api, String::new(), (400, "malformed", "")),
        (&api, "\"alice\"".to_owned(), (400, "malformed", "")),
        (&api, json!({"payload": "x"}).to_string(), (400, "invalid", "uids")),
        (&api, json!({"payload": "x", "uids": []}).to_string(), (400, "invalid", "uids")),
        (&api, list(&json!({}), users(1)), (400, "invalid", "payload")),
        (&api, list(&json!({"payload": "x", "priority": "asap"}), users(1)), (400, "invalid", "priority")),
        (
            &api,
            list(&json!({"payload": "x", "collapse_key": "k".repeat(65)}), users(1)),
            (400, "invalid", "collapse_key"),
        ),
        (
            &api,
            list(&json!({"payload": "x", "when": {"at_ms": 1}}), users(1)),
            (400, "invalid", "when.at_ms"),
        ),
        (&api, list(&json!({"payload": "x", "app": "other"}), users(1)), (403, "other_app", "app")),
        (&api, list(&json!({"payload": "x"}), ["a".to_owned(), String::new()]), (400, "invalid", "line 3")),
        (&api, list(&json!({"payload": "x"}), users(1)) + "\nbob\n", (400, "invalid", "line 3")),
        (&short, list(&json!({"payload": "x"}), users(4)), (400, "invalid", "uids")),
    ] {
        let answer = api.stream("", body.clone()).await;
        assert_eq!(answer.error(), error, "{body:.200} {}", answer.json);
        assert_eq!(answer.json["error"]["progress"], Value::Null);
    }
    assert_eq!(api.stored() + short.stored(), 0);
    assert_eq!(api.center.ops.bodies().held(), 0);
    let two = Request::post("/v1/multicasts")
        .header("authorization", format!("Bearer {DEMO_KEY}"))
        .header("idempotency-key", "one")
        .body(Body::from(list(&json!({"payload": "x", "idempotency_key": "two"}), users(1))));
    assert_eq!(api.send(two.unwrap()).await.error(), (400, "invalid", "idempotency_key"));
}

/// A list that breaks off says how far it came; sent again with its key, it goes on, and nobody has the message twice.
#[tokio::test]
async fn a_list_that_broke_off_goes_on() {
    let api = Api::start().await;
    let head = json!({"payload": "hello"});
    let broken = list(&head, users(CHUNK_USERS + 7)) + "\noops\n";
    let answer = api.stream("key", broken).await;
    assert_eq!(answer.error(), (400, "invalid", &*format!("line {}", CHUNK_USERS + 9)));
    let progress = &answer.json["error"]["progress"];
    assert_eq!((progress["targets"].as_u64(), progress["accepted"].as_u64()), (Some(2_000), Some(2_000)));
    assert_eq!(api.stored(), CHUNK_USERS);

    let answer = api.stream("key", list(&head, users(CHUNK_USERS + 7))).await;
    assert_eq!((answer.status, &answer.json["repeated"]), (200, &json!(true)));
    assert_eq!(answer.json["id"], progress["id"]);
    assert_eq!(answer.json["accepted"], CHUNK_USERS + 7);
    assert_eq!(api.stored(), CHUNK_USERS + 7, "each user once");

    let answer = api.stream("key", list(&json!({"payload": "another"}), users(1))).await;
    assert_eq!(answer.error(), (409, "idempotency_key_reused", "Idempotency-Key"));
}

/// The first chunk is refused if the rate is used up, before anything is stored; a list that has begun waits for it.
#[tokio::test]
async fn a_list_goes_at_the_rate_of_its_app() {
    let api = Api::with(slow()).await;
    let head = json!({"payload": "hello"});
    let begun = Instant::now();
    // The first chunk leaves the bucket in debt, the second waits until it is full again.
    let answer = api.stream("", list(&head, users(CHUNK_USERS + 1))).await;
    assert_eq!((answer.status, api.stored()), (200, CHUNK_USERS + 1), "{}", answer.json);
    assert!(begun.elapsed() > Duration::from_millis(800), "{:?}", begun.elapsed());
    let _ = api.stream("", list(&head, users(1_000))).await;
    let answer = api.stream("", list(&head, (0..1_000).map(|n| format!("late-{n}")))).await;
    assert_eq!((answer.status, answer.error().1), (429, "too_fast"));
    assert!(answer.headers.contains_key("retry-after"));
    assert!(!api.center.fakes.state().inboxes.contains_key("late-0"));
}

/// A body is read only as fast as it can be stored: what is under way is bounded, however much comes.
#[tokio::test(start_paused = true)]
async fn a_slow_saver_holds_the_list_back() {
    let api = Api::start().await;
    assert_eq!(api.post("/v1/push", json!({"uid": "a", "payload": "x"})).await.status, 200);
    api.center.fakes.state().append_takes = Duration::from_secs(1);
    let read = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = Arc::clone(&read);
    let head = stream::iter([Ok::<_, Infallible>(Bytes::from("{\"payload\":\"x\"}\n"))]);
    let body = head.chain(stream::iter(0..40_000).map(move |n| {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(Bytes::from(format!("\"user-{n}\"\n")))
    }));
    let answer = api.stream("", Body::from_stream(body));
    tokio::pin!(answer);
    assert!(tokio::time::timeout(Duration::from_millis(500), &mut answer).await.is_err());
    let came = read.load(std::sync::atomic::Ordering::Relaxed);
    assert!((CHUNK_USERS * 4..=CHUNK_USERS * 6).contains(&came), "{came} users were read");
    assert!(api.center.ops.bodies().held() <= 6 << 20, "{}", api.center.ops.bodies().held());
    api.center.fakes.state().append_takes = Duration::ZERO;
    let answer = answer.await;
    assert_eq!(answer.json["accepted"], 40_000, "{}", answer.json);
    assert_eq!(api.center.ops.bodies().held(), 0);
}

/// Who begins a list and sends nothing more is not waited for.
#[tokio::test(start_paused = true)]
async fn a_list_that_stands_still_is_given_up() {
    let api = Api::start().await;
    let text = list(&json!({"payload": "x"}), users(CHUNK_USERS + 1)) + "\n";
    let body = stream::iter([Ok::<_, Infallible>(Bytes::from(text))]).chain(stream::pending());
    let answer = api.stream("", Body::from_stream(body)).await;
    assert_eq!(answer.error().1, "body_timeout");
    assert_eq!(answer.json["error"]["progress"]["accepted"], CHUNK_USERS);
    assert_eq!(api.center.ops.bodies().held(), 0);
}

#[tokio::test(start_paused = true)]
async fn users_that_fail_are_named_up_to_a_thousand_and_counted() {
    let api = Api::start().await;
    let refusal = internal::Refusal { code: "archive_behind".into(), message: "m".into(), retry_after_ms: 0 };
    let other = api.center.add_saver().await;
    other.state().refuse = Some(refusal);
    let answer = api.stream("key", list(&json!({"payload": "x"}), users(4_000))).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    let failures = answer.json["failures"].as_u64().unwrap();
    assert!(failures > 1_500, "{failures}");
    assert_eq!(answer.json["accepted"].as_u64().unwrap() + failures, 4_000);
    assert_eq!(answer.json["failed"].as_array().unwrap().len(), 1_000);
    other.state().refuse = None;
    let answer = api.stream("key", list(&json!({"payload": "x"}), users(4_000))).await;
    assert_eq!(answer.json["accepted"], 4_000);
}

#[tokio::test(start_paused = true)]
async fn a_saver_that_refuses_all_ends_the_list() {
    let api = Api::start().await;
    let refusal = internal::Refusal { code: "archive_behind".into(), message: "m".into(), retry_after_ms: 0 };
    api.center.fakes.state().refuse = Some(refusal);
    let answer = api.stream("", list(&json!({"payload": "x"}), users(50_000))).await;
    assert_eq!(answer.error().1, "archive_behind");
    let targets = answer.json["error"]["progress"]["targets"].as_u64().unwrap();
    assert!((10_000..30_000).contains(&targets), "{targets} were tried");
}

/// A store that answered too late for a moment ended a list of a million users after seconds.
#[tokio::test(start_paused = true)]
async fn a_list_waits_for_a_store_that_has_no_time() {
    let api = Api::start().await;
    let refusal =
        internal::Refusal { code: "archive_behind".into(), message: "m".into(), retry_after_ms: 500 };
    api.center.fakes.state().refuse = Some(refusal);
    let list = api.stream("", list(&json!({"payload": "x"}), users(20_000)));
    let back = async {
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        api.center.fakes.state().refuse = None;
    };
    let (answer, ()) = tokio::join!(list, back);
    assert_eq!((answer.status, answer.json["accepted"].as_u64()), (200, Some(20_000)), "{}", answer.json);
    assert_eq!(api.stored(), 20_000);
}

#[tokio::test]
async fn a_transient_list_goes_to_who_is_online() {
    let api = Api::start().await;
    api.center.fakes.state().online.extend(users(3_000).step_by(3));
    let answer = api.stream("", list(&json!({"payload": "x", "transient": true}), users(3_000))).await;
    assert_eq!((answer.json["accepted"].as_u64(), api.stored()), (Some(1_000), 0), "{}", answer.json);
}

#[tokio::test]
async fn the_users_of_a_message_are_listed_over_all_savers() {
    let api = Api::start().await;
    api.center.add_saver().await;
    let answer = api.stream("", list(&json!({"payload": "x"}), users(3_000))).await;
    let id = answer.json["id"].as_str().unwrap().to_owned();
    let answer = api.get(&format!("/v1/messages/{id}/targets")).await;
    assert_eq!(
        (answer.status, &answer.headers["content-type"]),
        (200, &"application/x-ndjson".parse().unwrap())
    );
    let mut listed: Vec<String> = answer
        .text
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["state"], "stored");
            line["uid"].as_str().unwrap().to_owned()
        })
        .collect();
    listed.sort();
    let mut all: Vec<_> = users(3_000).collect();
    all.sort();
    assert_eq!(listed, all);
    assert_eq!(api.get("/v1/messages/7/targets").await.error(), (404, "unknown_message", "id"));
    let other =
        api.call(OTHER_KEY, Method::GET, &format!("/v1/messages/{id}/targets?app=demo"), Value::Null).await;
    assert_eq!(other.error().1, "other_app");
}

/// The first line may be as long as the largest payload written in six bytes each: many lists that only began held what no bound counted.
#[tokio::test]
async fn the_head_of_a_list_is_counted_while_it_comes() {
    let api = Api::start().await;
    let (began, mut begun) = tokio::sync::mpsc::channel(1);
    let bodies = api.center.ops.bodies().clone();
    let body = stream::iter(["{\"payload\":", "\"x\"}\n\"alice\""]).map(move |part| {
        let _ = began.try_send(bodies.held());
        Ok::<_, Infallible>(Bytes::from(part))
    });
    assert_eq!(api.stream("", Body::from_stream(body)).await.status, 200);
    assert!(begun.recv().await.unwrap() > 0);
    assert_eq!(api.center.ops.bodies().held(), 0);
    let _all = api.center.ops.bodies().take(Config::default().body_bytes_in_flight).unwrap();
    let answer = api.stream("", "{\"payload\":").await;
    assert_eq!(answer.error().1, "busy");
}

/// The message of the list that is being streamed, once its first users have it.
async fn id_of_list(api: &Api) -> u64 {
    api.until(|state| !state.appended.is_empty()).await;
    api.center.fakes.state().appended[0].id
}

/// Of a list that was taken back while it came, users who came after that got the message all the same.
#[tokio::test]
async fn a_list_that_is_taken_back_half_way_goes_no_further() {
    let api = Api::start().await;
    api.center.join().await;
    let other = api.center.another(8).await;
    let router = router(Arc::clone(&other.ops));
    let other = Api { center: other, router };
    for (round, taker) in [&api, &other].into_iter().enumerate() {
        let key = format!("key-{round}");
        api.center.fakes.state().appended.clear();
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let begun = list(&json!({"payload": "x"}), users(CHUNK_USERS)) + "\n";
        let rest = users(2 * CHUNK_USERS).skip(CHUNK_USERS).map(|user| format!("\"{user}\"\n"));
        let rest = Bytes::from(rest.collect::<String>());
        let body = stream::iter([Bytes::from(begun)])
            .chain(stream::once(async move { gone.await.map(|()| rest).unwrap_or_default() }))
            .map(Ok::<_, Infallible>);
        let take = async {
            let id = id_of_list(&api).await;
            let taken =
                taker.call(DEMO_KEY, Method::DELETE, &format!("/v1/messages/{id}"), Value::Null).await;
            assert_eq!(taken.json["recalled"], CHUNK_USERS, "{}", taken.json);
            go.send(()).unwrap();
        };
        let (answer, ()) = tokio::join!(api.stream(&key, Body::from_stream(body)), take);
        assert_eq!((answer.status, answer.error().1), (409, "wrong_state"), "{}", answer.json);
        assert_eq!(answer.json["error"]["progress"]["accepted"], CHUNK_USERS);
        assert!(!answer.json["error"]["message"].as_str().unwrap().contains("goes on"));
        assert_eq!(api.stored(), 0);
        let again = api.stream(&key, list(&json!({"payload": "x"}), users(3))).await;
        assert_eq!((again.error().1, api.stored()), ("wrong_state", 0), "nor does a repeat");
    }
}

/// Users whom a message was just being stored for when it was taken back: their inboxes had been searched before it came.
#[tokio::test(start_paused = true)]
async fn what_is_just_being_stored_is_taken_back_too() {
    let api = Api::start().await;
    assert_eq!(api.post("/v1/push", json!({"uid": "a", "payload": "x"})).await.status, 200);
    api.center.fakes.state().append_takes = Duration::from_secs(1);
    let due = json!({"at_ms": cluster::now_ms() + 60_000});
    let kept = api.post("/v1/multicast", json!({"uids": ["b", "c"], "payload": "x", "when": due})).await;
    let id = kept.json["id"].as_str().unwrap().to_owned();
    let part = api.center.fakes.state().schedule.parts.values().next().unwrap().clone();
    let sending = crate::scheduled::send(&api.center.ops, &part, part.due_ms);
    let taking = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        api.call(DEMO_KEY, Method::DELETE, &format!("/v1/messages/{id}"), Value::Null).await
    };
    let (sent, taken) = tokio::join!(sending, taking);
    assert!(sent);
    assert_eq!((taken.status, &taken.json["recalled"]), (200, &json!(2)), "{}", taken.json);
    assert_eq!(api.stored(), 1, "that to a");
    assert!(!crate::scheduled::send(&api.center.ops, &part, part.due_ms).await, "whoever had read it before");
    assert_eq!(api.stored(), 1);
}

/// Likewise of a schedule that is cancelled: the users of a part that was just being sent were counted as spared.
#[tokio::test(start_paused = true)]
async fn who_is_counted_as_cancelled_gets_nothing() {
    let api = Api::start().await;
    assert_eq!(api.post("/v1/push", json!({"uid": "a", "payload": "x"})).await.status, 200);
    api.center.fakes.state().append_takes = Duration::from_secs(1);
    let due = json!({"at_ms": cluster::now_ms() + 60_000});
    let kept = api.stream("", list(&json!({"payload": "x", "when": due}), users(1_500))).await;
    let id = kept.json["id"].as_str().unwrap().to_owned();
    let part = api.center.fakes.state().schedule.parts.values().next().unwrap().clone();
    let sending = crate::scheduled::send(&api.center.ops, &part, part.due_ms);
    let taking = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        api.call(DEMO_KEY, Method::DELETE, &format!("/v1/scheduled/{id}"), Value::Null).await
    };
    let (sent, taken) = tokio::join!(sending, taking);
    assert!(sent);
    assert_eq!((taken.json["cancelled"].as_u64(), api.stored()), (Some(500), 1_001), "{}", taken.json);
}
