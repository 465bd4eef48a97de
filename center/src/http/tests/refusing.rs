//! What is refused, and how callers are told.

use futures::StreamExt as _;

use super::*;

#[tokio::test]
async fn keys_are_checked_before_anything_else() {
    let api = Api::start().await;
    let push = json!({"uid": "a", "payload": "x"});
    let none = api.send(Request::post("/v1/push").body(Body::from(push.to_string())).unwrap()).await;
    assert_eq!(none.error(), (401, "no_key", ""));
    assert_eq!(none.headers["www-authenticate"], "Bearer");
    assert_eq!(
        api.call("lwk_wrong", Method::POST, "/v1/push", json!("?")).await.error(),
        (401, "bad_key", "")
    );
    let reading = api.call(READ_KEY, Method::POST, "/v1/push", push.clone()).await;
    assert_eq!(reading.error(), (403, "missing_scope", ""));
    assert_eq!(api.call(OTHER_KEY, Method::POST, "/v1/push", push).await.status, 200);
    let foreign = json!({"app": "demo", "uid": "a", "payload": "x"});
    assert_eq!(
        api.call(OTHER_KEY, Method::POST, "/v1/push", foreign).await.error(),
        (403, "other_app", "app")
    );
    let unknown = api.post("/v1/push", json!({"app": "foo", "uid": "a", "payload": "x"})).await;
    assert_eq!(unknown.error(), (404, "unknown_app", "app"));
    assert_eq!(unknown.json["error"]["message"], "app \"foo\" is not known");
}

#[tokio::test]
async fn bounds_are_kept_and_named() {
    let api = Api::start().await;
    let large = api.post("/v1/push", json!({"uid": "a", "payload": "x".repeat(65_537)})).await;
    assert_eq!(large.error(), (413, "payload_too_large", "payload"));
    assert_eq!(api.post("/v1/push", json!({"uid": "a", "payload": "x".repeat(65_536)})).await.status, 200);
    let body = api.post("/v1/push", json!({"uid": "a", "payload": "x".repeat(500_000)})).await;
    assert_eq!(body.error(), (413, "body_too_large", ""));
    // Chunked: nobody said how long it would be.
    let chunks =
        futures::stream::repeat_with(|| Ok::<_, std::io::Error>(bytes::Bytes::from(vec![b' '; 65_536])));
    let endless = Request::post("/v1/push").header("authorization", format!("Bearer {DEMO_KEY}"));
    let endless = api.send(endless.body(Body::from_stream(chunks)).unwrap()).await;
    assert_eq!(endless.error(), (413, "body_too_large", ""));
    for (uid, ttl, field) in
        [("", 1, "uid"), (&"u".repeat(129), 1, "uid"), ("a", 0, "ttl_s"), ("a", u32::MAX, "ttl_s")]
    {
        let bad = api.post("/v1/push", json!({"uid": uid, "payload": "x", "ttl_s": ttl})).await;
        assert_eq!(bad.error(), (400, "invalid", field));
    }
    assert_eq!(api.post("/v1/push", json!({"uid": "a", "pay": "x"})).await.error(), (400, "invalid", "pay"));
    assert_eq!(api.center.ops.bodies().held(), 0);
}

/// The answer came while the caller was still sending, and the connection was closed: one in four saw a broken pipe
/// instead of why.
#[tokio::test]
async fn a_body_that_is_too_large_is_read_before_that_is_said() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let api = Api::start().await;
    for (announced, expect) in [(true, false), (false, false), (true, true)] {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let chunks = futures::stream::iter(0..32).map(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok::<_, std::io::Error>(bytes::Bytes::from(vec![b' '; 65_536]))
        });
        let mut request = Request::post("/v1/push").header("authorization", format!("Bearer {DEMO_KEY}"));
        if announced {
            request = request.header("content-length", 2 << 20);
        }
        if expect {
            request = request.header("expect", "100-continue");
        }
        let answer = api.send(request.body(Body::from_stream(chunks)).unwrap()).await;
        assert_eq!(answer.error(), (413, "body_too_large", ""));
        assert_eq!(sent.load(Ordering::SeqCst), if expect { 0 } else { 32 }, "{announced} {expect}");
    }
}

#[tokio::test]
async fn callers_are_told_when_to_come_back() {
    let mut config = Config::default();
    config.new_apps.pushes_per_second = 1;
    let api = Api::with(config).await;
    assert_eq!(api.post("/v1/push", json!({"uid": "a", "payload": "x"})).await.status, 200);
    let slow_down = api.post("/v1/push", json!({"uid": "a", "payload": "x"})).await;
    assert_eq!(slow_down.error(), (429, "too_fast", ""));
    assert_eq!(slow_down.headers["retry-after"], "1");
    assert!(slow_down.json["error"]["retry_after_ms"].as_u64().unwrap() <= 1_000);

    let api = Api::start().await;
    let refusal =
        internal::Refusal { code: "archive_behind".into(), message: "later".into(), retry_after_ms: 1_500 };
    api.center.fakes.state().refuse = Some(refusal);
    let refused = api.post("/v1/push", json!({"uid": "a", "payload": "x"})).await;
    assert_eq!(refused.error(), (429, "archive_behind", ""));
    assert_eq!(
        (&refused.headers["retry-after"], &refused.json["error"]["retry_after_ms"]),
        (&"2".parse().unwrap(), &json!(1_500))
    );

    let api = Api::with(Config { requests_in_flight: 0, ..Config::default() }).await;
    assert_eq!(api.get("/v1/users/a").await.error(), (429, "busy", ""));
    let api = Api::with(Config { body_bytes_in_flight: 10, ..Config::default() }).await;
    assert_eq!(api.post("/v1/push", json!({"uid": "a", "payload": "x"})).await.error(), (429, "busy", ""));
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let api =
        Api::with(Config { body_timeout: std::time::Duration::from_millis(5), ..Config::default() }).await;
    let never = futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
    let request = Request::post("/v1/push").header("authorization", format!("Bearer {DEMO_KEY}"));
    let answer = api.send(request.body(Body::from_stream(never)).unwrap()).await;
    assert_eq!(answer.error(), (408, "body_timeout", ""));
    assert_eq!(api.center.ops.bodies().held(), 0);
}

#[tokio::test]
async fn what_is_not_there_is_said_so() {
    let api = Api::start().await;
    assert_eq!(api.get("/v2/push").await.error(), (404, "no_route", ""));
    assert_eq!(api.get("/v1/push").await.error(), (405, "no_method", ""));
}

#[tokio::test]
async fn bounds_can_be_changed_while_the_center_runs() {
    let api = Api::start().await;
    let push = |bytes: usize| api.post("/v1/push", json!({"uid": "a", "payload": "x".repeat(bytes)}));
    assert_eq!(push(1_000).await.status, 200);
    let old = crate::Config::clone(&api.center.ops.config());
    api.center.ops.apply(crate::Config { payload_max_bytes: 999, ..old.clone() });
    assert_eq!(push(1_000).await.error(), (413, "payload_too_large", "payload"));
    api.center.ops.apply(crate::Config { requests_in_flight: 0, ..old.clone() });
    assert_ne!(push(1).await.status, 200);
    api.center.ops.apply(old);
    assert_eq!(push(1_000).await.status, 200);
}
