//! Pushes for later, as the archive keeps them: in parts of a bounded number of users.

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use proto::internal::ScheduledPush;
use wire::id::{AppId, MessageId};

/// Most bytes of a list's answer that one part may take: its numbers, and a collapse key.
pub(super) const HEAD_BYTES: usize = 512;

/// Name of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartName {
    /// The app.
    pub app: AppId,
    /// The message.
    pub id: MessageId,
    /// Which of its parts.
    pub part: u32,
}

/// When a part is due, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartDue {
    /// When, ms since 1970.
    pub due_ms: u64,
    /// The part.
    pub name: PartName,
    /// Its first user, whose saver takes care of it.
    pub uid: String,
}

/// A part to keep.
#[derive(Clone, Debug)]
pub struct NewPart {
    /// When it is due, and its name.
    pub due: PartDue,
    /// How many users it has.
    pub users: u32,
    /// The rest; see [`pack`].
    pub body: Bytes,
}

/// A part without its users and its payload.
#[derive(Clone, Debug, PartialEq)]
pub struct PartHead {
    /// Its first user.
    pub uid: String,
    /// The push; `users` says how many it has.
    pub push: ScheduledPush,
}

/// A push as stored: the length of its head (two bytes), the head, and then users and payload. What lists read of it is at the
/// front, and the two messages one after the other are the whole again.
pub(crate) fn pack(mut push: ScheduledPush) -> Bytes {
    let rest = ScheduledPush {
        uids: std::mem::take(&mut push.uids),
        payload: std::mem::take(&mut push.payload),
        ..ScheduledPush::default()
    };
    let head = push.encoded_len();
    let mut body = BytesMut::with_capacity(2 + head + rest.encoded_len());
    body.extend_from_slice(&u16::try_from(head).unwrap_or(u16::MAX).to_be_bytes());
    body.extend_from_slice(&push.encode_to_vec());
    body.extend_from_slice(&rest.encode_to_vec());
    body.freeze()
}

/// The whole push; `None` if it cannot be read.
pub(super) fn unpack(body: &[u8]) -> Option<ScheduledPush> {
    ScheduledPush::decode(body.get(2..)?).ok()
}

/// The head of the first [`HEAD_BYTES`] or more of a body.
pub(super) fn unpack_head(body: &[u8], users: u32) -> Option<ScheduledPush> {
    let (length, rest) = body.split_first_chunk::<2>()?;
    let head = rest.get(..usize::from(u16::from_be_bytes(*length)))?;
    Some(ScheduledPush { users, ..ScheduledPush::decode(head).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_wholes() {
        let push = ScheduledPush {
            id: 7,
            app: 1,
            due_ms: 99,
            local_minutes: Some(5),
            uids: (0..4_000).map(|n| format!("user-{n}")).collect(),
            payload: Bytes::from(vec![7; 300_000]),
            collapse_key: "k".repeat(64),
            multicast: true,
            ..ScheduledPush::default()
        };
        let body = pack(push.clone());
        assert_eq!(unpack(&body), Some(push.clone()));
        let head = ScheduledPush { uids: Vec::new(), payload: Bytes::new(), users: 4_000, ..push };
        assert_eq!(unpack_head(&body[..HEAD_BYTES], 4_000), Some(head));
        assert_eq!(unpack_head(&body[..5], 1), None);
    }
}
