//! Rendezvous (highest random weight) hashing, Thaler and Ravishankar 1998: every node scores a key, the highest
//! score owns it. A node that leaves moves only its own keys.
//!
//! The hash is part of the cluster's contract: all nodes, of all versions, must agree on it, so it is a fixed
//! function written here and not a library's that may change.

use crate::NodeId;

/// Hash of a user, for sharding by (app, uid).
pub fn user_key(app: u32, uid: &str) -> u64 {
    hash(u64::from(app), uid.as_bytes())
}

/// Hash of an app, for what belongs to a whole app (its broadcast log).
pub fn app_key(app: u32) -> u64 {
    hash(u64::from(app), b"app")
}

/// Hash of a word inside an app (an idempotency key).
pub fn word_key(app: u32, word: &str) -> u64 {
    hash(u64::from(app) | 1 << 32, word.as_bytes())
}

/// How much `node` wants `key`; the highest wins.
pub fn score(key: u64, node: NodeId) -> u64 {
    mix(key ^ mix(u64::from(node.0).wrapping_add(0x9E37_79B9_7F4A_7C15)))
}

/// FNV-1a over the bytes, finished with a strong mixer.
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let start = 0xCBF2_9CE4_8422_2325 ^ mix(seed);
    mix(bytes.iter().fold(start, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01B3)))
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit flips each output bit half of the time.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(nodes: &[u32], key: u64) -> u32 {
        *nodes.iter().max_by_key(|n| score(key, NodeId(**n))).unwrap()
    }

    #[test]
    fn shares_are_even() {
        let nodes = [1, 2, 3, 4, 5];
        let mut counts = [0u32; 6];
        for i in 0..50_000 {
            counts[owner(&nodes, user_key(1, &format!("user-{i}"))) as usize] += 1;
        }
        // 10,000 expected each; the standard deviation is about 90.
        assert!(counts[1..].iter().all(|c| (9_500..10_500).contains(c)), "{counts:?}");
    }

    #[test]
    fn only_the_keys_of_a_lost_node_move() {
        for i in 0..5_000 {
            let key = user_key(7, &format!("u{i}"));
            let before = owner(&[1, 2, 3, 4], key);
            let after = owner(&[1, 2, 4], key);
            assert!(before == after || before == 3);
        }
    }

    /// The function is a contract between nodes of different versions.
    #[test]
    fn is_pinned() {
        assert_ne!(user_key(1, "alice"), user_key(2, "alice"));
        assert_eq!([score(1, NodeId(1)), user_key(1, "alice"), app_key(1)], PINNED);
    }
    const PINNED: [u64; 3] =
        [6_652_587_683_579_779_273, 10_148_516_775_251_619_818, 4_105_947_168_416_773_563];
}
