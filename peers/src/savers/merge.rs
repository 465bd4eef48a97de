//! One answer out of those of all shards.

use std::collections::HashMap;

use bytes::Bytes;
use proto::internal as rpc;

/// Numbers add up; what is a property of the message itself is taken from a shard that knows it.
pub(super) fn ledgers(parts: Vec<rpc::LedgerResponse>) -> rpc::LedgerResponse {
    let mut whole = rpc::LedgerResponse::default();
    for part in parts.into_iter().filter(|part| part.found) {
        whole.found = true;
        whole.accepted_ms = whole.accepted_ms.max(part.accepted_ms);
        whole.expires_ms = whole.expires_ms.max(part.expires_ms);
        whole.multicast |= part.multicast;
        whole.targets += part.targets;
        whole.acked += part.acked;
        whole.stored += part.stored;
        whole.expired += part.expired;
        whole.recalled += part.recalled;
        for (reason, count) in part.dropped {
            *whole.dropped.entry(reason).or_default() += count;
        }
        whole.broadcast = whole.broadcast.or(part.broadcast);
        whole.counts = whole.counts.or(part.counts);
    }
    whole
}

/// Entries of one message share payload and audience, each of which comes with the first of them that has it. Those that
/// were taken back stay without a payload.
pub(super) fn share_bodies(broadcasts: &mut [rpc::StoredBroadcast]) {
    let (mut payloads, mut audiences) = (HashMap::<u64, Bytes>::new(), HashMap::<u64, String>::new());
    for one in broadcasts {
        if !one.payload.is_empty() {
            payloads.insert(one.id, one.payload.clone());
        } else if let Some(payload) = payloads.get(&one.id)
            && !one.recalled
        {
            one.payload = payload.clone();
        }
        let audience = audiences.entry(one.id).or_insert_with(|| one.audience.clone());
        one.audience.clone_from(audience);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_one_message_share_its_body() {
        let entry = |id, payload: &'static [u8], audience: &str| rpc::StoredBroadcast {
            id,
            payload: Bytes::from_static(payload),
            audience: audience.into(),
            ..Default::default()
        };
        let recalled = rpc::StoredBroadcast { recalled: true, ..entry(1, b"", "") };
        // The first of them is over, and has no payload any more.
        let mut page = [
            entry(1, b"", "a"),
            entry(2, b"", ""),
            entry(1, b"one", ""),
            recalled,
            entry(1, b"", ""),
            entry(2, b"", ""),
        ];
        share_bodies(&mut page);
        assert_eq!(page.each_ref().map(|b| &*b.payload), [&b""[..], b"", b"one", b"", b"one", b""]);
        assert_eq!(page.map(|b| b.audience), ["a", "", "a", "a", "a", ""]);
    }

    #[test]
    fn ledgers_add_up() {
        let shard = |acked, full| rpc::LedgerResponse {
            found: true,
            accepted_ms: 7,
            multicast: true,
            targets: acked + full,
            acked,
            dropped: [("inbox_full".to_owned(), full)].into(),
            ..Default::default()
        };
        let whole = ledgers(vec![shard(2, 1), rpc::LedgerResponse::default(), shard(3, 4)]);
        assert!(whole.found && whole.multicast);
        assert_eq!((whole.targets, whole.acked, whole.accepted_ms), (10, 5, 7));
        assert_eq!(whole.dropped["inbox_full"], 5);
        assert!(!ledgers(vec![rpc::LedgerResponse::default()]).found);
    }
}
