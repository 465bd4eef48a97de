//! Where a user is, and putting it out.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::{Stack, TestDevice};
use serde_json::json;
use wire::frame::UnboundReason;

crate::journeys! {
    the_api_tells_where_a_user_is,
    a_kick_ends_the_binding,
}

async fn the_api_tells_where_a_user_is(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let offline =
        json!({ "app": "demo", "uid": "älice/x", "online": false, "inbox_depth": 0, "rebuilding": false });
    let path = "/v1/users/%C3%A4lice%2Fx";
    let user = api.online_becomes("%C3%A4lice%2Fx", false).await?;
    ensure!(user == offline, "{user}");
    let push = json!({ "uid": "älice/x", "payload": "waits" });
    api.told(api.post("/v1/push", &push).await?)?;
    ensure!(api.told(api.get(path).await?)?["inbox_depth"] == 1, "the depth is not told");

    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() as u64;
    let mut device = TestDevice::bound(stack, "älice/x").await?;
    device.expect_text("waits").await?;
    let user = api.online_becomes("%C3%A4lice%2Fx", true).await?;
    let since = user["since_ms"].as_u64().context("no since_ms")?;
    ensure!(since + 1_000 >= before && since < before + 60_000, "{user}, bound after {before}");
    ensure!(user["room"].as_u64().is_some_and(|room| room > 0), "{user}");
    ensure!(user["conn"].as_str().is_some_and(|conn| conn.parse::<u64>().is_ok()), "{user}");
    // Both centers say the same.
    for center in [0, 1] {
        let told = stack.api_of(center).user("%C3%A4lice%2Fx").await?;
        ensure!(told["conn"] == user["conn"] && told["online"] == true, "center {center}: {told}");
    }
    device.close().await;
    api.online_becomes("%C3%A4lice%2Fx", false).await?;
    Ok(())
}

async fn a_kick_ends_the_binding(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    ensure!(!api.kick("alice").await?, "nobody was there");
    let mut phone = TestDevice::start(stack, "phone")?;
    let alice = phone.bind("demo", "alice", &[]).await?;
    phone.bind("demo", "bob", &[]).await?;
    ensure!(api.kick("alice").await?, "alice was online");
    ensure!(phone.expect_unbound().await? == UnboundReason::Kicked, "another reason");
    api.online_becomes("alice", false).await?;
    // The other binding of the connection stays, and the device does not come back by itself.
    ensure!(api.user("bob").await?["online"] == true, "bob was put out, too");
    api.push("alice", "later").await?;
    phone.expect_nothing(Duration::from_millis(500)).await?;
    phone.sdk().rebind(alice).await?;
    phone.expect_bound(alice).await?;
    phone.expect_text("later").await?;
    Ok(())
}
