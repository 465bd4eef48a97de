use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use proto::internal;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::{
    config::Config,
    testing::{ADMIN_KEY, DEMO_KEY, OTHER_KEY, READ_KEY, TestCenter},
};

struct Api {
    center: TestCenter,
    router: Router,
}

struct Answer {
    status: u16,
    headers: http::HeaderMap,
    json: Value,
}

impl Answer {
    fn error(&self) -> (u16, &str, &str) {
        let error = &self.json["error"];
        (self.status, error["code"].as_str().unwrap_or_default(), error["field"].as_str().unwrap_or_default())
    }
}

impl Api {
    async fn start() -> Api {
        Api::with(Config::default()).await
    }

    async fn with(config: Config) -> Api {
        let center = TestCenter::start(config).await;
        let router = router(Arc::clone(&center.ops));
        Api { center, router }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status: parts.status.as_u16(), headers: parts.headers, json }
    }

    async fn call(&self, key: &str, method: Method, path: &str, body: Value) -> Answer {
        let request =
            Request::builder().method(method).uri(path).header("authorization", format!("Bearer {key}"));
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send(request.body(body).unwrap()).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(DEMO_KEY, Method::POST, path, body).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call(DEMO_KEY, Method::GET, path, Value::Null).await
    }

    async fn push_with_key(&self, idempotency_key: &str, body: Value) -> Answer {
        let request = Request::post("/v1/push")
            .header("authorization", format!("Bearer {DEMO_KEY}"))
            .header("idempotency-key", idempotency_key);
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// Waits for what happens after an answer.
    async fn until(&self, done: impl Fn(&crate::testing::State) -> bool) {
        let wait = async {
            while !done(&self.center.fakes.state()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), wait).await.expect("it happens");
    }
}

#[tokio::test]
async fn a_push_is_stored_answered_and_then_delivered() {
    let api = Api::start().await;
    api.center.fakes.state().online.push("alice".to_owned());
    let answer =
        api.post("/v1/push", json!({"app": "demo", "uid": "alice", "payload": "hello", "ttl_s": 60})).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    assert_eq!(answer.json["outcome"], "stored");
    assert_eq!(answer.json["seq"], 1);
    assert_eq!(answer.json["repeated"], false);
    let id: u64 = answer.json["id"].as_str().unwrap().parse().unwrap();

    api.until(|state| !state.delivered.is_empty()).await;
    let state = api.center.fakes.state();
    let (item, payload) = &state.delivered[0];
    assert_eq!((item.uid.as_str(), item.seq, item.epoch, item.id, item.fence), ("alice", 1, 1, id, 7));
    assert_eq!(payload, b"hello");
    let stored = &state.appended[0];
    assert_eq!(stored.expires_ms - stored.accepted_ms, 60_000);
    assert_eq!((stored.app, stored.inbox_cap, stored.multicast), (1, 1_000, false));
}

#[tokio::test]
async fn payloads_come_as_text_or_base64() {
    let api = Api::start().await;
    for body in [
        json!({"uid": "a", "payload": "\u{0}ÿ"}),
        json!({"uid": "a", "payload_base64": "AMO/"}),
        json!({"uid": "a", "payload_base64": "AMO/AA=="}),
        json!({"uid": "a", "payload_base64": "AMO/AA"}),
    ] {
        assert_eq!(api.post("/v1/push", body).await.status, 200);
    }
    let payloads: Vec<_> = api.center.fakes.state().appended.iter().map(|a| a.payload.clone()).collect();
    assert_eq!(payloads[0], payloads[1]);
    assert_eq!(payloads[2], &[0, 0xc3, 0xbf, 0][..]);
    assert_eq!(payloads[2], payloads[3]);
    for (body, field) in [
        (json!({"uid": "a"}), "payload"),
        (json!({"uid": "a", "payload": "x", "payload_base64": "eA=="}), "payload"),
        (json!({"uid": "a", "payload_base64": "?"}), "payload_base64"),
    ] {
        assert_eq!(api.post("/v1/push", body).await.error(), (400, "invalid", field));
    }
}

