//! Devices that break the protocol, by mistake or on purpose: each gets a clear answer or none, and a healthy device
//! beside them notices nothing.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::{RawDevice, Stack, TestDevice, eventually};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use wire::{
    codec::{PREAMBLE, encode_client_frame},
    frame::{Ack, Bind, CloseCode, Connect, Error, ErrorCode, Ping, Pong, Unbind},
    limits::{MAX_CLIENT_FRAME, VERSION},
};

crate::journeys! {
    bytes_that_are_no_frames_end_the_connection,
    silent_and_slow_devices_are_not_waited_for
        with "[room]\nhandshake_timeout = \"2s\"\nresume_grace = \"1s\"\n",
    what_a_room_does_not_know_does_no_harm,
    random_bytes_harm_nobody with "[room]\nresume_grace = \"1s\"\n",
}

fn greeting(name: &str) -> Vec<u8> {
    let connect = Connect { device: name.to_owned(), version: VERSION, ..Connect::default() };
    [&PREAMBLE[..], &encode_client_frame(&connect.into())].concat()
}

/// Writes bytes to a new connection; why the room ended it.
async fn ends(stack: &Stack, bytes: &[u8]) -> anyhow::Result<Option<CloseCode>> {
    let mut device = RawDevice::open(stack.room_for("abuser").await?).await?;
    // The room may hang up in the middle.
    let _ = device.write(bytes).await;
    Ok(device.expect_end().await?.map(|close| close.code()))
}

async fn bytes_that_are_no_frames_end_the_connection(stack: &mut Stack) -> anyhow::Result<()> {
    let mut healthy = TestDevice::bound(stack, "healthy").await?;
    let after_greeting = |bytes: &[u8]| [&greeting("abuser"), bytes].concat();
    let mut oversized = after_greeting(&[]);
    prost::encoding::encode_varint(MAX_CLIENT_FRAME as u64 + 1, &mut oversized);
    oversized.extend(vec![0; MAX_CLIENT_FRAME + 1]);
    let no_device = encode_client_frame(&Connect { version: VERSION, ..Connect::default() }.into());
    let long_device = Connect { device: "d".repeat(129), version: VERSION, ..Connect::default() };
    let old = encode_client_frame(&Connect { device: "old".into(), version: 0, ..Connect::default() }.into());
    for (name, bytes, code) in [
        ("another protocol", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(), CloseCode::BadFrame),
        ("another framing", b"LW\x09".to_vec(), CloseCode::BadVersion),
        ("an oversized frame", oversized, CloseCode::TooLarge),
        ("a length beyond 32 bits", after_greeting(&[0xff; 10]), CloseCode::BadFrame),
        ("no protobuf", after_greeting(&[3, 0x0a, 0x7f, 0x00]), CloseCode::BadFrame),
        (
            "no Connect first",
            [&PREAMBLE[..], &encode_client_frame(&Ping {}.into())].concat(),
            CloseCode::BadFrame,
        ),
        ("a second Connect", after_greeting(&greeting("abuser")[3..]), CloseCode::BadFrame),
        ("a device without a name", [&PREAMBLE[..], &no_device].concat(), CloseCode::BadFrame),
        (
            "a name of 129 bytes",
            [&PREAMBLE[..], &encode_client_frame(&long_device.into())].concat(),
            CloseCode::BadFrame,
        ),
        ("version 0", [&PREAMBLE[..], &old].concat(), CloseCode::BadVersion),
    ] {
        let got = ends(stack, &bytes).await.with_context(|| name.to_owned())?;
        ensure!(got == Some(code), "{name}: {got:?} and not {code:?}");
    }
    // A newer device is spoken to in the version that both know.
    let mut newer = RawDevice::open(stack.room_for("newer").await?).await?;
    let connect = Connect { device: "newer".into(), version: VERSION + 7, ..Connect::default() };
    newer.write(&[&PREAMBLE[..], &encode_client_frame(&connect.into())].concat()).await?;
    let connected: wire::frame::Connected = newer.expect().await?;
    ensure!(connected.version == VERSION && connected.heartbeat_s > 0, "{connected:?}");

    stack.api().push("healthy", "still well").await?;
    healthy.expect_text("still well").await?;
    Ok(())
}

