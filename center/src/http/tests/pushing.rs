//! Messages: sent, stored once, followed, taken back.

use super::*;

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
    assert_eq!(api.post("/v1/multicast", body).await.error(), (429, "archive_behind", ""));
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
    let targets = api.get(&format!("/v1/messages/{id}/targets")).await;
    assert_eq!(targets.error(), (409, "wrong_state", ""));

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