#[tokio::test]
async fn transient_messages_go_to_who_is_online_and_are_not_stored() {
    let api = Api::start().await;
    api.center.fakes.state().online.push("alice".to_owned());
    for (uid, outcome) in [("alice", "sent"), ("bob", "offline")] {
        let answer = api.post("/v1/push", json!({"uid": uid, "payload": "hi", "transient": true})).await;
        assert_eq!((answer.status, answer.json["outcome"].as_str()), (200, Some(outcome)));
    }
    let body = json!({"uids": ["alice", "bob"], "payload": "hi", "transient": true});
    let answer = api.post("/v1/multicast", body).await;
    assert_eq!((answer.json["targets"].as_u64(), answer.json["accepted"].as_u64()), (Some(2), Some(1)));
    let keyed = api.push_with_key("k", json!({"uid": "alice", "payload": "hi", "transient": true})).await;
    assert_eq!(keyed.error(), (400, "invalid", "idempotency_key"));
    let state = api.center.fakes.state();
    assert!(state.appended.is_empty());
    assert!(state.delivered.iter().all(|(item, payload)| item.seq == 0 && payload == b"hi"));
    assert_eq!(state.delivered.len(), 2);
}

#[tokio::test]
async fn an_idempotency_key_makes_a_repeat_harmless() {
    let api = Api::start().await;
    let body = json!({"uid": "alice", "payload": "once"});
    let first = api.push_with_key("order-7", body.clone()).await;
    let again = api.push_with_key("order-7", body).await;
    assert_eq!((first.status, again.status), (200, 200));
    assert_eq!(first.json["id"], again.json["id"]);
    assert_eq!(first.json["seq"], again.json["seq"]);
    assert_eq!((&first.json["repeated"], &again.json["repeated"]), (&json!(false), &json!(true)));
    assert_eq!(api.center.fakes.state().inboxes["alice"].len(), 1);

    let other = api.push_with_key("order-7", json!({"uid": "alice", "payload": "twice"})).await;
    assert_eq!(other.error(), (409, "idempotency_key_reused", "Idempotency-Key"));
    let long = api.push_with_key(&"k".repeat(129), json!({"uid": "alice", "payload": "x"})).await;
    assert_eq!(long.error(), (400, "invalid", "idempotency_key"));
}

#[tokio::test]
async fn a_multicast_is_one_message_for_each_different_user() {
    let api = Api::start().await;
    api.center.fakes.state().online.push("bob".to_owned());
    let answer =
        api.post("/v1/multicast", json!({"uids": ["alice", "bob", "alice"], "payload": "all"})).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    assert_eq!((&answer.json["targets"], &answer.json["accepted"]), (&json!(2), &json!(2)));
    assert_eq!(answer.json["failed"], json!([]));
    api.until(|state| !state.delivered.is_empty()).await;

    let id = answer.json["id"].as_str().unwrap();
    let ledger = api.get(&format!("/v1/messages/{id}")).await;
    assert_eq!((&ledger.json["kind"], &ledger.json["targets"]), (&json!("multicast"), &json!(2)));

    assert_eq!(
        api.post("/v1/multicast", json!({"uids": [], "payload": "x"})).await.error(),
        (400, "invalid", "uids")
    );
    let bad = api.post("/v1/multicast", json!({"uids": ["a", ""], "payload": "x"})).await;
    assert_eq!(bad.error(), (400, "invalid", "uids[1]"));
    let many: Vec<_> = (0..10_001).map(|n| format!("user-{n}")).collect();
    let bad = api.post("/v1/multicast", json!({"uids": many, "payload": "x"})).await;
    assert_eq!(bad.error(), (400, "invalid", "uids"));
}

