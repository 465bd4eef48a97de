//! What is known of one broadcast over all its slices: how far it has come here, and taking it back.

use roaring::RoaringBitmap;
use slab::Slab;
use wire::id::{AppId, Cursor};

use super::{Sessions, apps::App, binding::Binding};
use crate::exchange::{Meant, Progress};

/// Devices have had the time to ack what was sent so long ago, ms.
const RIPE_MS: u64 = 10_000;
/// Bindings that are looked at in one go: about a millisecond.
const LOOKS: u64 = 10_000;

impl Sessions {
    /// What was done for a broadcast. Costs a look at each entry that is known of the logs: half a millisecond for the most
    /// that one may have, and nothing for each binding.
    pub fn progress(&self, id: u64) -> Progress {
        let (now, mut all) = (self.seen, Progress::default());
        for app in self.apps.values() {
            all.sent += app.log.speeds.sent_before(id);
            let [acked, expired, recalled] = app.log.owing.sum(id);
            all.acked += acked;
            all.expired += expired;
            all.recalled += recalled;
            let mut known = false;
            for kept in app.log.tail.entries.iter().filter(|kept| kept.id == id) {
                known = true;
                let rest = u64::from(kept.open) + u64::from(kept.skipped);
                all.acked += u64::from(kept.acked);
                let count = match (kept.recalled, kept.is_dead(now.unix_ms)) {
                    (true, _) => &mut all.recalled,
                    (false, true) => &mut all.expired,
                    (false, false) => &mut all.pending,
                };
                *count += rest;
                all.sent += kept.sent;
                if kept.began_ms > 0 && kept.began_ms + RIPE_MS < now.ms {
                    all.ripe += kept.sent;
                    all.ripe_acked += kept.acks.min(kept.sent);
                }
            }
            if known {
                all.latency = app.log.speeds.latency(id, now.ms);
            }
        }
        all
    }

    /// Whether it has not been chosen yet whom here everything up to a place in an app's log is for: then what
    /// [`Sessions::progress`] tells of those broadcasts is less than all.
    pub fn is_behind(&self, app: AppId, place: Cursor) -> bool {
        let here = self.apps.get(&app).filter(|app| !app.members.is_empty());
        here.is_some_and(|app| (app.log.epoch, app.log.opened) < (place.epoch.0, place.bseq.0))
    }

    /// How many bindings an audience has now, wherever on the ring they are.
    pub fn count(&self, app: AppId, meant: &Meant) -> u64 {
        self.apps.get(&app).map_or(0, |app| app.count(meant))
    }
}

impl App {
    /// Takes a broadcast back. Gives who may have been sent it.
    pub(crate) fn recall(&mut self, id: u64, bindings: &Slab<Binding>) -> RoaringBitmap {
        let mut targets = RoaringBitmap::new();
        let mut known: Option<(&std::sync::Arc<Meant>, RoaringBitmap)> = None;
        let (mut found, mut looks) = (false, LOOKS);
        for kept in self.log.tail.entries.iter().filter(|kept| kept.id == id) {
            found = true;
            targets.extend(self.log.owing.had_elsewhere(kept.bseq));
            let is_same = known.as_ref().is_some_and(|(meant, _)| std::sync::Arc::ptr_eq(meant, &kept.meant));
            if !is_same {
                known = Some((&kept.meant, self.select(&kept.meant)));
            }
            let Some((_, meant)) = &known else { continue };
            if kept.slice.is_whole() {
                targets |= self.log.have(kept.bseq, meant.clone(), bindings);
            } else if meant.len() <= looks {
                looks -= meant.len();
                let is_on = |slot: &u32| {
                    bindings.get(*slot as usize).is_some_and(|one| kept.slice.contains(one.place))
                };
                targets |= self.log.have(kept.bseq, meant.iter().filter(is_on).collect(), bindings);
            } else {
                // Of one that has gone to very many, all of them: who has it not ignores that it is taken back.
                targets |= meant;
            }
        }
        if !found {
            // Too old to know who got it: everyone is told.
            return self.members.clone();
        }
        for kept in self.log.tail.entries.iter_mut().filter(|kept| kept.id == id) {
            kept.recalled = true;
        }
        targets
    }
}
