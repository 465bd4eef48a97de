//! Sending an app's broadcasts to one binding after the other: those who keep up, those who lag, and those who lag so far
//! that they need a page of the log.

use bytes::Bytes;
use wire::{codec::broadcast_for, id::BindingId};

use super::{
    apps::{App, Tags},
    binding::Binding,
    flags::Flags,
    log::{Log, Page},
    outlet::{Class, Outlet},
    owed::{come_to, pass_over, surface},
    tail::Kept,
    tally::Tally,
};
use crate::clock::Now;

/// How serving one binding ended.
enum Served {
    /// It has everything that there was to serve.
    All,
    /// Its connection has no place for more.
    Over,
}

/// Where what is sent goes, when, and by whom it is counted.
pub(crate) struct Sending<'a, O> {
    pub(crate) bindings: &'a mut slab::Slab<Binding>,
    pub(crate) now: Now,
    pub(crate) out: &'a mut O,
    pub(crate) tally: &'a mut Tally,
}

fn is_meant(tags: &Tags, kept: &Kept, slot: u32, binding: &Binding) -> bool {
    kept.slice.contains(binding.place) && tags.matches(&kept.meant, slot, binding)
}

/// Sends a broadcast; `false`: the connection has no place for it.
fn send(frame: &Bytes, binding: &Binding, out: &mut impl Outlet) -> bool {
    if !binding.flags.has(Flags::SHARES_APP) {
        return out.share(binding.conn, frame, Class::Data);
    }
    let own = broadcast_for(frame, BindingId(binding.number));
    out.write(binding.conn, own.len(), Class::Data, |buffer| buffer.extend_from_slice(&own))
}

/// Notes that an entry of the log was sent.
fn note_sent(log: &mut Log, place: usize, slot: u32, now: Now, tally: &mut Tally) {
    tally.broadcasts += 1;
    let Some(kept) = log.tail.entries.get_mut(place) else { return };
    kept.sent += 1;
    if kept.began_ms == 0 {
        kept.began_ms = now.ms.max(1);
    }
    let bseq = kept.bseq;
    log.speeds.sent(slot, bseq, now.ms);
}

/// Sends what the tail has for one binding, up to `to`; `only` is known to be meant for it.
fn serve_tail(
    tags: &Tags,
    log: &mut Log,
    (slot, binding): (u32, &mut Binding),
    (to, only): (u64, Option<u64>),
    now: Now,
    out: &mut impl Outlet,
    tally: &mut Tally,
) -> Served {
    let mut reached = log.reached(slot, binding.cursor);
    let mut place = log.position_after(reached);
    while let Some(kept) = log.tail.entries.get(place).filter(|kept| kept.bseq <= to) {
        let bseq = kept.bseq;
        if only == Some(bseq) || is_meant(tags, kept, slot, binding) {
            if bseq <= binding.backed {
                // The device had it before it bound here.
            } else if kept.is_dead(now.unix_ms) {
                pass_over(log, place, slot, binding);
            } else if let Some(frame) = log.tail.frame(place) {
                if !send(&frame, binding, out) {
                    binding.cursor = reached;
                    return Served::Over;
                }
                note_sent(log, place, slot, now, tally);
                binding.bsent = bseq;
            }
        }
        reached = bseq;
        place += 1;
    }
    binding.cursor = reached.max(to);
    Served::All
}

impl App {
    /// Goes on with a pass, with at most `budget` bindings; gives how many it was.
    pub(crate) fn serve_pass(&mut self, budget: usize, sending: &mut Sending<'_, impl Outlet>) -> usize {
        let Self { tags, log, .. } = self;
        let Sending { bindings, now, out, tally } = sending;
        let Some(mut pass) = log.pass.take() else { return 0 };
        let slots: Vec<u32> = pass.targets.iter().take(budget).collect();
        pass.targets.remove_smallest(slots.len() as u64);
        // With what has been opened since the pass began: so everyone is met once for all that has gathered in a round, wherever
        // in the round it came, and not once for its beginning and once for its rest.
        let what = (log.opened, pass.only);
        for slot in &slots {
            let Some(binding) = bindings.get_mut(*slot as usize) else { continue };
            if let Served::Over = serve_tail(tags, log, (*slot, binding), what, *now, *out, tally) {
                log.lagging.insert(*slot);
                tally.behind += 1;
            }
        }
        if pass.targets.is_empty() {
            log.done = pass.to;
        } else {
            log.pass = Some(pass);
        }
        slots.len()
    }

