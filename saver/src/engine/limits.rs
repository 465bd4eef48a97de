//! Bounds of an engine, and what it promises.

/// When an append is answered, over a shared store. Over one of this process all is in the archive before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// The inbox store has it; the archive follows in under a second.
    #[default]
    Fast,
    /// The archive has committed it, too.
    Safe,
}

/// Bounds of an engine.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Deliveries that wait for the writer; further appends are refused as busy.
    pub queue_messages: usize,
    /// Bytes of payload that wait for the writer.
    pub queue_bytes: usize,
    /// Deliveries in one transaction.
    pub batch_messages: usize,
    /// Acks and other final states that the archive has not heard of yet; further acks are refused as busy.
    pub backlog: usize,
    /// Bytes of payload that one load call answers.
    pub load_bytes: usize,
    /// Loads of a message without an ack before it is a dead letter.
    pub max_loads: u32,
    /// Bytes of broadcasts held for readers.
    pub log_cache_bytes: usize,
    /// Inbox cap of apps that name none.
    pub default_inbox_cap: usize,
    /// Greatest inbox cap that an app gets.
    pub max_inbox_cap: usize,
    /// Durability of appends that name none.
    pub durability: Durability,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_messages: 20_000,
            queue_bytes: 32 << 20,
            batch_messages: 2_048,
            backlog: 100_000,
            load_bytes: 8 << 20,
            max_loads: 32,
            log_cache_bytes: 16 << 20,
            default_inbox_cap: 1_000,
            max_inbox_cap: 10_000,
            durability: Durability::Fast,
        }
    }
}
