//! What devices said of their clocks when they bound: kept for messages that are due at their local time.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;

use super::{Engine, LoadItem, writer::Op, writes};
use crate::{archive::Archive, error::Refused, inbox::InboxStore, model::InboxKey};

/// Users of whom it is remembered what was kept last: 512 KiB. One who is forgotten is written once more.
const REMEMBERED: usize = 1 << 16;
/// What was kept so long ago is written again, ms: where savers take turns, another may have kept something else since.
const RENEW_MS: u64 = 3_600_000;
/// Bits of an entry: an offset, more than ±12 hours of minutes; hours since 1970; and of the user's hash what is left.
const OFFSET_BITS: u32 = 12;
const HOUR_BITS: u32 = 12;

/// What was kept of late.
pub(super) struct Offsets(Box<[AtomicU64]>);

impl Offsets {
    pub(super) fn new() -> Self {
        Self((0..REMEMBERED).map(|_| AtomicU64::new(0)).collect())
    }

    /// Whether this is to be kept; it is then remembered as kept.
    fn is_news(&self, key: &InboxKey, minutes: i16, now_ms: u64) -> bool {
        let hash = key.hash64();
        let hour = (now_ms / RENEW_MS) & ((1 << HOUR_BITS) - 1);
        let low = u64::from((minutes + 2048).cast_unsigned()) & ((1 << OFFSET_BITS) - 1);
        let entry = (hash << (OFFSET_BITS + HOUR_BITS)) | (hour << OFFSET_BITS) | low;
        // The place is of bits that the entry does not hold.
        let place = (hash >> (64 - REMEMBERED.ilog2())) as usize;
        self.0[place].swap(entry, Ordering::Relaxed) != entry
    }
}

impl<I: InboxStore, A: Archive> Engine<I, A> {
    /// Keeps what the devices of those who bind said, where it is news. Nobody waits for it; if the writer has no room for it,
    /// or the archive fails, it is kept at a later bind.
    pub(super) fn keep_offsets(&self, items: &[LoadItem]) {
        let now = self.now_ms();
        let told = items.iter().filter_map(|i| Some((&i.key, i.utc_offset_min?)));
        let news: Vec<(InboxKey, i16)> = told
            .filter(|(key, minutes)| self.core.offsets.is_news(key, *minutes, now))
            .map(|(key, minutes)| (key.clone(), minutes))
            .collect();
        if !news.is_empty() {
            let write = writes::Write::Offsets(news);
            if self.ops.try_send(Op::Write { write, reply: oneshot::channel().0 }).is_err() {
                self.core.metrics.offsets_skipped.inc();
            }
        }
    }

    /// The users' offsets from UTC, minutes; 0 where none is known.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub async fn utc_offsets(&self, keys: &[InboxKey]) -> Result<Vec<i16>, Refused> {
        let known = self.core.archive.offsets(keys).await?;
        Ok(known.into_iter().map(Option::unwrap_or_default).collect())
    }
}

#[cfg(test)]
mod tests {
    use wire::id::{AppId, Uid};

    use super::*;

    #[test]
    fn only_news_are_kept() {
        let offsets = Offsets::new();
        let key = |uid: &str| InboxKey::new(AppId(1), Uid::new(uid).unwrap());
        assert!(offsets.is_news(&key("a"), 0, 0));
        assert!(!offsets.is_news(&key("a"), 0, RENEW_MS - 1));
        assert!(offsets.is_news(&key("a"), -720, RENEW_MS - 1));
        assert!(offsets.is_news(&key("a"), 840, RENEW_MS - 1));
        assert!(!offsets.is_news(&key("a"), 840, RENEW_MS - 1));
        assert!(offsets.is_news(&key("a"), 840, RENEW_MS));
        assert!(offsets.is_news(&key("b"), 840, RENEW_MS));
    }
}