#[tokio::test]
async fn a_shard_that_refuses_costs_a_multicast_only_its_own_users() {
    let api = Api::start().await;
    let second = api.center.add_saver().await;
    let refusal =
        internal::Refusal { code: "archive_behind".into(), message: "later".into(), retry_after_ms: 1_500 };
    second.state().refuse = Some(refusal.clone());
    let uids: Vec<_> = (0..100).map(|n| format!("user-{n}")).collect();
    let body = json!({"uids": uids, "payload": "x"});
    // The center's lines follow the picture of the cluster a moment later.
    let answer = loop {
        let answer = api.post("/v1/multicast", body.clone()).await;
        if answer.json["failed"] != json!([]) {
            break answer.json;
        }
        tokio::task::yield_now().await;
    };
    let failed = answer["failed"].as_array().unwrap();
    assert!(failed.iter().all(|user| user["error"]["code"] == "archive_behind"));
    assert_eq!(failed[0]["error"]["retry_after_ms"], 1_500);
    let accepted = answer["accepted"].as_u64().unwrap();
    assert!(accepted > 0 && accepted + failed.len() as u64 == 100, "{answer}");

    // When nobody at all could be stored for, the call itself has failed.
    api.center.fakes.state().refuse = Some(refusal);
    assert_eq!(api.post("/v1/multicast", body).await.error(), (503, "archive_behind", ""));
}

#[tokio::test]
async fn a_broadcast_goes_into_the_log_and_to_the_rooms_and_tells_its_progress() {
    let api = Api::start().await;
    let answer = api.post("/v1/broadcasts", json!({"payload": "all", "audience": "ios and not beta"})).await;
    assert_eq!((answer.status, &answer.json["bseq"]), (200, &json!(1)));
    api.until(|state| !state.notices.is_empty()).await;
    assert_eq!(api.center.fakes.state().notices[0].audience, "ios and not beta");

    let id = answer.json["id"].as_str().unwrap();
    let progress = api.get(&format!("/v1/broadcasts/{id}")).await.json;
    assert_eq!(
        (&progress["targets"], &progress["sent"], &progress["acked"]),
        (&json!(5), &json!(4), &json!(3))
    );
    assert_eq!((&progress["app"], &progress["recalled"]), (&json!("demo"), &json!(false)));
    let ledger = api.get(&format!("/v1/messages/{id}")).await.json;
    assert_eq!((&ledger["kind"], &ledger["stored"]), (&json!("broadcast"), &json!(2)));

    let recalled = api.call(DEMO_KEY, Method::DELETE, &format!("/v1/messages/{id}"), Value::Null).await;
    assert_eq!(recalled.json, json!({"recalled": 1, "notified": 1}));
    assert!(api.center.fakes.state().recalls[0].uids.is_empty());

    let bad = api.post("/v1/broadcasts", json!({"payload": "x", "audience": "ios and"})).await;
    assert_eq!(bad.error(), (400, "invalid", "audience"));
    let pushed = api.post("/v1/push", json!({"uid": "a", "payload": "x"})).await.json;
    let not_one = api.get(&format!("/v1/broadcasts/{}", pushed["id"].as_str().unwrap())).await;
    assert_eq!(not_one.error(), (404, "unknown_message", "id"));
}

#[tokio::test]
async fn a_recall_empties_inboxes_and_tells_who_may_have_it() {
    let api = Api::start().await;
    let id = api.post("/v1/push", json!({"uid": "alice", "payload": "oops"})).await.json["id"].clone();
    let path = format!("/v1/messages/{}", id.as_str().unwrap());
    assert_eq!(api.get(&path).await.json["stored"], 1);
    let recalled = api.call(DEMO_KEY, Method::DELETE, &path, Value::Null).await;
    assert_eq!(recalled.json, json!({"recalled": 1, "notified": 2}));
    assert_eq!(api.center.fakes.state().recalls[0].uids, ["alice", "reader"]);
    assert_eq!(api.get(&path).await.json["recalled"], 1);
    assert_eq!(api.get("/v1/messages/77").await.error(), (404, "unknown_message", "id"));
    assert_eq!(api.get("/v1/messages/x").await.error(), (400, "invalid", "id"));
}