async fn silent_and_slow_devices_are_not_waited_for(stack: &mut Stack) -> anyhow::Result<()> {
    let mut healthy = TestDevice::bound(stack, "healthy").await?;
    let room = stack.room_for("silent").await?;
    let mut idle = vec![];
    // Nothing at all, half a preamble, a preamble, half a frame.
    let whole = greeting("silent");
    for length in [0, 2, 3, whole.len() - 4] {
        let mut device = RawDevice::open(room).await?;
        device.write(&whole[..length]).await?;
        idle.push(device);
    }
    // A byte now and then does not buy more time.
    let mut dripping = RawDevice::open(room).await?;
    let drip = async {
        for byte in greeting("a-device-with-a-long-name-that-takes-its-time").chunks(1) {
            if dripping.write(byte).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        dripping.expect_end().await
    };
    let (dripped, ended) = tokio::join!(drip, async {
        let mut codes = vec![];
        for device in &mut idle {
            codes.push(device.expect_end().await?.map(|close| close.code()));
        }
        anyhow::Ok(codes)
    });
    for code in ended?.into_iter().chain([dripped?.map(|close| close.code())]) {
        ensure!(code == Some(CloseCode::HandshakeTimeout), "{code:?}");
    }
    // Slow, but in time: each frame in single bytes.
    let mut slow = RawDevice::open(room).await?;
    for byte in greeting("slow").chunks(1) {
        slow.write(byte).await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let _: wire::frame::Connected = slow.expect().await?;
    let token = stack.api().token("demo", "slow").await?;
    for byte in encode_client_frame(&e2e::raw::bind("demo", "slow", &token).into()).chunks(1) {
        slow.write(byte).await?;
    }
    let _: wire::frame::Bound = slow.expect().await?;
    // Truncated: gone in the middle of a frame. The user is offline when the grace is over.
    slow.write(&encode_client_frame(&e2e::raw::bind("demo", "x", &token).into())[..20]).await?;
    drop(slow);
    stack.api().online_becomes("slow", false).await?;

    stack.api().push("healthy", "still well").await?;
    healthy.expect_text("still well").await?;
    Ok(())
}

async fn what_a_room_does_not_know_does_no_harm(stack: &mut Stack) -> anyhow::Result<()> {
    let mut device = stack.raw_bound("alice").await?;
    // A frame of a later version (field 15), and an empty one.
    for frame in [&[2_u8, 0x7a, 0x00][..], &[0][..]] {
        device.write(frame).await?;
        let error: Error = device.expect().await?;
        ensure!(error.code() == ErrorCode::UnknownFrame, "{error:?}");
    }
    // A field of a later version in a frame that is known (field 100 of Ping).
    device.write(&[7, 0x32, 0x05, 0xa2, 0x06, 0x02, b'h', b'i']).await?;
    let _: Pong = match device.next().await?.context("it hung up")? {
        wire::frame::ServerBody::Pong(pong) => pong,
        other => anyhow::bail!("{other:?}"),
    };
    device.send(Ack { binding: 9, seq: 1, ..Ack::default() }).await?;
    let error: Error = device.expect().await?;
    ensure!(error.code() == ErrorCode::NoSuchBinding && error.binding == 9, "{error:?}");
    device.send(Unbind { binding: 9 }).await?;
    let error: Error = device.expect().await?;
    ensure!(error.code() == ErrorCode::NoSuchBinding, "{error:?}");
    // More bindings than a connection may have.
    let token = stack.api().token("demo", "alice").await?;
    let mut refused = None;
    for binding in 2..100 {
        let bind = Bind { binding, ..e2e::raw::bind("demo", &format!("user-{binding}"), "") };
        let token = stack.api().token("demo", &format!("user-{binding}")).await?;
        if let Err(failed) = device.try_bind(Bind { token, ..bind }).await? {
            refused = Some(failed);
            break;
        }
    }
    let refused = refused.context("98 bindings were taken")?;
    ensure!(refused.code() == wire::frame::BindCode::TooMany, "{refused:?}");
    drop(token);
    // After all that it still works.
    stack.api().push("alice", "still well").await?;
    let push: wire::frame::Push = device.expect().await?;
    ensure!(push.payload == "still well", "{push:?}");
    Ok(())
}

/// A few hundred connections full of noise, some of it with a good beginning.
async fn random_bytes_harm_nobody(stack: &mut Stack) -> anyhow::Result<()> {
    let seed =
        std::env::var("E2E_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("E2E_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let mut healthy = TestDevice::bound(stack, "healthy").await?;
    let room = stack.room_for("healthy").await?;
    let token = stack.api().token("demo", "noisy").await?;
    let good =
        [greeting("noisy"), encode_client_frame(&e2e::raw::bind("demo", "noisy", &token).into()).to_vec()]
            .concat();
    for n in 0..300 {
        let mut noise = vec![0; dice.random_range(1..2_000)];
        dice.fill_bytes(&mut noise);
        let mut bytes = match dice.random_range(0..4) {
            0 => vec![],
            1 => PREAMBLE.to_vec(),
            2 => greeting("noisy"),
            _ => good.clone(),
        };
        if dice.random_bool(0.3) && !bytes.is_empty() {
            // Good, but for one bit.
            let at = dice.random_range(0..bytes.len());
            bytes[at] ^= 1 << dice.random_range(0..8);
        }
        bytes.extend(noise);
        let mut device = RawDevice::open(room).await?;
        let _ = device.write(&bytes).await;
        if dice.random_bool(0.5) {
            // Some read what they are told, some are gone at once.
            let _ = device.next_within(Duration::from_millis(20)).await;
        }
        drop(device);
        if n % 50 == 0 {
            let text = format!("still well after {n}");
            stack.api().push("healthy", &text).await?;
            healthy.expect_text(&text).await?;
        }
    }
    ensure!(!healthy.saw_disconnect(), "the healthy device lost its connection; E2E_SEED={seed}");
    stack.api().push("healthy", "still well").await?;
    healthy.expect_text("still well").await?;
    // All of them are gone again.
    eventually("the noisy user is offline", Duration::from_secs(20), async || {
        ensure!(stack.api().user("noisy").await?["online"] == false, "it is online");
        Ok(())
    })
    .await
}
