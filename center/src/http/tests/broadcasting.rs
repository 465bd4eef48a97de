//! Broadcasts that are more than one entry of the log.

use http_body_util::BodyExt as _;

use super::*;

#[tokio::test]
async fn a_plain_broadcast_costs_one_job_one_slice_and_one_notice() {
    let api = Api::start().await;
    let send = || async {
        let request = Request::post("/v1/broadcasts")
            .header("authorization", format!("Bearer {DEMO_KEY}"))
            .header("idempotency-key", "once");
        api.send(request.body(Body::from(json!({"payload": "x"}).to_string())).unwrap()).await
    };
    let first = send().await.json;
    assert_eq!(
        (&first["state"], &first["bseq"], &first["repeated"]),
        (&json!("done"), &json!(1), &json!(false))
    );
    let again = send().await.json;
    assert_eq!((&again["id"], &again["bseq"], &again["repeated"]), (&first["id"], &json!(1), &json!(true)));
    let state = api.center.fakes.state();
    assert_eq!(state.jobs.released.len(), 1);
    assert_eq!((state.jobs.calls["put_job"], state.jobs.calls["release_job"]), (2, 2), "two calls each time");
}

#[tokio::test]
async fn what_is_wrong_with_a_broadcast_is_named() {
    let api = Api::start().await;
    for (wrong, field) in [
        (json!({"audience": "a and"}), "audience"),
        (json!({"zones": ["a", ""]}), "zones"),
        (json!({"networks": ["wifi", "pigeon"]}), "networks[1]"),
        (json!({"version_from": "one"}), "version_from"),
        (json!({"version_from": "2.0", "version_below": "1.0"}), "version_below"),
        (json!({"percent": 0}), "percent"),
        (json!({"percent": 101}), "percent"),
        (json!({"users_per_second": -1}), "users_per_second"),
        (json!({"start": {"at_ms": 1, "local_time": "09:00"}}), "start"),
        (json!({"start": {"at_ms": 1}}), "start.at_ms"),
        (json!({"start": {"local_time": "25:00"}}), "start.local_time"),
        (json!({"start": {"local_time": "09:00", "time_zone": "Mars/Olympus"}}), "start.time_zone"),
        (json!({"priority": "higher"}), "priority"),
        (json!({"users_per_second": 5, "feedback": {"min_ack_ratio": 1.1}}), "feedback.min_ack_ratio"),
        (json!({"feedback": {"max_latency_ms": 100}}), "feedback"),
        (json!({"ttl_s": 0}), "ttl_s"),
    ] {
        let mut body = wrong.clone();
        body["payload"] = json!("x");
        for path in ["/v1/broadcasts", "/v1/broadcasts/preview"] {
            assert_eq!(api.post(path, body.clone()).await.error(), (400, "invalid", field), "{wrong}");
        }
    }
    assert!(api.center.fakes.state().jobs.jobs.is_empty());
}