#[tokio::test]
async fn users_are_shown_and_kicked() {
    let api = Api::start().await;
    api.post("/v1/push", json!({"uid": "Zoë/1", "payload": "x"})).await;
    let offline = api.get("/v1/users/Zo%C3%AB%2F1?app=demo").await;
    assert_eq!(
        offline.json,
        json!({"app": "demo", "uid": "Zoë/1", "online": false, "inbox_depth": 1, "rebuilding": false})
    );
    assert_eq!(api.post("/v1/users/alice/kick", Value::Null).await.json, json!({"was_online": false}));
    api.center.fakes.state().online.push("alice".to_owned());
    let online = api.get("/v1/users/alice").await;
    assert_eq!((&online.json["online"], &online.json["room"]), (&json!(true), &json!(1)));
    assert_eq!(online.json["conn"], json!(u64::MAX.to_string()));
    assert_eq!(api.post("/v1/users/alice/kick", Value::Null).await.json, json!({"was_online": true}));
    assert_eq!(api.get(&format!("/v1/users/{}", "u".repeat(129))).await.error(), (400, "invalid", "uid"));
    assert_eq!(api.get("/v1/users/alice?ap=demo").await.error(), (400, "invalid", "ap"));
}

#[tokio::test]
async fn a_token_is_signed_with_the_apps_secret() {
    let api = Api::start().await;
    let issued = api.post("/v1/tokens", json!({"uid": "alice", "ttl_s": 60})).await;
    assert_eq!(issued.status, 200, "{}", issued.json);
    let secret = api.center.fakes.state().apps[0].token_secret.clone();
    let key = jsonwebtoken::DecodingKey::from_secret(&secret);
    let rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::HS256);
    let token = issued.json["token"].as_str().unwrap();
    let claims = jsonwebtoken::decode::<Value>(token, &key, &rules).unwrap().claims;
    assert_eq!((&claims["app"], &claims["sub"]), (&json!("demo"), &json!("alice")));
    assert_eq!(claims["exp"].as_u64().unwrap() * 1000, issued.json["expires_ms"].as_u64().unwrap());
    assert_eq!(
        api.post("/v1/tokens", json!({"uid": "a", "ttl_s": 0})).await.error(),
        (400, "invalid", "ttl_s")
    );
}

