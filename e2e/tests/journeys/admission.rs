//! Who may connect: a room with limits says so at the door, and those who are in notice nothing.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail, ensure};
use e2e::{RawDevice, Stack, eventually};
use wire::{
    codec::{PREAMBLE, encode_client_frame},
    frame::{Close, CloseCode, Connect, Connected, ServerBody},
    limits::VERSION,
};

crate::journeys! {
    connections_of_an_address_are_bounded
        with "[room]\nretry_after = \"3s\"\n[room.admission]\nconnections_per_ip = 4\ndeny = [\"192.0.2.0/24\"]\n",
    a_network_that_is_denied_stays_outside with "[room.admission]\ndeny = [\"127.0.0.0/8\", \"::1/128\"]\n",
    handshakes_have_a_rate with "[room.admission]\nhandshakes_per_second_per_ip = 2\n",
    who_sends_too_many_bytes_is_closed
        with "[room]\nmax_frame_bytes = 4096\n[room.admission]\nbytes_per_second = 1024\nbytes_burst = 16384\n",
}

/// Greets; the device, or why it was refused.
async fn knock(room: SocketAddr) -> anyhow::Result<Result<RawDevice, Close>> {
    let mut device = RawDevice::open(room).await?;
    let connect = Connect { device: "d".to_owned(), version: VERSION, ..Connect::default() };
    // Who is refused may find the socket closed.
    let _ = device.write(&[&PREAMBLE[..], &encode_client_frame(&connect.into())].concat()).await;
    match device.next().await?.context("ended without a word")? {
        ServerBody::Connected(Connected { .. }) => Ok(Ok(device)),
        ServerBody::Close(close) => Ok(Err(close)),
        other => bail!("{other:?}"),
    }
}

async fn admitted(room: SocketAddr) -> anyhow::Result<RawDevice> {
    knock(room).await?.map_err(|close| anyhow::anyhow!("refused: {close:?}"))
}

async fn refused(room: SocketAddr) -> anyhow::Result<Close> {
    match knock(room).await? {
        Ok(_) => bail!("let in"),
        Err(close) => Ok(close),
    }
}

/// Over all threads of the room: with two cores it has two.
async fn connections_of_an_address_are_bounded(stack: &mut Stack) -> anyhow::Result<()> {
    let room = stack.room_for("first").await?;
    let mut devices = vec![];
    for n in 0..4 {
        let mut device = admitted(room).await?;
        let uid = format!("user-{n}");
        device.bind(1, "demo", &uid, &stack.api().token("demo", &uid).await?).await?;
        devices.push(device);
    }
    let mut waits = vec![];
    for _ in 0..10 {
        let close = refused(room).await?;
        ensure!(close.code() == CloseCode::Busy, "{close:?}");
        ensure!((3_000..=6_000).contains(&close.retry_after_ms), "{close:?}");
        waits.push(close.retry_after_ms);
    }
    waits.dedup();
    ensure!(waits.len() > 1, "all are told to come back together");
    // A place that is free is taken again, and those who are in are served.
    devices.pop();
    eventually("a place is free", Duration::from_secs(10), async || {
        devices.push(admitted(room).await?);
        Ok(())
    })
    .await?;
    stack.api().push("user-0", "still well").await?;
    let push: wire::frame::Push = devices[0].expect().await?;
    ensure!(push.payload == "still well", "{push:?}");
    Ok(())
}

async fn a_network_that_is_denied_stays_outside(stack: &mut Stack) -> anyhow::Result<()> {
    let close = refused(stack.room_for("first").await?).await?;
    ensure!((close.code(), close.retry_after_ms) == (CloseCode::Refused, 0), "{close:?}");
    Ok(())
}

async fn handshakes_have_a_rate(stack: &mut Stack) -> anyhow::Result<()> {
    let room = stack.room_for("first").await?;
    let (mut devices, mut refusals) = (vec![], 0);
    for _ in 0..30 {
        match knock(room).await? {
            Ok(device) => devices.push(device),
            Err(close) => {
                ensure!(close.code() == CloseCode::Busy && close.retry_after_ms >= 1_000, "{close:?}");
                refusals += 1;
            }
        }
    }
    ensure!(devices.len() >= 2 && refusals > 0, "{} let in, {refusals} refused", devices.len());
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    admitted(room).await?;
    Ok(())
}

async fn who_sends_too_many_bytes_is_closed(stack: &mut Stack) -> anyhow::Result<()> {
    let mut device = admitted(stack.room_for("first").await?).await?;
    // Unknown frames, each answered with an error that nobody reads but the kernel.
    let frame = [vec![0xF0, 0x1F, 0x7A, 0xED, 0x1F], vec![0; 4_077]].concat();
    for _ in 0..8 {
        if device.write(&frame).await.is_err() {
            break;
        }
    }
    let close = device.expect_end().await?.context("ended without a word")?;
    ensure!(close.code() == CloseCode::TooFast && close.retry_after_ms >= 1_000, "{close:?}");
    Ok(())
}