#[tokio::test]
async fn a_job_keeps_what_was_asked_for_and_is_steered() {
    let api = Api::start().await;
    let at_ms = cluster::now_ms() + 3_600_000;
    let body = json!({
        "payload": "x", "zones": ["a"], "networks": ["wifi", "5g", "wifi"], "version_from": "1.2", "percent": 50,
        "users_per_second": 100, "start": {"at_ms": at_ms}, "priority": "urgent", "feedback": {"min_ack_ratio": 0.9},
    });
    let made = api.post("/v1/broadcasts", body).await.json;
    assert_eq!((&made["state"], &made["bseq"]), (&json!("scheduled"), &json!(0)), "{made}");
    let id = made["id"].as_str().unwrap().to_owned();
    let job = api.center.fakes.state().jobs.jobs.values().next().unwrap().clone();
    let filter = job.filter.clone().unwrap();
    assert_eq!(
        (filter.networks, filter.hash_below, filter.zones),
        (vec![2, 6], 1 << 31, vec!["a".to_owned()])
    );
    assert_eq!((job.starts_ms, job.urgent, job.min_ack_ratio), (at_ms, true, 0.9));

    let path = format!("/v1/broadcasts/{id}");
    let act = |action: &str| {
        let (api, path) = (&api, format!("{path}/{action}"));
        async move { api.call(DEMO_KEY, Method::POST, &path, Value::Null).await }
    };
    let resumed = act("resume").await;
    assert_eq!(resumed.error().0, 409);
    assert!(resumed.json["error"]["message"].as_str().unwrap().contains("it can be paused"));
    assert_eq!(act("pause").await.json["state"], "paused");
    assert_eq!(act("pause").await.status, 200, "a repeat is no mistake");
    let patched = api.call(DEMO_KEY, Method::PATCH, &path, json!({"users_per_second": 50})).await.json;
    assert_eq!((&patched["users_per_second"], &patched["state"]), (&json!(50), &json!("paused")));
    let unbounded = api.call(DEMO_KEY, Method::PATCH, &path, json!({"users_per_second": 0})).await;
    assert_eq!(unbounded.error(), (400, "invalid", "users_per_second"));
    let both = json!({"action": "pause", "users_per_second": 60});
    assert_eq!(api.call(DEMO_KEY, Method::PATCH, &path, both).await.json["users_per_second"], 60);
    assert_eq!(act("resume").await.json["state"], "scheduled");
    assert_eq!(api.call(READ_KEY, Method::POST, &format!("{path}/cancel"), Value::Null).await.status, 403);
    assert_eq!(act("cancel").await.json["state"], "cancelled");
    assert_eq!(act("pause").await.error(), (409, "wrong_state", ""));
    let nothing = api.call(DEMO_KEY, Method::PATCH, &path, json!({})).await;
    assert_eq!(nothing.error(), (400, "invalid", "users_per_second"));
    let odd = api.call(DEMO_KEY, Method::PATCH, &path, json!({"action": "explode"})).await;
    assert_eq!(odd.error(), (400, "invalid", "action"));
    assert_eq!(api.call(DEMO_KEY, Method::DELETE, &path, Value::Null).await.status, 200);
    assert_eq!(api.get(&path).await.json["state"], "recalled");
    let unknown = api.call(DEMO_KEY, Method::POST, "/v1/broadcasts/77/pause", Value::Null).await;
    assert_eq!(unknown.error(), (404, "unknown_message", "id"));
}

#[tokio::test]
async fn broadcasts_are_listed_in_pages() {
    let api = Api::start().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        let made = api.post("/v1/broadcasts", json!({"payload": "x"})).await.json;
        ids.insert(0, made["id"].as_str().unwrap().to_owned());
    }
    let page = |query: String| {
        let api = &api;
        async move {
            let page = api.get(&format!("/v1/broadcasts{query}")).await.json;
            let of = |b: &Value| b["id"].as_str().unwrap().to_owned();
            page["broadcasts"].as_array().unwrap().iter().map(of).collect::<Vec<_>>()
        }
    };
    assert_eq!(page(String::new()).await, ids);
    assert_eq!(page("?limit=2".to_owned()).await, ids[..2]);
    assert_eq!(page(format!("?limit=2&before={}", ids[1])).await, ids[2..4]);
    assert_eq!(api.get("/v1/broadcasts?limit=1001").await.error(), (400, "invalid", "limit"));
}

#[tokio::test]
async fn a_preview_counts_and_sends_nothing() {
    let api = Api::start().await;
    api.center.fakes.state().audience = 1_000;
    let body = json!({"payload": "x".repeat(100), "audience": "ios", "users_per_second": 50});
    let preview = api.post("/v1/broadcasts/preview", body).await.json;
    assert_eq!((&preview["users"], &preview["duration_ms"]), (&json!(1_000), &json!(20_000)));
    assert_eq!(preview["zones"], json!([{"zone": "default", "users": 1_000}]));
    let bytes = preview["bytes"].as_u64().unwrap();
    assert!((110_000..150_000).contains(&bytes), "{bytes}");
    {
        let state = api.center.fakes.state();
        assert!(state.jobs.jobs.is_empty() && state.notices.is_empty());
        assert_eq!(state.counted[0].audience, "ios");
    }
    // At a speed it takes five seconds, however few it is for: half a second was told for ten users. A canary has fewer steps.
    api.center.fakes.state().audience = 10;
    for (percent, takes) in [(100, 5_000), (50, 2_500), (1, 500)] {
        let body = json!({"payload": "x", "users_per_second": 20, "percent": percent});
        assert_eq!(api.post("/v1/broadcasts/preview", body).await.json["duration_ms"], takes, "{percent}");
    }
    let at_once = api.post("/v1/broadcasts/preview", json!({"payload": "x"})).await.json;
    assert_eq!(at_once["duration_ms"], 1);
}

