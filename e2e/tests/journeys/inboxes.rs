//! What waits for a user: order, acks, expiry, bounds, and that nothing of it is lost by a restart or a lost delivery.

use std::time::Duration;

use anyhow::ensure;
use e2e::{RawDevice, Stack, TestDevice};
use serde_json::json;
use wire::frame::{Push, ServerBody};

crate::journeys! {
    an_offline_user_gets_all_in_order_without_holes,
    an_ack_forgets_all_before_it,
    a_message_expires,
    a_full_inbox_drops_its_oldest,
    a_message_that_is_never_acked_becomes_a_dead_letter
        with "[saver]\nmax_loads = 2\n[room]\nresume_grace = \"500ms\"\n",
    who_does_not_read_harms_nobody_and_misses_nothing,
    a_restart_keeps_everything expects ["peer does not answer"],
    a_lost_delivery_is_made_up_for with "[center.delivery]\nqueue_bytes = 1\n",
}

async fn an_offline_user_gets_all_in_order_without_holes(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    for n in 1..=200 {
        api.push("alice", &format!("number {n}")).await?;
    }
    ensure!(api.depth("alice").await? == 200, "{}", api.user("alice").await?);
    let mut alice = TestDevice::bound(stack, "alice").await?;
    let mut before = None;
    for n in 1..=200 {
        let message = alice.expect_text(&format!("number {n}")).await?;
        let seq = message.position.map_or(0, |p| p.seq.get());
        if n == 1 {
            before = Some(stack.before(seq)?);
        }
        ensure!(before.is_some_and(|before| seq == before + n), "{message:?}");
    }
    // While it is online, numbers go on.
    api.push("alice", "number 201").await?;
    let next = alice.expect_text("number 201").await?.position.map(|p| p.seq.get());
    ensure!(next == before.map(|before| before + 201), "a hole");
    api.depth_becomes("alice", 0).await?;
    // Another device that keeps nothing: all is acked, so nothing comes.
    alice.close().await;
    let mut alice = TestDevice::bound(stack, "alice").await?;
    alice.expect_nothing(Duration::from_millis(500)).await
}

async fn pushes(device: &mut RawDevice, count: usize) -> anyhow::Result<Vec<Push>> {
    let mut got = vec![];
    for _ in 0..count {
        got.push(device.expect().await?);
    }
    Ok(got)
}

fn numbers(pushes: &[Push], before: u64) -> Vec<(u64, u64)> {
    pushes.iter().map(|p| (p.seq - before, p.skip)).collect()
}

async fn an_ack_forgets_all_before_it(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let mut ids = vec![];
    for n in 1..=6 {
        ids.push(api.push("alice", &format!("number {n}")).await?);
    }
    let mut alice = stack.raw_bound("alice").await?;
    let all = pushes(&mut alice, 6).await?;
    let before = stack.before(all[0].seq)?;
    ensure!(numbers(&all, before) == (1..=6).map(|n| (n, 0)).collect::<Vec<_>>(), "{all:?}");
    alice.ack(1, before + 4).await?;
    api.depth_becomes("alice", 2).await?;
    api.ledger_shows(&ids[3], "acked", 1).await?;
    ensure!(api.ledger(&ids[4]).await?["stored"] == 1, "number 5 is not acked");
    // What was acked does not come again; what was not, does.
    alice.unbind(1).await?;
    let token = api.token("demo", "alice").await?;
    alice.bind(2, "demo", "alice", &token).await?;
    let rest = pushes(&mut alice, 2).await?;
    ensure!(rest.iter().map(|p| p.seq - before).eq([5, 6]), "{rest:?}");
    // An ack of what was never sent acks what was.
    alice.ack(2, before + 1_000_000).await?;
    api.push("alice", "number 7").await?;
    let seventh: Push = alice.expect().await?;
    ensure!(seventh.seq == before + 7, "{seventh:?}");
    api.depth_becomes("alice", 1).await
}

async fn a_message_expires(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let push = json!({ "uid": "alice", "payload": "soon stale", "ttl_s": 3 });
    let pushed = api.told(api.post("/v1/push", &push).await?)?;
    let id = pushed["id"].as_str().unwrap_or_default();
    let before = stack.before(pushed["seq"].as_u64().unwrap_or(0))?;
    let lasting = api.push("alice", "lasting").await?;
    ensure!(api.ledger(id).await?["stored"] == 1, "not stored at first");
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    // A device that comes now does not see it, and is told that a number is missing.
    let mut alice = stack.raw_bound("alice").await?;
    let came: Push = alice.expect().await?;
    ensure!(came.payload == "lasting" && came.seq == before + 2, "{came:?}");
    alice.ack(1, before + 2).await?;
    api.ledger_shows(&lasting, "acked", 1).await?;
    api.ledger_shows(id, "expired", 1).await?;
    api.depth_becomes("alice", 0).await
}

async fn a_full_inbox_drops_its_oldest(stack: &mut Stack) -> anyhow::Result<()> {
    let small = stack.create_app("small", json!({ "inbox_cap": 3 })).await?;
    let mut ids = vec![];
    for n in 1..=5 {
        ids.push(small.api.push("alice", &format!("number {n}")).await?);
    }
    ensure!(small.api.depth("alice").await? == 3, "the cap does not hold");
    for id in &ids[..2] {
        small.api.ledger_shows(id, "dropped/inbox_full", 1).await?;
    }
    ensure!(small.api.ledger(&ids[2]).await?["stored"] == 1, "one too many was dropped");
    let mut alice = TestDevice::start(stack, "phone")?;
    alice.knows("small", small.api.clone());
    alice.bind("small", "alice", &[]).await?;
    for n in 3..=5 {
        alice.expect_text(&format!("number {n}")).await?;
    }
    small.api.depth_becomes("alice", 0).await
}

