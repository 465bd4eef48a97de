//! Telling the archive, while bindings live, how far they have come: only of what is old, slowly, and faster when so much is
//! known of a log that the oldest would have to give way; and of what was to be told at a bind, when the archive was away. All else
//! it is told when a binding ends.

use wire::id::AppId;

use super::{Sessions, apps::App};
use crate::{
    clock::Now,
    exchange::{BindingKey, KeepAnswer, KeepAsk},
};

/// Bindings that are looked at in a tick, and those that are told of at most: 128 a second cost a saver about a hundredth of a
/// processor. Of a log that is crowded, more.
const LOOKS: usize = 2_048;
const TOLD: usize = 32;
const TOLD_IF_CROWDED: usize = 512;
/// Entries that may be gone over for that, half a millisecond.
const ENTRIES: usize = 100_000;

impl App {
    /// Up to here the archive is to be told.
    fn old(&self, age_ms: u64, now: Now) -> u64 {
        let tail = &self.log.tail.entries;
        let old = tail.partition_point(|kept| kept.came_ms + age_ms <= now.ms);
        let crowd = if self.log.tail.is_crowded() { tail.len() / 2 } else { 0 };
        old.max(crowd).checked_sub(1).map_or(0, |last| tail[last].bseq)
    }
}

impl Sessions {
    /// Looks at some bindings of one app. Call it at every tick.
    pub(crate) fn keep_some(&mut self, now: Now) {
        let age_ms = self.limits.keep_ms;
        let next = |id: &AppId| id.0 >= self.keep_next.0.0;
        let has_some = |app: &App| app.old(age_ms, now) > 0 || app.log.owing.has_debtors();
        let candidates = self.apps.iter().filter(|(_, app)| has_some(app)).map(|(id, _)| *id);
        let candidates: Vec<AppId> = candidates.collect();
        let first = candidates.iter().filter(|id| next(id)).min().or_else(|| candidates.iter().min());
        let Some(id) = first.copied() else { return };
        let from = if id == self.keep_next.0 { self.keep_next.1 } else { 0 };
        let Some(app) = self.apps.get_mut(&id) else { return };
        let old = app.old(age_ms, now);
        let most = if app.log.tail.is_crowded() { TOLD_IF_CROWDED } else { TOLD };
        let debtors = app.log.owing.debtors().filter(|slot| !self.keeping.contains(slot)).take(TOLD);
        let mut slots: Vec<(u32, bool)> = debtors.map(|slot| (slot, true)).collect();
        // Those are told beside the others.
        let most = most + slots.len();
        slots.extend(
            app.members.range(from..).take(if old > 0 { LOOKS } else { 0 }).map(|slot| (slot, false)),
        );
        let (mut told, mut entries) = (0, 0);
        let mut end = None;
        for (slot, is_debtor) in slots {
            if told >= most || entries >= ENTRIES || self.asks.keeps.is_full() {
                break;
            }
            if !is_debtor {
                end = Some(slot);
            }
            let Some(binding) = self.bindings.get_mut(slot as usize) else { continue };
            if (binding.bsaved >= old && !is_debtor) || self.keeping.contains(&slot) {
                continue;
            }
            let reached = app.log.reached(slot, binding.cursor);
            let owes = app.owes_before(slot);
            let Some(cursor) = binding.resume_cursor(app.log.epoch, reached, owes) else { continue };
            entries += app.log.position_after(cursor.bseq.0) - app.log.position_after(binding.bsaved) + 64;
            let credits = app.credits(slot, binding, cursor.bseq.0);
            if credits.is_empty() {
                continue;
            }
            let key = BindingKey { slot, generation: binding.generation };
            let ask = KeepAsk { binding: key, app: id, uid: binding.uid.clone(), cursor, credits };
            if self.asks.keeps.push(ask).is_ok() {
                self.keeping.insert(slot);
                self.tally.keeps += 1;
                told += 1;
            }
        }
        // After the last of an app comes the next app.
        self.keep_next = match end {
            Some(slot) => (id, slot + 1),
            None => (AppId(id.0.wrapping_add(1)), 0),
        };
        self.tally.credits_lost += app.log.forget_old();
        self.tally.skips_forgotten += std::mem::take(&mut app.log.owing.forgotten);
    }

    /// The archive has kept a cursor, or it is not known whether it has: then it is told again, and what comes with it.
    pub fn on_kept(&mut self, answer: KeepAnswer) {
        let slot = answer.binding.slot;
        let Some(binding) = self.binding(answer.binding) else { return };
        if !binding.is_live() {
            return;
        }
        let app = binding.app;
        self.keeping.remove(&slot);
        let (Some(kept), Some(app)) = (answer.kept, self.apps.get_mut(&app)) else { return };
        let Some(binding) = self.bindings.get_mut(slot as usize) else { return };
        if kept.epoch.0 == app.log.epoch {
            app.settle(slot, binding, kept.bseq.0);
            binding.bsaved = binding.bsaved.max(kept.bseq.0);
        }
    }
}
