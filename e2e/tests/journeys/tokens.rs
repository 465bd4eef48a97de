//! Who may bind as whom.

use std::{
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use e2e::{RawDevice, Stack, eventually, raw::bind};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Method;
use serde_json::{Value, json};
use wire::frame::{Bind, BindCode};

crate::journeys! {
    tokens_of_the_apps_secret,
    tokens_of_the_apps_own_key,
    keys_are_kept_as_hashes,
}

fn in_seconds(seconds: i64) -> anyhow::Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(now.saturating_add_signed(seconds))
}

fn signed(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> anyhow::Result<String> {
    Ok(jsonwebtoken::encode(&Header::new(algorithm), claims, key)?)
}

async fn outcome(stack: &Stack, bind: Bind) -> anyhow::Result<Option<BindCode>> {
    let mut device = RawDevice::connect(stack.room_for("anyone").await?, "raw").await?;
    Ok(device.try_bind(bind).await?.err().map(|failed| failed.code()))
}

async fn tokens_of_the_apps_secret(stack: &mut Stack) -> anyhow::Result<()> {
    let app = stack.create_app("bank", json!({})).await?;
    let secret = EncodingKey::from_secret(app.secret.as_bytes());
    let hour = in_seconds(3600)?;
    let good = json!({ "app": "bank", "sub": "alice", "exp": hour });
    let hs256 = |claims: Value| signed(Algorithm::HS256, &secret, &claims);

    ensure!(
        outcome(stack, bind("bank", "alice", &hs256(good.clone())?)).await?.is_none(),
        "a good token was refused"
    );
    // What the API issues is as good.
    let issued = app.api.token("bank", "alice").await?;
    ensure!(outcome(stack, bind("bank", "alice", &issued)).await?.is_none(), "an issued token was refused");

    let unsigned = |header: Value, claims: &Value| {
        format!("{}.{}.", BASE64URL.encode(header.to_string()), BASE64URL.encode(claims.to_string()))
    };
    let good_token = hs256(good.clone())?;
    // Another letter in the middle of the signature.
    let (body, last) = good_token.split_at(good_token.len() - 20);
    let forged = format!("{body}{}{}", if last.starts_with('A') { 'B' } else { 'A' }, &last[1..]);
    let other_secret = EncodingKey::from_secret(b"not the secret");
    let claims = |app: &str, uid: &str, exp: u64| json!({ "app": app, "sub": uid, "exp": exp });
    let cases = [
        ("wrong app", hs256(claims("demo", "alice", hour))?, BindCode::WrongApp),
        ("wrong uid", hs256(claims("bank", "bob", hour))?, BindCode::WrongUid),
        ("expired", hs256(claims("bank", "alice", in_seconds(-3600)?))?, BindCode::TokenExpired),
        ("alg none", unsigned(json!({ "alg": "none", "typ": "JWT" }), &good), BindCode::BadToken),
        ("alg NONE", unsigned(json!({ "alg": "NONE" }), &good), BindCode::BadToken),
        ("no alg", unsigned(json!({ "typ": "JWT" }), &good), BindCode::BadToken),
        ("another secret", signed(Algorithm::HS256, &other_secret, &good)?, BindCode::BadToken),
        ("HS384", signed(Algorithm::HS384, &secret, &good)?, BindCode::BadToken),
        ("forged", forged, BindCode::BadToken),
        ("no exp", hs256(json!({ "app": "bank", "sub": "alice" }))?, BindCode::BadToken),
        ("no app", hs256(json!({ "sub": "alice", "exp": hour }))?, BindCode::BadToken),
        ("no token", String::new(), BindCode::BadToken),
        ("no JWT", "not.a.token".to_owned(), BindCode::BadToken),
    ];
    for (name, token, code) in cases {
        let got = outcome(stack, bind("bank", "alice", &token)).await?;
        ensure!(got == Some(code), "{name}: {got:?} and not {code:?}");
    }
    // A token of one app is none of another's, also when the names of the users agree.
    let got = outcome(stack, bind("demo", "alice", &issued)).await?;
    ensure!(matches!(got, Some(BindCode::BadToken | BindCode::WrongApp)), "{got:?}");
    ensure!(
        outcome(stack, bind("bonk", "alice", &issued)).await? == Some(BindCode::UnknownApp),
        "an unknown app"
    );
    for uid in [String::new(), "x".repeat(129)] {
        let got = outcome(stack, bind("bank", &uid, &issued)).await?;
        ensure!(got == Some(BindCode::BadRequest), "a uid of {} bytes: {got:?}", uid.len());
    }
    let many_tags = Bind { tags: (0..33).map(|n| n.to_string()).collect(), ..bind("bank", "alice", &issued) };
    ensure!(outcome(stack, many_tags).await? == Some(BindCode::BadRequest), "33 tags");
    // A refusal harms neither the connection nor its other bindings.
    let mut device = RawDevice::connect(stack.room_for("alice").await?, "raw").await?;
    device.bind(1, "bank", "alice", &issued).await?;
    let refused = device.try_bind(Bind { binding: 2, ..bind("bank", "bob", &issued) }).await?;
    ensure!(refused.is_err(), "bob was let in as alice");
    app.api.push("alice", "still here").await?;
    let push: wire::frame::Push = device.expect().await?;
    ensure!(push.payload == "still here", "{push:?}");
    Ok(())
}

/// Made with `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout`, for these tests alone.
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEICYmCWwavprb43s6gaI1GkADXjz4ncb1lexu5GTeb471\n-----END PRIVATE KEY-----\n";
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA9gvREebVjSc+fflMnWuD2dpiMBOUJIdJilKX6FSKKJQ=\n-----END PUBLIC KEY-----\n";
/// Another one.
const STRANGER: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIHwksYDwctv3ZQwnKJWykGy7t/ybkGjSRu3q8FU1WDtJ\n-----END PRIVATE KEY-----\n";

async fn tokens_of_the_apps_own_key(stack: &mut Stack) -> anyhow::Result<()> {
    let admin = stack.api();
    let app = stack.create_app("bank", json!({})).await?;
    let own = EncodingKey::from_ed_pem(PRIVATE.as_bytes())?;
    let claims = json!({ "app": "bank", "sub": "alice", "exp": in_seconds(3600)? });
    let token = signed(Algorithm::EdDSA, &own, &claims)?;
    let got = outcome(stack, bind("bank", "alice", &token)).await?;
    ensure!(got == Some(BindCode::BadToken), "no key is registered: {got:?}");

    let patch = async |pem: &str| {
        let call = admin.request(Method::PATCH, "/v1/apps/bank").json(&json!({ "public_key_pem": pem }));
        admin.send(call).await
    };
    let (status, body) = patch("not a key").await?;
    ensure!(status == 400 && body["error"]["field"] == "public_key_pem", "{status} {body}");
    admin.told(patch(PUBLIC).await?)?;
    ensure!(admin.told(admin.get("/v1/apps/bank").await?)?["public_key_pem"] == PUBLIC, "not shown");
    // Rooms look for changed apps every two seconds.
    eventually("a token of the registered key", Duration::from_secs(10), async || {
        let got = outcome(stack, bind("bank", "alice", &token)).await?;
        ensure!(got.is_none(), "{got:?}");
        Ok(())
    })
    .await?;
    let stranger = EncodingKey::from_ed_pem(STRANGER.as_bytes())?;
    let forged = signed(Algorithm::EdDSA, &stranger, &claims)?;
    ensure!(
        outcome(stack, bind("bank", "alice", &forged)).await? == Some(BindCode::BadToken),
        "any key will do"
    );
    // The classic: the public key, which is public, taken as an HMAC secret.
    let confused = signed(Algorithm::HS256, &EncodingKey::from_secret(PUBLIC.as_bytes()), &claims)?;
    ensure!(
        outcome(stack, bind("bank", "alice", &confused)).await? == Some(BindCode::BadToken),
        "confused algorithms"
    );
    for (name, claims, code) in [
        ("wrong app", json!({ "app": "demo", "sub": "alice", "exp": in_seconds(3600)? }), BindCode::WrongApp),
        ("wrong uid", json!({ "app": "bank", "sub": "bob", "exp": in_seconds(3600)? }), BindCode::WrongUid),
        (
            "expired",
            json!({ "app": "bank", "sub": "alice", "exp": in_seconds(-3600)? }),
            BindCode::TokenExpired,
        ),
    ] {
        let got = outcome(stack, bind("bank", "alice", &signed(Algorithm::EdDSA, &own, &claims)?)).await?;
        ensure!(got == Some(code), "{name}: {got:?}");
    }
    // The secret's tokens go on working.
    let issued = app.api.token("bank", "alice").await?;
    ensure!(outcome(stack, bind("bank", "alice", &issued)).await?.is_none(), "an issued token was refused");
    Ok(())
}

/// Whoever steals the archive gets no API key.
async fn keys_are_kept_as_hashes(stack: &mut Stack) -> anyhow::Result<()> {
    let app = stack.create_app("bank", json!({})).await?;
    let admin = stack.api();
    let made = admin.told(admin.post("/v1/apps/bank/keys", &json!({ "scopes": ["read"] })).await?)?;
    let key = made["key"].as_str().context("no key")?.to_owned();
    ensure!(key.starts_with("lwk_") && key.len() == 36, "{key}");
    app.api.with_key(&key).depth("alice").await?;
    // Everything that was written is in the files of the archive, its log included; the name of the app is, for one.
    ensure!(written(stack, "bank")? > 0, "there is no archive to look at");
    ensure!(written(stack, &key)? == 0, "the key itself is written down");
    Ok(())
}

/// In how many files of a stack a text is.
fn written(stack: &Stack, text: &str) -> anyhow::Result<usize> {
    let found = Command::new("grep").args(["-rlaF", "--", text]).args(stack.folders()).output()?;
    Ok(String::from_utf8_lossy(&found.stdout).lines().count())
}
