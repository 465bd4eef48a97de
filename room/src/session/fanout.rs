//! Broadcasts out to the bindings, in slices, so that a broadcast to everyone delays nobody's heartbeat.

use bytes::Bytes;
use roaring::RoaringBitmap;
use wire::id::AppId;

use super::{
    Sessions,
    binding::Binding,
    log::{Log, Page, Pass},
    outlet::{Class, Outlet},
    serve::Sending,
};
use crate::{
    clock::Now,
    exchange::{LogRun, PageAsk},
};

/// Recall notices of broadcasts that may be on their way at a time; each holds one frame and one bitmap.
const MAX_RECALLS: usize = 64;

/// A Recall frame on its way to many.
#[derive(Debug)]
pub(crate) struct RecallRound {
    frame: Bytes,
    targets: RoaringBitmap,
    app: AppId,
}

impl Sessions {
    /// New broadcasts, or a part of the log that was asked for (`asked`).
    pub fn on_log(&mut self, run: &LogRun, asked: bool) {
        let (max_bytes, now) = (self.limits.tail_bytes, self.seen);
        let app = self
            .apps
            .entry(run.app)
            .or_insert_with(|| super::apps::App::new(Log::new(run.epoch, run.after), &self.zone));
        if asked {
            app.log.asked = false;
        }
        if run.epoch > app.log.epoch {
            if run.after < app.log.tail.known {
                app.log.restart(run.epoch, run.after);
                // Their devices are told, in parts; until then they are sent nothing in numbers that they would misread.
                app.log.lagging = app.members.clone();
                self.lost.note(run.app, app.members.clone());
            }
            app.log.epoch = run.epoch;
        } else if run.epoch < app.log.epoch {
            return self.queue(run.app);
        }
        if asked && run.after == app.log.tail.known {
            app.log.hole = run.through > run.after || std::mem::take(&mut app.log.late_hole);
        }
        app.log.extend(run, max_bytes, now.ms);
        if asked && !app.log.waiting.is_empty() {
            app.log.tail.note(run, now.unix_ms, now.ms);
            Self::hand_out(run, &mut app.log, &mut self.bindings);
        }
        self.tally.credits_lost += self.apps.get_mut(&run.app).map_or(0, |app| app.log.forget_old());
        self.queue(run.app);
    }

    /// A page could not be read; it is asked for again.
    pub fn on_page_failed(&mut self, app: AppId) {
        if let Some(state) = self.apps.get_mut(&app) {
            state.log.asked = false;
            self.queue(app);
        }
    }

    /// Gives a page to those who wait for it, as far as it is in front of the tail. The rest they are sent from there, when it
    /// has been opened.
    fn hand_out(run: &LogRun, log: &mut Log, bindings: &mut slab::Slab<Binding>) {
        let empty = run.through <= run.after;
        let through = run.through.min(log.tail.oldest);
        let mut slots = RoaringBitmap::new();
        for slot in std::mem::take(&mut log.waiting) {
            let Some(binding) = bindings.get_mut(slot as usize) else { continue };
            if empty && binding.cursor >= run.after {
                // The saver has nothing there: what the tail begins with is next.
                binding.cursor = binding.cursor.max(log.tail.oldest);
                log.ready.insert(slot);
            } else if (run.after..through).contains(&binding.cursor) {
                slots.insert(slot);
            } else {
                log.waiting.insert(slot);
            }
        }
        if !slots.is_empty() {
            let old = run.entries.iter().take_while(|entry| entry.bseq <= through);
            let run = LogRun { entries: old.cloned().collect(), through, ..*run };
            log.page = Some(Page { run, slots });
        }
    }

    /// Puts an app into the queue of those that have something to do.
    pub(crate) fn queue(&mut self, app: AppId) {
        if let Some(state) = self.apps.get_mut(&app)
            && !state.log.queued
            && state.log.has_work()
        {
            state.log.queued = true;
            self.work.push_back(app);
        }
    }