#[tokio::test]
async fn progress_is_streamed_until_all_have_acked() {
    let api = Api::start().await;
    let id = api.post("/v1/broadcasts", json!({"payload": "x"})).await.json["id"].clone();
    let path = format!("/v1/broadcasts/{}/events", id.as_str().unwrap());
    let request = Request::get(&path).header("authorization", format!("Bearer {READ_KEY}"));
    let response = api.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let text = String::from_utf8(first.to_vec()).unwrap();
    assert!(text.starts_with("event: state\ndata: {") && text.contains("\"stored\":2"), "{text}");
    drop(body);
    assert_eq!(api.get("/v1/broadcasts/77/events").await.error(), (404, "unknown_message", "id"));

    let mut config = Config::default();
    config.broadcasts.watchers_max = 0;
    let api = Api::with(config).await;
    let id = api.post("/v1/broadcasts", json!({"payload": "x"})).await.json["id"].clone();
    let full = api.get(&format!("/v1/broadcasts/{}/events", id.as_str().unwrap())).await;
    assert_eq!(full.error(), (429, "busy", ""));
}

/// Each of them read the archive four times a second: 200 that came at once were refused, and so was whoever wanted to pause.
#[tokio::test]
async fn many_who_watch_a_broadcast_look_at_it_together() {
    const WATCHERS: usize = 100;
    let api = Api::start().await;
    let later = json!({"payload": "x", "start": {"at_ms": cluster::now_ms() + 60_000}});
    let id = api.post("/v1/broadcasts", later).await.json["id"].clone();
    let path = format!("/v1/broadcasts/{}/events", id.as_str().unwrap());
    let before = api.center.fakes.state().jobs.calls.get("list_jobs").copied().unwrap_or_default();
    let watch = async || {
        let request = Request::get(&path).header("authorization", format!("Bearer {READ_KEY}"));
        let response = api.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let first = response.into_body().frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(first.starts_with(b"event: state\ndata: {"), "{first:?}");
    };
    futures::future::join_all((0..WATCHERS).map(|_| watch())).await;
    let looked = api.center.fakes.state().jobs.calls["list_jobs"] - before;
    assert!(looked < WATCHERS, "each asked by itself: {looked}");
}

#[tokio::test]
async fn more_jobs_than_are_allowed_are_refused_by_name() {
    let mut config = Config::default();
    config.broadcasts.jobs_max = 1;
    let api = Api::with(config).await;
    let later = json!({"payload": "x", "start": {"at_ms": cluster::now_ms() + 60_000}});
    assert_eq!(api.post("/v1/broadcasts", later.clone()).await.status, 200);
    let refused = api.post("/v1/broadcasts", later).await;
    assert_eq!(refused.error(), (429, "busy", ""));
    assert_eq!(refused.json["error"]["message"], "too many broadcasts under way at the moment");
    assert_eq!(
        api.post("/v1/broadcasts", json!({"payload": "x"})).await.status,
        200,
        "a plain one needs no place"
    );
}

/// A broadcast was told as done before any room had heard of it, with nobody in its ledger; who waited for its end read that as the
/// result.
#[tokio::test]
async fn a_broadcast_is_done_when_the_rooms_know_whom_it_is_for() {
    let api = Api::start().await;
    api.center.fakes.state().behind = true;
    let made = api.post("/v1/broadcasts", json!({"payload": "x"})).await.json;
    let path = format!("/v1/broadcasts/{}", made["id"].as_str().unwrap());
    let before = api.get(&path).await.json;
    let told = (&before["state"], &before["released"], &before["ended_ms"], &before["bseq"]);
    assert_eq!(told, (&json!("running"), &json!(1.0), &json!(0), &json!(1)));
    // The list told it as done already.
    let listed = &api.get("/v1/broadcasts").await.json["broadcasts"][0];
    assert_eq!((&listed["state"], &listed["ended_ms"]), (&json!("running"), &json!(0)));
    assert_eq!(api.center.fakes.state().places[0], (1, 1, 1), "the end of the log");
    api.center.fakes.state().behind = false;
    assert_eq!(api.get(&path).await.json["state"], "done");
    assert_eq!(api.get("/v1/broadcasts").await.json["broadcasts"][0]["state"], "done");
    // A room that does not find it in all that time will not be waited for.
    api.center.fakes.state().behind = true;
    for job in api.center.fakes.state().jobs.jobs.values_mut() {
        job.ended_ms -= 15_000;
    }
    assert_eq!(api.get(&path).await.json["state"], "done");
}
