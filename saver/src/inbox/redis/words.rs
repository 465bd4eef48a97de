//! Idempotency keys.
//!
//! A key is in the partition of its name, apart from all inboxes. A key that is certainly new is tied here and lands
//! with the journal, so that it needs no archive; of all others the archive has the truth (`scripts/tie.lua`).

use super::*;
use crate::{archive::Reservation, inbox::Tied};

/// Places of a key in a filter. With 12 bits for each key one key in 200 is taken for another.
const PLACES: u64 = 5;

impl RedisInboxes {
    pub(super) async fn word(
        &self,
        wanted: &Reservation,
        mode: &'static str,
        now_ms: u64,
    ) -> InboxResult<Tied> {
        let live = self.live()?;
        let settings = &self.shared.settings;
        let partitions = live.bases.len();
        let hash = rendezvous::word_key(wanted.app.0, &wanted.word);
        let partition = ((hash >> 32) % partitions as u64) as u32;
        let mut call = live.within(&scripts::TIE, partition, now_ms, 8 + PLACES as usize);
        let name = codec::word(wanted);
        call.cmd.arg(mode).arg(name.as_slice()).arg(codec::tied_to(wanted));
        call.cmd.arg(settings.journal_records).arg(settings.journal_bytes);
        call.cmd
            .arg((settings.words / partitions).max(1))
            .arg((settings.filter_bytes / partitions).max(8) * 8);
        call.cmd.arg(i32::from(settings.cluster));
        places(hash).for_each(|place| _ = call.cmd.arg(place));
        let answer = self.call(&live, Line::Appends, call).await?;
        let Value::Array(values) = &answer else { return Err(unexpected(&answer)) };
        match (number(values.first()), values.get(1)) {
            (Some(0), Some(Value::BulkString(value))) => {
                codec::reservation(&name, value).map(Tied::Known).ok_or_else(|| unexpected(&answer))
            }
            (Some(1), _) => Ok(Tied::New),
            (Some(2), _) => Ok(Tied::Ask),
            _ => Err(unexpected(&answer)),
        }
    }
}

/// Where a key is in a filter of any size: five places that have nothing to do with each other, nor with the partition.
fn places(hash: u64) -> impl Iterator<Item = u64> {
    (1..=PLACES).map(move |n| {
        // The finisher of SplitMix64.
        let mut x = hash.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // What a script can count.
        (x ^ (x >> 31)) >> 12
    })
}
