//! A device's session under any frames in any order at any time: it never panics, what it sends is good
//! protocol, and once it has done what is due, nothing is due.
#![no_main]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use client::{
    AckPolicy, Config, Confirm, Event, Moment, Output, Session,
    session::{BindSpec, Cause},
};
use libfuzzer_sys::fuzz_target;
use wire::{ServerDecoder, frame::*};

fn frame(kind: u8, a: u8, b: u8, c: u8) -> ServerFrame {
    let binding = u32::from(a % 4);
    let (x, y) = (u64::from(b), u64::from(c));
    let inbox = Some(InboxPosition { epoch: x % 4, seq: y });
    match kind % 16 {
        0 | 1 => Connected { conn: 1, heartbeat_s: a.into(), version: u32::from(b % 3), ..Default::default() }.into(),
        2 => Bound { binding, app: 1, inbox, broadcasts: Some(BroadcastPosition { epoch: x % 4, bseq: y }) }.into(),
        3 => BindFailed { binding, code: (b % 12).into(), retry_after_ms: c.into(), ..Default::default() }.into(),
        4 => Unbound { binding, reason: (b % 6).into() }.into(),
        5..=8 => Push { binding, seq: x % 32, skip: u64::from(kind >> 4), id: y, ..Default::default() }.into(),
        9 => Broadcast { app: u32::from(a % 3), bseq: x, id: y, ..Default::default() }.into(),
        10 => Rebased { binding, inbox }.into(),
        11 => UpAck { r#ref: y, code: (b % 5).into(), retry_after_ms: c.into() }.into(),
        12 => Error { code: (b % 4).into(), binding, ..Default::default() }.into(),
        13 => Reconnect { addresses: vec![], after_ms: c.into(), reason: String::new() }.into(),
        14 => Pong {}.into(),
        _ => ServerFrame { body: None },
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&setting, data)) = data.split_first() else { return };
    let confirm = if setting & 1 == 0 { Confirm::Auto } else { Confirm::ByApp };
    let ack = AckPolicy { confirm, max_delay: Duration::from_millis(20), broadcast_delay: Duration::from_millis(40), max_unacked: 3 };
    let config = Config { ack, max_pending_ups: 4, recent_ids: 4, ..Config::default() };
    let mut session = Session::new(Arc::new(config), "fuzz".into(), 1);
    let mut room = ServerDecoder::for_server(4096);
    let mut out = Output::default();
    let mut now = Moment(0);
    let mut last = None;
    for op in data.chunks_exact(5) {
        let &[op, kind, a, b, c] = op else { return };
        match op % 16 {
            0 => {
                room = ServerDecoder::for_server(4096);
                session.lost(Cause::Silent, &mut out);
                session.opened(now, &mut out);
            }
            1 => {
                let (app, uid) = ("demo".parse().unwrap(), "alice".parse().unwrap());
                let token = (a & 1 == 0).then(|| "token".into());
                let traits = Arc::default();
                session.bind(BindSpec { app, uid, token, traits, inbox: None, broadcasts: None });
            }
            2 => session.unbind(u32::from(a % 4).into()),
            3 => session.rebind(u32::from(a % 4).into()),
            4 => session.set_token(u32::from(a % 4).into(), "new".into()),
            5 => drop(session.up(u32::from(a % 4).into(), "k".into(), Bytes::new())),
            6 => {
                if let Some((binding, position)) = last {
                    session.confirm(binding, position, now);
                }
            }
            7 => now = now + Duration::from_millis(u64::from(a) * u64::from(b)),
            8 => session.excuse(now),
            9 => session.token_failed(u32::from(a % 4).into(), now),
            _ => session.on_frame(frame(kind, a, b, c), now, &mut out),
        }
        session.advance(now, &mut out);
        if out.ended.take().is_none() {
            assert!(session.next_deadline().is_none_or(|next| next > now), "something due is not done");
        }
        let bytes = std::mem::take(&mut out.bytes);
        let mut input = &bytes[..];
        while let Some(frame) = room.decode(&mut input).expect("a device sends good frames") {
            assert!(frame.body.is_some());
        }
        for event in out.events.drain(..) {
            if let Event::Message(message) = event {
                last = message.position.map(|position| (message.binding, position));
            }
        }
    }
});