    /// One slice of fan-out, and of the timers if more have come up than a tick looks at. `true`: there is more to do.
    pub fn work(&mut self, now: Now, out: &mut impl Outlet) -> bool {
        self.seen = now;
        let late = self.look_at_due(now, out);
        let mut budget = self.limits.slice;
        self.recall_slice(&mut budget, out);
        // Each app at most once a slice: one app's storm only takes its share.
        for _ in 0..self.work.len() {
            let Some(app) = self.work.pop_front() else { break };
            let share = budget / (self.work.len() + 1);
            budget -= self.serve_app(app, share.max(1).min(budget), now, out);
            self.queue(app);
            if budget == 0 {
                break;
            }
        }
        late || !self.work.is_empty() || !self.recalls.is_empty()
    }

    /// Serves at most `budget` bindings of an app; gives how many it was.
    fn serve_app(&mut self, id: AppId, budget: usize, now: Now, out: &mut impl Outlet) -> usize {
        let Some(app) = self.apps.get_mut(&id) else { return 0 };
        app.log.queued = false;
        let looks = budget * self.limits.looks;
        let mut left = budget - (looks - app.open(&self.bindings, looks, now)) / self.limits.looks;
        let mut sending = Sending { bindings: &mut self.bindings, now, out, tally: &mut self.tally };
        if app.log.page.is_some() {
            left -= app.serve_page(left, &mut sending);
        }
        left -= app.serve_ready(left, &mut sending);
        if app.log.pass.is_none() && app.log.opened > app.log.done {
            let targets = std::mem::take(&mut app.log.next) - &app.log.lagging;
            let (count, last) = std::mem::take(&mut app.log.next_entries);
            app.log.pass = Some(Pass { to: app.log.opened, targets, only: (count == 1).then_some(last) });
        }
        left -= app.serve_pass(left, &mut sending);
        app.log.tail.trim(app.log.done, self.limits.tail_bytes);
        if !app.log.asked && app.log.page.is_none() {
            let behind = app.log.waiting.iter().filter_map(|slot| self.bindings.get(slot as usize));
            let oldest = behind.map(|binding| binding.cursor).min();
            let after = oldest.or_else(|| app.log.wants_more().then_some(app.log.tail.known));
            if let Some(after) = after {
                (app.log.asked, app.log.late_hole) = (true, false);
                if self.asks.pages.push(PageAsk { app: id, after }).is_ok() {
                    self.tally.pages += 1;
                } else {
                    // The queue is full: asked again at the next tick.
                    self.tally.log_stalls += 1;
                    self.stalled.push(id);
                }
            }
        }
        budget - left
    }

    /// The app took a broadcast back. Gives how many devices here are told, or nothing if too many such rounds are
    /// under way.
    pub fn recall_broadcast(&mut self, app_id: AppId, id: u64, frame: Bytes) -> Option<u64> {
        let Some(app) = self.apps.get_mut(&app_id) else { return Some(0) };
        if self.recalls.len() >= MAX_RECALLS {
            return None;
        }
        let mut targets = app.recall(id, &self.bindings);
        targets.optimize();
        let notified = targets.len();
        self.recalls.push_back(RecallRound { frame, targets, app: app_id });
        Some(notified)
    }

    fn recall_slice(&mut self, budget: &mut usize, out: &mut impl Outlet) {
        while *budget > 0
            && let Some(round) = self.recalls.front_mut()
        {
            let slots: Vec<u32> = round.targets.iter().take(*budget).collect();
            round.targets.remove_smallest(slots.len() as u64);
            *budget -= slots.len();
            for slot in slots {
                let Some(binding) = self.bindings.get(slot as usize) else { continue };
                // A hint to the app: who cannot take it now does without. The slot may also be another's by now.
                if binding.is_live()
                    && binding.app == round.app
                    && out.share(binding.conn, &round.frame, Class::Data)
                {
                    self.tally.recalls += 1;
                }
            }
            if round.targets.is_empty() {
                self.recalls.pop_front();
            }
        }
    }
}
