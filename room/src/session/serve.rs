//! Sending an app's broadcasts to one binding after the other: those who keep up, those who lag, and those who lag so far
//! that they need a page of the log.

use bytes::Bytes;
use wire::{codec::broadcast_for, id::BindingId};

use super::{
    apps::Tags,
    binding::Binding,
    flags::Flags,
    log::{Kept, Log, Page},
    outlet::{Class, Outlet},
    tally::Tally,
};
use crate::{clock::Now, exchange::LogEntry};

/// How serving one binding ended.
enum Served {
    /// It has everything that there was to serve.
    All,
    /// Its connection has no place for more.
    Over,
}

/// Whether it is still to be sent.
pub(crate) fn is_due(kept: &Kept, now: Now) -> bool {
    !kept.recalled && is_alive(&kept.entry, now)
}

fn is_alive(entry: &LogEntry, now: Now) -> bool {
    entry.expires_ms == 0 || entry.expires_ms > now.unix_ms
}

/// Sends a broadcast; `false`: the connection has no place for it.
fn send(frame: &Bytes, binding: &Binding, out: &mut impl Outlet) -> bool {
    if !binding.flags.has(Flags::SHARES_APP) {
        return out.share(binding.conn, frame, Class::Data);
    }
    let own = broadcast_for(frame, BindingId(binding.number));
    out.write(binding.conn, own.len(), Class::Data, |buffer| buffer.extend_from_slice(&own))
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
    let first = log.position_after(reached);
    for kept in log.tail.range_mut(first..) {
        if kept.entry.bseq > to {
            break;
        }
        let is_meant = || only == Some(kept.entry.bseq) || tags.matches(&kept.entry.audience, slot);
        if is_due(kept, now) && is_meant() {
            if !send(&kept.entry.frame, binding, out) {
                binding.cursor = reached;
                return Served::Over;
            }
            kept.sent += 1;
            tally.broadcasts += 1;
            binding.bsent = kept.entry.bseq;
        }
        reached = kept.entry.bseq;
    }
    binding.cursor = reached.max(to);
    Served::All
}

/// Goes on with a pass, with at most `budget` bindings; gives how many it was.
pub(crate) fn serve_pass(
    tags: &Tags,
    log: &mut Log,
    bindings: &mut slab::Slab<Binding>,
    budget: usize,
    now: Now,
    out: &mut impl Outlet,
    tally: &mut Tally,
) -> usize {
    let to = log.pass_end();
    let Some(mut pass) = log.pass.take() else { return 0 };
    let slots: Vec<u32> = pass.targets.iter().take(budget).collect();
    pass.targets.remove_smallest(slots.len() as u64);
    for slot in &slots {
        let Some(binding) = bindings.get_mut(*slot as usize) else { continue };
        // With what has come since the pass began: so everyone is met once for all that has gathered in a round, wherever in
        // the round it came, and not once for its beginning and once for its rest.
        let what = (to, pass.only);
        if let Served::Over = serve_tail(tags, log, (*slot, binding), what, now, out, tally) {
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
pub(crate) fn serve_ready(
    tags: &Tags,
    log: &mut Log,
    bindings: &mut slab::Slab<Binding>,
    budget: usize,
    now: Now,
    out: &mut impl Outlet,
    tally: &mut Tally,
) -> usize {
    let slots: Vec<u32> = log.ready.iter().take(budget).collect();
    log.ready.remove_smallest(slots.len() as u64);
    for slot in &slots {
        let Some(binding) = bindings.get_mut(*slot as usize) else { continue };
        if !log.lagging.contains(*slot) {
            continue;
        }
        if binding.cursor < log.oldest {
            log.waiting.insert(*slot);
            continue;
        }
        let what = (log.known, None);
        if let Served::All = serve_tail(tags, log, (*slot, binding), what, now, out, tally) {
            log.lagging.remove(*slot);
            // A pass that is under way may still hold it; its cursor says that there is nothing to do.
        }
    }
    slots.len()
}

/// Goes on with a page, for at most `budget` of those who wait for it; gives how many it was.
pub(crate) fn serve_page(
    tags: &Tags,
    log: &mut Log,
    bindings: &mut slab::Slab<Binding>,
    budget: usize,
    now: Now,
    out: &mut impl Outlet,
    tally: &mut Tally,
) -> usize {
    let Some(mut page) = log.page.take() else { return 0 };
    let slots: Vec<u32> = page.slots.iter().take(budget).collect();
    page.slots.remove_smallest(slots.len() as u64);
    for slot in &slots {
        let Some(binding) = bindings.get_mut(*slot as usize) else { continue };
        if page_to(tags, &page, (*slot, binding), now, out, tally) {
            binding.cursor = binding.cursor.max(page.run.through);
            if binding.cursor < log.oldest { &mut log.waiting } else { &mut log.ready }.insert(*slot);
        }
    }
    if !page.slots.is_empty() {
        log.page = Some(page);
    }
    slots.len()
}

/// Sends what a page has for one binding; `false` if its connection has no place for more.
fn page_to(
    tags: &Tags,
    page: &Page,
    (slot, binding): (u32, &mut Binding),
    now: Now,
    out: &mut impl Outlet,
    tally: &mut Tally,
) -> bool {
    let from = page.run.entries.partition_point(|entry| entry.bseq <= binding.cursor);
    for entry in &page.run.entries[from..] {
        if is_alive(entry, now) && tags.matches(&entry.audience, slot) {
            if !send(&entry.frame, binding, out) {
                return false;
            }
            tally.broadcasts += 1;
            binding.bsent = entry.bseq;
        }
        binding.cursor = entry.bseq;
    }
    true
}
