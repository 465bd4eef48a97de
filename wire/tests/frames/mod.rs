//! Any frames, for the properties of the codecs.

#![allow(dead_code, unreachable_pub, reason = "each test takes what it needs")]

use bytes::Bytes;
use proptest::prelude::*;
use wire::frame::*;

fn payload() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

/// Numbers near the edges of the varint's lengths come up as often as any.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), any::<u64>(), (0u32..64).prop_map(|shift| 1 << shift), 0u64..300]
}

fn text() -> impl Strategy<Value = String> {
    "[a-zé]{0,40}"
}

prop_compose! {
    pub fn push()(binding: u32, seq in number(), skip in number(), id in number(), payload in payload(),
              accepted_ms in number(), collapse_key in text()) -> Push {
        Push { binding, seq, skip, id, payload, accepted_ms, collapse_key }
    }
}

prop_compose! {
    pub fn broadcast()(app: u32, bseq in number(), id in number(), payload in payload(),
                   accepted_ms in number(), binding: u32) -> Broadcast {
        Broadcast { app, bseq, id, payload, accepted_ms, binding }
    }
}

prop_compose! {
    pub fn ack()(binding: u32, seq in number(), bseq in number(), epoch in number(), held_ms: u32) -> Ack {
        Ack { binding, seq, bseq, epoch, held_ms }
    }
}

prop_compose! {
    pub fn bind()(binding: u32, app in text(), uid in text(), token in text(),
              tags in prop::collection::vec(text(), 0..4), inbox in prop::option::of((number(), number())),
              broadcasts in prop::option::of((number(), number())), app_version in text()) -> Bind {
        let inbox = inbox.map(|(epoch, seq)| InboxPosition { epoch, seq });
        let broadcasts = broadcasts.map(|(epoch, bseq)| BroadcastPosition { epoch, bseq });
        Bind { binding, app, uid, token, tags, inbox, broadcasts, app_version }
    }
}

prop_compose! {
    fn resume()(binding: u32, epoch in number(), received in number(), confirmed in number(),
                log_epoch in number(), broadcast_received in number(), broadcast_confirmed in number())
              -> ResumeBinding {
        ResumeBinding {
            binding, epoch, received, confirmed, log_epoch, broadcast_received, broadcast_confirmed
        }
    }
}

prop_compose! {
    pub fn connect()(device in text(), version: u32, network in 0i32..7, heartbeat_s: u32,
                 resume_token in payload(), sdk in text(),
                 resume in prop::collection::vec(resume(), 0..4),
                 utc_offset_min: Option<i32>) -> Connect {
        Connect { device, version, network, heartbeat_s, resume_token, sdk, resume, utc_offset_min }
    }
}

prop_compose! {
    pub fn up()(binding: u32, kind in text(), payload in payload(), r#ref in number()) -> Up {
        Up { binding, kind, payload, r#ref }
    }
}

pub fn client_frame() -> impl Strategy<Value = ClientFrame> {
    prop_oneof![
        Just(ClientFrame { body: None }),
        Just(Ping {}.into()),
        Just(Leave {}.into()),
        any::<u32>().prop_map(|binding| Unbind { binding }.into()),
        ack().prop_map(Into::into),
        bind().prop_map(Into::into),
        connect().prop_map(Into::into),
        up().prop_map(Into::into),
    ]
}

pub fn server_frame() -> impl Strategy<Value = ServerFrame> {
    prop_oneof![
        Just(ServerFrame { body: None }),
        Just(Pong {}.into()),
        push().prop_map(Into::into),
        broadcast().prop_map(Into::into),
        (any::<u32>(), number()).prop_map(|(binding, id)| Recall { binding, id, app: 7 }.into()),
        (prop::collection::vec(text(), 0..4), any::<u32>(), text())
            .prop_map(|(addresses, after_ms, reason)| Reconnect { addresses, after_ms, reason }.into()),
        (0i32..11, any::<u32>(), text()).prop_map(|(code, retry_after_ms, message)| Close {
            code,
            retry_after_ms,
            message
        }
        .into()),
        (any::<u64>(), any::<u32>(), payload(), any::<u32>(), any::<bool>()).prop_map(
            |(conn, heartbeat_s, resume_token, version, resumed)| Connected {
                conn,
                heartbeat_s,
                resume_token,
                version,
                resumed
            }
            .into()
        ),
    ]
}