    /// Serves those who lag and whose sockets have room again.
    pub(crate) fn serve_ready(&mut self, budget: usize, sending: &mut Sending<'_, impl Outlet>) -> usize {
        let Self { tags, log, .. } = self;
        let Sending { bindings, now, out, tally } = sending;
        let slots: Vec<u32> = log.ready.iter().take(budget).collect();
        log.ready.remove_smallest(slots.len() as u64);
        for slot in &slots {
            let Some(binding) = bindings.get_mut(*slot as usize) else { continue };
            if !log.lagging.contains(*slot) {
                continue;
            }
            if binding.cursor < log.tail.oldest {
                log.waiting.insert(*slot);
                continue;
            }
            surface(tags, log, *slot, binding);
            let what = (log.opened, None);
            if let Served::All = serve_tail(tags, log, (*slot, binding), what, *now, *out, tally) {
                log.lagging.remove(*slot);
                // A pass that is under way may still hold it; its cursor says that there is nothing to do.
            }
        }
        slots.len()
    }

    /// Goes on with a page, for at most `budget` of those who wait for it; gives how many it was.
    pub(crate) fn serve_page(&mut self, budget: usize, sending: &mut Sending<'_, impl Outlet>) -> usize {
        let Self { tags, log, .. } = self;
        let Sending { bindings, now, out, tally } = sending;
        let Some(mut page) = log.page.take() else { return 0 };
        let slots: Vec<u32> = page.slots.iter().take(budget).collect();
        page.slots.remove_smallest(slots.len() as u64);
        for slot in &slots {
            let Some(binding) = bindings.get_mut(*slot as usize) else { continue };
            if page_to(tags, log, &page, (*slot, binding), *now, *out, tally) {
                binding.cursor = binding.cursor.max(page.run.through);
                if binding.cursor < log.tail.oldest { &mut log.waiting } else { &mut log.ready }
                    .insert(*slot);
            }
        }
        if !page.slots.is_empty() {
            log.page = Some(page);
        }
        slots.len()
    }
}

/// Sends what a page has for one binding; `false` if its connection has no place for more.
fn page_to(
    tags: &Tags,
    log: &mut Log,
    page: &Page,
    (slot, binding): (u32, &mut Binding),
    now: Now,
    out: &mut impl Outlet,
    tally: &mut Tally,
) -> bool {
    let from = page.run.entries.partition_point(|entry| entry.bseq <= binding.cursor);
    for entry in &page.run.entries[from..] {
        let meant = entry.slice.contains(binding.place) && tags.matches(&entry.meant, slot, binding);
        if meant {
            let place = log.position_after(entry.bseq - 1);
            let kept = log.tail.entries.get(place).filter(|kept| kept.bseq == entry.bseq);
            let recalled = kept.is_some_and(|kept| kept.recalled);
            let is_known = kept.is_some();
            let had = entry.bseq <= binding.backed;
            let dead = recalled || entry.is_dead(now.unix_ms);
            if !had && !dead && !send(&entry.frame(), binding, out) {
                return false;
            }
            if !is_known {
                // There are too many entries; nobody will know that it was for this binding.
                tally.credits_lost += 1;
                tally.broadcasts += u64::from(!had && !dead);
            } else {
                if log.deep.contains(slot) {
                    come_to(log, place, slot, binding);
                }
                if had {
                    // It is counted as acked.
                } else if dead {
                    pass_over(log, place, slot, binding);
                } else {
                    note_sent(log, place, slot, now, tally);
                }
            }
            if !had && !dead {
                binding.bsent = entry.bseq;
            }
        }
        binding.cursor = entry.bseq;
    }
    true
}