/// A device that dies of a message, again and again, is spared it the third time.
async fn a_message_that_is_never_acked_becomes_a_dead_letter(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let deadly = api.push("alice", "deadly").await?;
    let mut before = 0;
    for _ in 0..2 {
        let mut alice = stack.raw_bound("alice").await?;
        let push: Push = alice.expect().await?;
        ensure!(push.payload == "deadly", "{push:?}");
        before = stack.before(push.seq)?;
        drop(alice);
        api.online_becomes("alice", false).await?;
    }
    let harmless = api.push("alice", "harmless").await?;
    let mut alice = stack.raw_bound("alice").await?;
    let push: Push = alice.expect().await?;
    ensure!(push.payload == "harmless" && push.seq == before + 2, "{push:?}");
    alice.ack(1, before + 2).await?;
    api.ledger_shows(&deadly, "dropped/max_loads", 1).await?;
    api.ledger_shows(&harmless, "acked", 1).await
}

/// Its messages pile up in the inbox and not in the room's memory, and come when it reads at last.
async fn who_does_not_read_harms_nobody_and_misses_nothing(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let mut healthy = TestDevice::bound(stack, "healthy").await?;
    let mut stalled = stack.raw_bound("stalled").await?;
    // 10 MB: more than the sockets' buffers and the room's queue for one connection hold.
    let padding = ".".repeat(20_000);
    for n in 1..=500 {
        api.push("stalled", &format!("{n} {padding}")).await?;
        if n % 100 == 0 {
            api.push("healthy", &format!("number {n}")).await?;
            healthy.expect_text(&format!("number {n}")).await?;
        }
    }
    ensure!(api.user("stalled").await?["online"] == true, "given up too early");
    let mut before = 0;
    for n in 1..=500 {
        let push: Push = stalled.expect().await?;
        if n == 1 {
            before = stack.before(push.seq)?;
        }
        let begins_right = push.payload.starts_with(format!("{n} .").as_bytes());
        ensure!(
            push.seq == before + n && push.skip == 0 && begins_right,
            "after {n}: number {} with skip {}",
            push.seq,
            push.skip
        );
        if n % 50 == 0 {
            stalled.ack(1, before + n).await?;
        }
    }
    api.depth_becomes("stalled", 0).await
}

async fn a_restart_keeps_everything(stack: &mut Stack) -> anyhow::Result<()> {
    let api = stack.api();
    let kept = stack.create_app("kept", json!({ "inbox_cap": 77 })).await?;
    kept.api.push("carol", "of another app").await?;
    let mut ids = vec![];
    for n in 1..=5 {
        ids.push(api.push("alice", &format!("number {n}")).await?);
    }
    // Two of five are acked, and bob has seen the first broadcast.
    let mut alice = stack.raw_bound("alice").await?;
    let all = pushes(&mut alice, 5).await?;
    alice.ack(1, all[1].seq).await?;
    api.depth_becomes("alice", 3).await?;
    let mut bob = TestDevice::bound(stack, "bob").await?;
    api.broadcast("first", "").await?;
    bob.expect_broadcast("first").await?;
    ensure!(matches!(alice.next().await?, Some(ServerBody::Broadcast(_))), "the broadcast did not come");
    drop(alice);
    bob.close().await;
    let second = api.broadcast("second", "").await?;

    stack.restart().await?;

    ensure!(api.depth("alice").await? == 3, "{}", api.user("alice").await?);
    ensure!(api.ledger(&ids[1]).await?["acked"] == 1, "the ack is forgotten");
    let app = api.told(api.get("/v1/apps/kept").await?)?;
    ensure!(app["inbox_cap"] == 77, "{app}");
    ensure!(kept.api.depth("carol").await? == 1, "the other app's inbox, or its key, is gone");
    let mut bob = TestDevice::bound(stack, "bob").await?;
    let broadcast = bob.expect_broadcast("second").await?;
    ensure!(broadcast.id.to_string() == second, "{broadcast:?}");
    bob.expect_nothing(Duration::from_millis(300)).await?;
    let mut alice = TestDevice::bound(stack, "alice").await?;
    for n in 3..=5 {
        let message = alice.expect_text(&format!("number {n}")).await?;
        ensure!(message.id.to_string() == ids[n - 1], "another id: {message:?}");
    }
    api.push("alice", "number 6").await?;
    alice.expect_text("number 6").await?;
    api.depth_becomes("alice", 0).await
}

/// Every delivery is lost between center and room, as when the center dies after its answer: the saver's sweeper
/// makes up for it while the user is online, within 30 s.
async fn a_lost_delivery_is_made_up_for(stack: &mut Stack) -> anyhow::Result<()> {
    let mut alice = TestDevice::bound(stack, "alice").await?;
    let id = stack.api().push("alice", "lost on its way").await?;
    let begun = std::time::Instant::now();
    alice.expect_nothing(Duration::from_secs(3)).await?;
    let message = alice.expect("the message, from the sweeper", |event| match event {
        client::Event::Message(message) => Some(message.clone()),
        _ => None,
    });
    let message = tokio::time::timeout(Duration::from_secs(27), message).await??;
    println!("swept after {:?}", begun.elapsed());
    ensure!(message.id.to_string() == id, "{message:?}");
    stack.api().ledger_shows(&id, "acked", 1).await
}
