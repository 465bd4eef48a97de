//! A binding whose device has come elsewhere.

use audience::Offset;

use super::{
    super::{apps::App, binding::Binding},
    count_in, meant,
    owing::{Before, MAX_OWED, Standing},
};

impl App {
    /// A binding's device is elsewhere now: what it has not been served is judged by that, and the rest by where it was, whether
    /// the device has acked it or not.
    pub(crate) fn move_device(&mut self, slot: u32, binding: &mut Binding, network: u8, offset: Offset) {
        if (binding.network, binding.offset) == (network, offset) {
            return;
        }
        let reached = self.log.reached(slot, binding.cursor);
        let through = if binding.backed >= binding.bsent { reached } else { binding.backed };
        let mut credits = self.credits(slot, binding, through);
        self.log.owing.forgotten += credits.len().saturating_sub(MAX_OWED) as u64;
        credits.truncate(MAX_OWED);
        let span =
            (self.log.owing.base(slot, binding).max(through), reached.min(self.log.counted(slot, binding)));
        let had = self.meant_in(slot, binding, span);
        let skips = self.log.owing.skips_in(slot, span);
        self.part(slot, binding);
        self.change(slot, binding, network, offset);
        if had != self.meant_in(slot, binding, span) {
            self.log.owing.note_moved(slot, span.1, had);
        }
        self.log.owing.skips.extend(skips.iter().map(|(bseq, fate)| ((slot, *bseq), *fate)));
        if credits.is_empty() {
            // There is nothing to count up to there, also where the archive has not been told of the place.
            binding.bsaved = binding.bsaved.max(through);
        } else {
            self.log.owing.owe(slot, Before { through, credits });
        }
        if let Some(opening) = &mut self.log.opening {
            opening.come_late(slot);
        }
        binding.cursor = reached;
        let counted = self.log.counted(slot, binding);
        let span = (self.log.owing.base(slot, binding), counted);
        // Of an entry that nobody else was passed over by, a standing does not show what is noted.
        meant(&self.tags, &mut self.log, (slot, binding), span, |kept, standing| {
            count_in(kept, skips.get(&kept.bseq).map_or(standing, |fate| Standing::Skipped(*fate)));
        });
        if reached < self.log.opened.max(counted) {
            self.log.go_back(slot);
        }
    }

    /// The entries in (after, through] that are meant for a binding.
    fn meant_in(&self, slot: u32, binding: &Binding, (after, through): (u64, u64)) -> Vec<u64> {
        let Self { tags, log, .. } = self;
        let first = log.tail.position_after(after);
        let span = log.tail.entries.range(first..).take_while(|kept| kept.bseq <= through);
        let meant = span.filter(|kept| log.owing.is_meant(tags, kept, slot, binding));
        meant.map(|kept| kept.bseq).collect()
    }
}
