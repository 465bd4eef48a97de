//! What goes to a backend.

use std::hash::BuildHasher;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use foldhash::fast::FixedState;
use prost::Message as _;
use proto::internal::{StateEvent, UpItem};
use serde_json::json;

/// Users of an app are told apart by so many buckets, which are dealt to the workers.
const BUCKETS: u64 = 1024;
/// Counted for an event besides its texts and payload.
const OVERHEAD_BYTES: usize = 128;

/// Which of an app's callbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Upstream data, to `upstream_url`.
    Up,
    /// Online and offline, to `state_url`.
    State,
}

impl Kind {
    pub(crate) const ALL: [Kind; 2] = [Kind::Up, Kind::State];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::Up => "up",
            Kind::State => "state",
        }
    }

    /// As it is stored.
    pub(crate) fn code(self) -> i64 {
        match self {
            Kind::Up => 1,
            Kind::State => 2,
        }
    }

    pub(crate) fn from_code(code: i64) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// One callback of one app: events of different lanes never wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LaneKey {
    pub(crate) app: u32,
    pub(crate) kind: Kind,
}

/// What goes to a backend.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    Up(UpItem),
    State(StateEvent),
}

/// A stored event cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a stored event cannot be read: {0}")]
pub(crate) struct BadEvent(String);

impl Event {
    pub(crate) fn lane(&self) -> LaneKey {
        match self {
            Event::Up(up) => LaneKey { app: up.app, kind: Kind::Up },
            Event::State(state) => LaneKey { app: state.app, kind: Kind::State },
        }
    }

    pub(crate) fn uid(&self) -> &str {
        match self {
            Event::Up(up) => &up.uid,
            Event::State(state) => &state.uid,
        }
    }

    pub(crate) fn id(&self) -> u64 {
        match self {
            Event::Up(up) => up.id,
            Event::State(state) => state.id,
        }
    }

    /// Events of one user are always in the same bucket. The function is fixed: stored events name theirs.
    pub(crate) fn bucket(&self) -> u16 {
        (FixedState::default().hash_one(self.uid()) % BUCKETS) as u16
    }

    /// What the event takes in memory and on disk, about.
    pub(crate) fn bytes(&self) -> usize {
        OVERHEAD_BYTES
            + match self {
                Event::Up(up) => up.uid.len() + up.kind.len() + up.payload.len(),
                Event::State(state) => state.uid.len(),
            }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Event::Up(up) => up.encode_to_vec(),
            Event::State(state) => state.encode_to_vec(),
        }
    }

    pub(crate) fn decode(kind: Kind, bytes: &[u8]) -> Result<Event, BadEvent> {
        let event = match kind {
            Kind::Up => UpItem::decode(bytes).map(Event::Up),
            Kind::State => StateEvent::decode(bytes).map(Event::State),
        };
        event.map_err(|error| BadEvent(error.to_string()))
    }

    /// The request's body. Numbers of 64 bits are texts: JavaScript would round them.
    pub(crate) fn body(&self, app: &str) -> Vec<u8> {
        let body = match self {
            Event::Up(up) => json!({
                "type": "up",
                "id": up.id.to_string(),
                "app": app,
                "uid": up.uid,
                "kind": up.kind,
                "payload": BASE64.encode(&up.payload),
                "at_ms": up.at_ms,
            }),
            Event::State(state) => json!({
                "type": if state.online { "online" } else { "offline" },
                "id": state.id.to_string(),
                "app": app,
                "uid": state.uid,
                "fence": state.fence.to_string(),
                "room": state.room,
                "conn": state.conn.to_string(),
                "at_ms": state.at_ms,
            }),
        };
        body.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_as_documented() {
        let up = Event::Up(UpItem {
            app: 7,
            uid: "alice".into(),
            kind: "chat".into(),
            payload: "hi".into(),
            id: u64::MAX,
            at_ms: 5,
        });
        let body: serde_json::Value = serde_json::from_slice(&up.body("demo")).unwrap();
        let expected = json!({"type": "up", "id": "18446744073709551615", "app": "demo", "uid": "alice",
            "kind": "chat", "payload": "aGk=", "at_ms": 5});
        assert_eq!(body, expected);
        let state = StateEvent {
            app: 7,
            uid: "alice".into(),
            online: false,
            room: 3,
            conn: 9,
            fence: 8,
            at_ms: 6,
            id: 4,
        };
        let body: serde_json::Value = serde_json::from_slice(&Event::State(state).body("demo")).unwrap();
        let expected = json!({"type": "offline", "id": "4", "app": "demo", "uid": "alice", "fence": "8",
            "room": 3, "conn": "9", "at_ms": 6});
        assert_eq!(body, expected);
    }

    #[test]
    fn stored_events_come_back() {
        let up = Event::Up(UpItem { app: 7, uid: "alice".into(), payload: "x".into(), ..UpItem::default() });
        assert_eq!(Event::decode(Kind::Up, &up.encode()), Ok(up));
        assert!(Event::decode(Kind::Up, &[0xff]).is_err());
    }

    /// Stored events name their bucket, so the function must never change.
    #[test]
    fn buckets_are_pinned() {
        let bucket = |uid: &str| Event::Up(UpItem { uid: uid.into(), ..UpItem::default() }).bucket();
        assert_eq!([bucket("alice"), bucket("bob")], PINNED);
    }
    const PINNED: [u16; 2] = [982, 313];
}