#[tokio::test]
async fn apps_are_created_changed_and_given_keys_by_admins_only() {
    let api = Api::start().await;
    let refused = api.post("/v1/apps", json!({"app": "news"})).await;
    assert_eq!(refused.error(), (403, "missing_scope", ""));
    let admin = |method, path: &'static str, body| api.call(ADMIN_KEY, method, path, body);

    let created = admin(Method::POST, "/v1/apps", json!({"app": "news", "inbox_cap": 5})).await;
    assert_eq!(created.status, 201, "{}", created.json);
    assert_eq!((&created.json["app"], &created.json["inbox_cap"]), (&json!("news"), &json!(5)));
    assert!(created.json["secret"].as_str().unwrap().starts_with("lws_"));
    let key = created.json["key"].as_str().unwrap().to_owned();
    let pushed = api.call(&key, Method::POST, "/v1/push", json!({"uid": "a", "payload": "x"})).await;
    assert_eq!(pushed.status, 200, "the new key works at once: {}", pushed.json);
    assert_eq!(api.center.fakes.state().appended[0].inbox_cap, 5);

    let taken = admin(Method::POST, "/v1/apps", json!({"app": "news"})).await;
    assert_eq!(taken.error(), (409, "app_exists", "app"));
    let bad = admin(Method::POST, "/v1/apps", json!({"app": "No Way"})).await;
    assert_eq!(bad.error(), (400, "invalid", "app"));

    let changed =
        admin(Method::PATCH, "/v1/apps/news", json!({"upstream_url": "https://example.com/up"})).await;
    assert_eq!((changed.status, &changed.json["inbox_cap"]), (200, &json!(5)));
    assert_eq!(
        admin(Method::GET, "/v1/apps/news", Value::Null).await.json["upstream_url"],
        "https://example.com/up"
    );
    assert_eq!(admin(Method::GET, "/v1/apps", Value::Null).await.json["apps"].as_array().unwrap().len(), 3);
    assert_eq!(admin(Method::GET, "/v1/apps/nope", Value::Null).await.error(), (404, "unknown_app", "app"));
    let bad = admin(Method::PATCH, "/v1/apps/news", json!({"state_url": "ftp://x"})).await;
    assert_eq!(bad.error(), (400, "invalid", "state_url"));

    let made = admin(Method::POST, "/v1/apps/news/keys", json!({"scopes": ["read"]})).await;
    assert_eq!(made.status, 201);
    let reader = made.json["key"].as_str().unwrap();
    let refused = api.call(reader, Method::POST, "/v1/push", json!({"uid": "a", "payload": "x"})).await;
    assert_eq!(refused.error(), (403, "missing_scope", ""));
    let bad = admin(Method::POST, "/v1/apps/news/keys", json!({"scopes": ["root"]})).await;
    assert_eq!(bad.error(), (400, "invalid", "scopes"));
}

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
    assert_eq!(refused.error(), (503, "archive_behind", ""));
    assert_eq!(
        (&refused.headers["retry-after"], &refused.json["error"]["retry_after_ms"]),
        (&"2".parse().unwrap(), &json!(1_500))
    );

    let api = Api::with(Config { requests_in_flight: 0, ..Config::default() }).await;
    assert_eq!(api.get("/v1/users/a").await.error(), (503, "busy", ""));
    let api = Api::with(Config { body_bytes_in_flight: 10, ..Config::default() }).await;
    assert_eq!(api.post("/v1/push", json!({"uid": "a", "payload": "x"})).await.error(), (503, "busy", ""));
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
async fn the_document_has_every_route_and_the_page_is_served() {
    let api = Api::start().await;
    let document = api.get("/openapi.json").await.json;
    let mut documented: Vec<String> = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        documented.extend(item.as_object().unwrap().keys().map(|method| format!("{method} {path}")));
    }
    let mut served: Vec<String> = Vec::new();
    for route in ROUTES {
        served.extend(route.methods.iter().map(|method| format!("{method} {}", route.path)));
    }
    documented.sort();
    served.sort();
    assert_eq!(documented, served);

    // And each of them is really there: nothing answers that there is no such route or method.
    for route in ROUTES {
        for method in route.methods {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let path = route.path.replace(['{', '}'], "");
            let answer = api.call(DEMO_KEY, method, &path, Value::Null).await;
            let error = answer.error();
            assert!(!matches!(error.1, "no_route" | "no_method"), "{} {error:?}", route.path);
        }
    }
    // Every reference leads somewhere.
    let text = document.to_string();
    for name in text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
    let security = &document["paths"]["/v1/push"]["post"]["security"];
    assert_eq!(security, &json!([{"app_key": []}]));

    for path in ["/", "/docs"] {
        let page = api.router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(page.status(), StatusCode::OK);
        assert!(page.headers()["content-type"].to_str().unwrap().starts_with("text/html"));
        let html = page.into_body().collect().await.unwrap().to_bytes();
        let html = std::str::from_utf8(&html).unwrap();
        // It works without a network: nothing is fetched from elsewhere.
        assert!(!html.contains("src=") && !html.contains("https://") && !html.contains("http://"));
    }
}

/// A batch holds the state of a thousand pushes at once: what each needs is a matter of memory and of copying.
#[tokio::test]
async fn the_state_of_a_push_stays_small() {
    let api = Api::start().await;
    let caller =
        api.center.ops.authenticate(Some(&format!("Bearer {DEMO_KEY}").parse().unwrap())).await.unwrap();
    let push = api.center.ops.push(&caller, proto::v1::PushRequest::default());
    let bytes = std::mem::size_of_val(&push);
    assert!(bytes < 3_000, "{bytes}");
}
