//! Messages for later: kept, listed, taken back.

use super::*;

const DAY: u64 = 86_400_000;

impl Api {
    fn kept(&self) -> Vec<internal::ScheduledPush> {
        self.center.fakes.state().schedule.parts.values().cloned().collect()
    }
}

#[tokio::test]
async fn a_push_for_later_is_kept() {
    let api = Api::start().await;
    let due = cluster::now_ms() + DAY;
    let body = json!({"uid": "alice", "payload": "hello", "ttl_s": 60, "priority": "urgent", "collapse_key": "k",
        "when": {"at_ms": due}});
    let answer = api.push_with_key("once", body.clone()).await;
    assert_eq!(
        (answer.status, &answer.json["outcome"], &answer.json["seq"]),
        (200, &json!("scheduled"), &json!(0))
    );
    let id: u64 = answer.json["id"].as_str().unwrap().parse().unwrap();
    let kept = api.kept();
    let [one] = kept.as_slice() else { panic!("{kept:?}") };
    assert_eq!((one.id, one.due_ms, one.ttl_ms, one.local_minutes), (id, due, 60_000, None));
    assert_eq!((one.uids.as_slice(), one.urgent, one.multicast), (&["alice".to_owned()][..], true, false));
    assert_eq!((one.collapse_key.as_str(), &*one.payload), ("k", &b"hello"[..]));
    assert!(api.center.fakes.state().appended.is_empty());

    let again = api.push_with_key("once", body.clone()).await;
    assert_eq!((&again.json["id"], &again.json["repeated"]), (&answer.json["id"], &json!(true)));
    assert_eq!(api.kept().len(), 1);
    let mut other = body;
    other["when"]["at_ms"] = (due + 1).into();
    assert_eq!(api.push_with_key("once", other).await.error().1, "idempotency_key_reused");
}

#[tokio::test]
async fn what_is_due_already_is_sent_at_once() {
    let api = Api::start().await;
    let due = cluster::now_ms() - 60_000;
    let answer =
        api.post("/v1/push", json!({"uid": "a", "payload": "x", "ttl_s": 90, "when": {"at_ms": due}})).await;
    assert_eq!(answer.json["outcome"], "stored");
    assert_eq!(
        api.center.fakes.state().appended[0].expires_ms,
        due + 90_000,
        "its life began when it was due"
    );
}

#[tokio::test]
async fn errors_name_the_field_of_what_is_wrong() {
    let api = Api::start().await;
    for (field, value, blamed) in [
        ("when", json!({"at_ms": 7}), "when.at_ms"),
        // In JSON nothing stands for "now" but leaving it out: a zero and an empty text once sent at once.
        ("when", json!({"at_ms": 0}), "when.at_ms"),
        ("when", json!({"local_time": ""}), "when.local_time"),
        ("when", json!({"local_time": "9"}), "when.local_time"),
        ("when", json!({"local_time": "09:00", "time_zone": "Nowhere/Land"}), "when.time_zone"),
        ("when", json!({"at": 7}), "when.at"),
        ("priority", json!("high"), "priority"),
        ("collapse_key", json!("x".repeat(65)), "collapse_key"),
    ] {
        let mut body = json!({"uid": "a", "payload": "x"});
        body[field] = value;
        assert_eq!(api.post("/v1/push", body.clone()).await.error(), (400, "invalid", blamed));
        body["uids"] = json!(["a"]);
        body.as_object_mut().unwrap().remove("uid");
        assert_eq!(api.post("/v1/multicast", body).await.error(), (400, "invalid", blamed));
    }
    let body = json!({"uid": "a", "payload": "x", "transient": true, "collapse_key": "k"});
    assert_eq!(api.post("/v1/push", body).await.error(), (400, "invalid", "collapse_key"));
}

#[tokio::test]
async fn lists_for_later_are_kept_in_parts_and_listed_as_one() {
    let api = Api::start().await;
    let due = cluster::now_ms() + DAY;
    let uids: Vec<_> = (0..2_500).map(|n| format!("user-{n}")).collect();
    let body = json!({"uids": uids, "payload": "x", "when": {"at_ms": due}});
    let many = api.post("/v1/multicast", body).await;
    assert_eq!((&many.json["scheduled"], &many.json["accepted"]), (&json!(true), &json!(2_500)));
    let text = json!({"payload": "x", "when": {"at_ms": due - 1}}).to_string() + "\n\"a\"\n\"b\"";
    let request = Request::post("/v1/multicasts").header("authorization", format!("Bearer {DEMO_KEY}"));
    let streamed = api.send(request.body(Body::from(text)).unwrap()).await;
    assert_eq!(streamed.json["scheduled"], true, "{}", streamed.json);
    let one = api.post("/v1/push", json!({"uid": "a", "payload": "x", "when": {"at_ms": due + 1}})).await;
    assert_eq!(api.kept().iter().filter(|part| part.multicast).count(), 3 + 1);

    let listed = api.get("/v1/scheduled").await;
    let all = [(&streamed, "multicast", due - 1, 2), (&many, "multicast", due, 2_500), (&one, "unicast", due + 1, 1)]
        .map(|(answer, kind, due_ms, targets)| {
            json!({"id": answer.json["id"], "kind": kind, "due_ms": due_ms, "targets": targets})
        });
    assert_eq!(listed.json["scheduled"], json!(all));
    assert_eq!(api.get("/v1/scheduled?limit=1").await.json["scheduled"].as_array().unwrap().len(), 1);
    assert_eq!(api.get("/v1/scheduled?limit=1001").await.error(), (400, "invalid", "limit"));
    // What is no number is said of its field, as in a body.
    assert_eq!(api.get("/v1/scheduled?limit=-1").await.error(), (400, "invalid", "limit"));
    assert_eq!(api.get("/v1/scheduled?nope=1").await.error(), (400, "invalid", "nope"));

    let path = format!("/v1/scheduled/{}", many.json["id"].as_str().unwrap());
    let read = api.call(READ_KEY, Method::DELETE, &path, Value::Null).await;
    assert_eq!(read.error().1, "missing_scope");
    let cancelled = api.call(DEMO_KEY, Method::DELETE, &path, Value::Null).await;
    assert_eq!(cancelled.json, json!({"cancelled": 2_500}));
    let again = api.call(DEMO_KEY, Method::DELETE, &path, Value::Null).await;
    assert_eq!(again.error(), (404, "unknown_message", "id"));

    let path = format!("/v1/messages/{}", one.json["id"].as_str().unwrap());
    let recalled = api.call(DEMO_KEY, Method::DELETE, &path, Value::Null).await;
    assert_eq!((recalled.status, &recalled.json["recalled"]), (200, &json!(1)), "{}", recalled.json);
    assert_eq!(api.kept().len(), 1);
}
