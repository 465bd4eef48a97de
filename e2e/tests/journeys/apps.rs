//! Apps: made, listed and changed while everything runs.

use std::time::Duration;

use anyhow::ensure;
use e2e::{Stack, eventually};
use reqwest::Method;
use serde_json::json;

crate::journeys! { apps_are_made_listed_and_changed }

async fn apps_are_made_listed_and_changed(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let made = stack
        .create_app("news", json!({ "default_ttl_s": 60, "inbox_cap": 5, "pushes_per_second": 50 }))
        .await?;
    let info = api.told(api.get("/v1/apps/news").await?)?;
    ensure!(
        info["default_ttl_s"] == 60 && info["inbox_cap"] == 5 && info["pushes_per_second"] == 50,
        "{info}"
    );
    for secret in [&made.secret, &made.webhook_secret, &made.api.key()] {
        ensure!(!info.to_string().contains(secret.as_str()), "a secret is shown again");
    }
    let listed = api.told(api.get("/v1/apps").await?)?;
    let names: Vec<_> =
        listed["apps"].as_array().into_iter().flatten().filter_map(|a| a["app"].as_str()).collect();
    ensure!(names == ["demo", "news"], "{names:?}");

    let patch =
        api.request(Method::PATCH, "/v1/apps/news").json(&json!({ "inbox_cap": 2, "durability": "safe" }));
    let changed = api.told(api.send(patch).await?)?;
    ensure!(changed["inbox_cap"] == 2 && changed["default_ttl_s"] == 60, "{changed}");
    ensure!(info["durability"] == "" && changed["durability"] == "safe", "{info} {changed}");
    let patch = api.request(Method::PATCH, "/v1/apps/news").json(&json!({ "durability": "safer" }));
    let (status, refused) = api.send(patch).await?;
    ensure!(status == 400 && refused.to_string().contains("durability"), "{status} {refused}");
    // Many at once, through both centers: none undoes another.
    let fields = ["default_ttl_s", "inbox_cap", "pushes_per_second"];
    for round in 0..5u32 {
        let patch = async |n: usize, field: &str| {
            let api = stack.api_of(n);
            let patch = api.request(Method::PATCH, "/v1/apps/news").json(&json!({ field: 100 + round }));
            api.told(api.send(patch).await?)
        };
        let patches = fields.iter().enumerate().map(|(n, field)| patch(n, field));
        futures::future::try_join_all(patches).await?;
        let now = api.told(api.get("/v1/apps/news").await?)?;
        ensure!(fields.iter().all(|field| now[field] == 100 + round), "{now}");
    }
    let back = json!({ "default_ttl_s": 60, "inbox_cap": 2, "pushes_per_second": 1_000 });
    api.told(api.send(api.request(Method::PATCH, "/v1/apps/news").json(&back)).await?)?;
    // The other center learns of it by itself.
    let elsewhere = stack.api_of(1).with_key(&made.api.key());
    eventually("the new cap at the other center", Duration::from_secs(15), async || {
        for n in 0..4 {
            elsewhere.push("alice", &format!("number {n}")).await?;
        }
        let depth = elsewhere.depth("alice").await?;
        ensure!(depth == 2, "the inbox holds {depth}");
        Ok(())
    })
    .await?;
    // The default TTL holds for messages that name none.
    let id = made.api.push("bob", "x").await?;
    let ledger = made.api.ledger(&id).await?;
    let life = ledger["expires_ms"].as_u64().zip(ledger["accepted_ms"].as_u64()).map(|(e, a)| e - a);
    ensure!(life == Some(60_000), "{ledger}");
    Ok(())
}
