//! The message id: time-ordered and unique in the cluster.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Names a message or broadcast: milliseconds since 2025-01-01T00:00Z, the node that made it, a counter.
///
/// In JSON it is a decimal string, because JavaScript would round the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MessageId(pub u64);

impl MessageId {
    /// 2025-01-01T00:00Z in milliseconds since 1970.
    pub const EPOCH_MS: u64 = 1_735_689_600_000;
    /// Bits of the counter: 4096 ids a millisecond and node.
    pub const COUNTER_BITS: u32 = 12;
    /// Bits of the node number.
    pub const NODE_BITS: u32 = 10;

    /// Puts an id together from milliseconds since 1970, node and counter. Bits beyond a field's width are
    /// cut off, and a time before the epoch counts as the epoch.
    #[must_use]
    pub const fn from_parts(unix_ms: u64, node: u32, counter: u32) -> Self {
        let node = node as u64 & ((1 << Self::NODE_BITS) - 1);
        let counter = counter as u64 & ((1 << Self::COUNTER_BITS) - 1);
        let ms = unix_ms.saturating_sub(Self::EPOCH_MS);
        Self(ms << (Self::NODE_BITS + Self::COUNTER_BITS) | node << Self::COUNTER_BITS | counter)
    }

    /// The bare number, as it travels in messages.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// When it was made, ms since 1970.
    #[must_use]
    pub const fn unix_ms(self) -> u64 {
        (self.0 >> (Self::NODE_BITS + Self::COUNTER_BITS)) + Self::EPOCH_MS
    }

    /// The node that made it.
    #[must_use]
    pub const fn node(self) -> u32 {
        ((self.0 >> Self::COUNTER_BITS) & ((1 << Self::NODE_BITS) - 1)) as u32
    }
}

impl From<u64> for MessageId {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl From<MessageId> for u64 {
    fn from(id: MessageId) -> Self {
        id.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for MessageId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Serialize for MessageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(|_| de::Error::custom("a message id is a decimal number in quotes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        let id = MessageId::from_parts(MessageId::EPOCH_MS + 77, 1023, 4095);
        assert_eq!((id.unix_ms(), id.node(), id.0 & 0xfff), (MessageId::EPOCH_MS + 77, 1023, 4095));
        assert!(id < MessageId::from_parts(MessageId::EPOCH_MS + 78, 0, 0));
    }

    #[test]
    fn json_is_a_string() {
        let id = MessageId(u64::MAX);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, "\"18446744073709551615\"");
        assert_eq!(serde_json::from_str::<MessageId>(&json).unwrap(), id);
        assert!(serde_json::from_str::<MessageId>("7").is_err());
        assert!(serde_json::from_str::<MessageId>("\"x\"").is_err());
    }
}
