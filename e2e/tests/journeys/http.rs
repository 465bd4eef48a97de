//! The HTTP API with callers who get it wrong, and its own description.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::{Stack, TestDevice, eventually};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

crate::journeys! {
    wrong_requests_are_told_what_is_wrong,
    keys_open_only_their_own_doors,
    an_app_over_its_rate_is_told_when_to_come_back,
    the_api_describes_itself,
}

/// Sends `body` as it is and expects this status, code and field.
async fn refused(
    stack: &Stack,
    path: &str,
    body: impl Into<reqwest::Body>,
    (status, code, field): (u16, &str, Option<&str>),
) -> anyhow::Result<Value> {
    let api = stack.api();
    let (got, answer) = api.send(api.request(Method::POST, path).body(body)).await?;
    let error = &answer["error"];
    ensure!(got.as_u16() == status && error["code"] == code, "{path}: {got} {answer}, not {status} {code}");
    ensure!(error["field"].as_str() == field, "{path}: {answer}, not field {field:?}");
    ensure!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "no message: {answer}");
    Ok(answer)
}

async fn wrong_requests_are_told_what_is_wrong(stack: &mut Stack) -> anyhow::Result<()> {
    let mut healthy = TestDevice::bound(stack, "healthy").await?;
    let invalid = |field| (400, "invalid", Some(field));
    let malformed = (400, "malformed", None);
    let answer = refused(
        stack,
        "/v1/push",
        r#"{"app":"foo","uid":"a","payload":"x"}"#,
        (404, "unknown_app", Some("app")),
    );
    ensure!(answer.await?["error"]["message"] == "app \"foo\" is not known", "the app is not named");
    for (body, field) in [
        (r#"{"uid":"","payload":"x"}"#.to_owned(), "uid"),
        (format!(r#"{{"uid":"{}","payload":"x"}}"#, "u".repeat(129)), "uid"),
        (r#"{"payload":"x"}"#.to_owned(), "uid"),
        (r#"{"uid":7,"payload":"x"}"#.to_owned(), "uid"),
        (r#"{"uid":"a"}"#.to_owned(), "payload"),
        (r#"{"uid":"a","payload":"x","payload_base64":"eA=="}"#.to_owned(), "payload"),
        (r#"{"uid":"a","payload_base64":"?"}"#.to_owned(), "payload_base64"),
        (r#"{"uid":"a","payload":"x","ttl_s":0}"#.to_owned(), "ttl_s"),
        (r#"{"uid":"a","payload":"x","ttl_s":-1}"#.to_owned(), "ttl_s"),
        (r#"{"uid":"a","payload":"x","ttl_s":4000000000}"#.to_owned(), "ttl_s"),
        (r#"{"uid":"a","payload":"x","tll_s":5}"#.to_owned(), "tll_s"),
        (r#"{"uid":"a","payload":"x","transient":"yes"}"#.to_owned(), "transient"),
    ] {
        refused(stack, "/v1/push", body, invalid(field)).await?;
    }
    // 128 bytes are a name, in characters of several bytes too.
    let longest = json!({ "uid": "ä".repeat(64), "payload": "x" });
    stack.api().told(stack.api().post("/v1/push", &longest).await?)?;
    for (path, body, field) in [
        ("/v1/multicast", r#"{"uids":[],"payload":"x"}"#, "uids"),
        ("/v1/multicast", r#"{"uids":["a",7],"payload":"x"}"#, "uids[1]"),
        ("/v1/multicast", r#"{"uids":["a",""],"payload":"x"}"#, "uids[1]"),
        ("/v1/broadcasts", r#"{"payload":"x","audience":"ios and"}"#, "audience"),
        ("/v1/tokens", r#"{"uid":""}"#, "uid"),
        ("/v1/apps", r#"{"app":"No Good"}"#, "app"),
        ("/v1/apps", r#"{"app":"good","state_url":"ftp://x"}"#, "state_url"),
        ("/v1/apps/demo/keys", r#"{"scopes":["root"]}"#, "scopes"),
    ] {
        refused(stack, path, body, invalid(field)).await?;
    }
    for body in ["", "{", "uid=alice&payload=x", "[]", "\u{0}\u{1}"] {
        refused(stack, "/v1/push", body, malformed).await?;
    }
    refused(stack, "/v1/push", vec![0xff, 0xfe, 0x00], malformed).await?;
    let over = json!({ "uid": "a", "payload": "x".repeat(65_537) }).to_string();
    refused(stack, "/v1/push", over, (413, "payload_too_large", Some("payload"))).await?;
    refused(stack, "/v1/push", vec![b' '; 2 << 20], (413, "body_too_large", None)).await?;
    refused(stack, "/v1/apps", r#"{"app":"demo"}"#, (409, "app_exists", Some("app"))).await?;
    refused(stack, "/v1/nothing", "", (404, "no_route", None)).await?;
    let (status, body) = stack.api().get("/v1/push").await?;
    ensure!(status == 405 && body["error"]["code"] == "no_method", "{status} {body}");
    let (status, body) = stack.api().get("/v1/messages/abc").await?;
    ensure!(status == 400 && body["error"]["field"] == "id", "{status} {body}");
    let api = stack.api();
    let long_key = api.request(Method::POST, "/v1/push").header("Idempotency-Key", "k".repeat(129));
    let (status, body) = api.send(long_key.json(&json!({ "uid": "a", "payload": "x" }))).await?;
    ensure!(status == 400, "{status} {body}");

    // Nobody else noticed.
    api.push("healthy", "still well").await?;
    healthy.expect_text("still well").await?;
    Ok(())
}

async fn keys_open_only_their_own_doors(stack: &mut Stack) -> anyhow::Result<()> {
    let admin = stack.api();
    let bank = stack.create_app("bank", json!({})).await?;
    let code = |(status, body): (StatusCode, Value)| {
        (status.as_u16(), body["error"]["code"].as_str().unwrap_or("").to_owned())
    };
    let push = json!({ "uid": "alice", "payload": "x" });

    let bare =
        e2e::api::http().post(format!("{}/v1/push", stack.addresses().api[0])).json(&push).send().await?;
    ensure!(bare.status() == 401 && bare.headers().contains_key("www-authenticate"), "{bare:?}");
    let wrong = admin.with_key("lwk_00000000000000000000000000000000");
    ensure!(code(wrong.post("/v1/push", &push).await?) == (401, "bad_key".into()), "a made-up key");
    ensure!(code(admin.with_key("").post("/v1/push", &push).await?).0 == 401, "an empty key");

    let of_demo = json!({ "app": "demo", "uid": "alice", "payload": "x" });
    ensure!(
        code(bank.api.post("/v1/push", &of_demo).await?) == (403, "other_app".into()),
        "another app's key"
    );
    ensure!(code(bank.api.get("/v1/users/alice?app=demo").await?).0 == 403, "another app's user");
    // A message of another app is as good as none.
    let id = admin.push("alice", "secret").await?;
    ensure!(code(bank.api.get(&format!("/v1/messages/{id}")).await?).0 == 404, "another app's message");
    ensure!(
        code(bank.api.delete(&format!("/v1/messages/{id}")).await?).0 == 404,
        "took another app's message back"
    );
    ensure!(admin.depth("alice").await? == 1, "it is gone");

    ensure!(code(bank.api.get("/v1/apps").await?) == (403, "missing_scope".into()), "no admin");
    let new_key = async |scope: &str| {
        let made = admin.told(admin.post("/v1/apps/bank/keys", &json!({ "scopes": [scope] })).await?)?;
        anyhow::Ok(admin.with_key(made["key"].as_str().context("no key")?))
    };
    let (reader, pusher) = (new_key("read").await?, new_key("push").await?);
    reader.user("alice").await?;
    ensure!(code(reader.post("/v1/push", &push).await?).0 == 403, "a key to read pushed");
    pusher.push("alice", "x").await?;
    ensure!(code(pusher.get("/v1/users/alice").await?).0 == 403, "a key to push read");
    // A new key works at the other center, too.
    let elsewhere = stack.api_of(1).with_key(&bank.api.key());
    eventually("the new key at the other center", Duration::from_secs(10), async || {
        elsewhere.user("alice").await?;
        Ok(())
    })
    .await
}

async fn an_app_over_its_rate_is_told_when_to_come_back(stack: &mut Stack) -> anyhow::Result<()> {
    let slow = stack.create_app("slow", json!({ "pushes_per_second": 5 })).await?;
    let call = || slow.api.request(Method::POST, "/v1/push").json(&json!({ "uid": "alice", "payload": "x" }));
    let calls = (0..20).map(|_| call().send());
    let mut told = None;
    for response in futures::future::try_join_all(calls).await? {
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            told = Some(response);
        } else {
            ensure!(response.status().is_success(), "{response:?}");
        }
    }
    let told = told.context("20 pushes at once passed at 5 a second")?;
    let after = told.headers().get("retry-after").context("no Retry-After")?.to_str()?.parse::<u64>()?;
    let body: Value = told.json().await?;
    ensure!(body["error"]["code"] == "too_fast" && (1..=2).contains(&after), "after {after} s: {body}");
    ensure!(body["error"]["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0 && ms <= 1_000), "{body}");
    // Another app is not held up; and who waits as told is served.
    stack.api().push("alice", "x").await?;
    tokio::time::sleep(Duration::from_secs(after)).await;
    slow.api.push("alice", "x").await?;
    Ok(())
}

async fn the_api_describes_itself(stack: &mut Stack) -> anyhow::Result<()> {
    let base = &stack.addresses().api[0];
    let document: Value = e2e::api::http().get(format!("{base}/openapi.json")).send().await?.json().await?;
    ensure!(document["openapi"].as_str().is_some_and(|v| v.starts_with("3.")), "{}", document["openapi"]);
    for (path, method) in [
        ("/v1/push", "post"),
        ("/v1/multicast", "post"),
        ("/v1/broadcasts", "post"),
        ("/v1/broadcasts/{id}", "get"),
        ("/v1/messages/{id}", "get"),
        ("/v1/messages/{id}", "delete"),
        ("/v1/users/{uid}", "get"),
        ("/v1/users/{uid}/kick", "post"),
        ("/v1/tokens", "post"),
        ("/v1/apps", "post"),
        ("/v1/apps/{app}", "patch"),
    ] {
        ensure!(document["paths"][path][method].is_object(), "{method} {path} is not described");
    }
    // Every reference leads somewhere.
    let text = document.to_string();
    for reference in text.split(r##""$ref":"#"##).skip(1).filter_map(|rest| rest.split('"').next()) {
        ensure!(document.pointer(reference).is_some(), "nothing at {reference}");
    }
    for path in ["/", "/docs"] {
        let page = e2e::api::http().get(format!("{base}{path}")).send().await?;
        let kind = page.headers()["content-type"].to_str()?.to_owned();
        let html = page.text().await?;
        ensure!(kind.starts_with("text/html") && html.contains("openapi.json"), "{path}: {kind}");
        ensure!(!html.contains("https://cdn"), "the page needs another server");
    }
    // Its example works as it stands.
    let example = &document["components"]["schemas"]["PushBody"]["example"];
    stack.api().told(stack.api().post("/v1/push", example).await?)?;
    Ok(())
}
