//! Users, tokens, apps, and the document.

use super::*;

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

    // Clients are generated with one function for each name, so no two operations share one.
    let items = document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap());
    let mut names: Vec<&str> =
        items.map(|(_, operation)| operation["operationId"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");

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
