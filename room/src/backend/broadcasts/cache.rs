//! The newest broadcasts of each app, for all threads of the room and all who come: what was told or read once is not read
//! from the saver again, so that a reconnect storm costs the savers a few reads for each room and none for each device.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use wire::id::AppId;

use crate::exchange::{Body, LogEntry, LogRun};

/// Apps that are cached; the one that was asked for the longest ago gives way.
const APPS: usize = 16;

/// The caches. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    apps: Arc<Mutex<HashMap<AppId, AppCache>>>,
    /// Bytes of one app's entries.
    bound: usize,
}

#[derive(Debug, Default)]
struct AppCache {
    epoch: u64,
    /// With what each was counted at.
    entries: BTreeMap<u64, (Arc<LogEntry>, usize)>,
    /// Parts of the log that are whole here: where each begins, after which number, and through which it goes.
    spans: BTreeMap<u64, u64>,
    bytes: usize,
    /// One read of the log at a time.
    flight: Arc<tokio::sync::Mutex<()>>,
    used: u64,
}

impl Cache {
    pub(crate) fn new(bound: usize) -> Self {
        Self { apps: Arc::default(), bound }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AppId, AppCache>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a run that was told or read.
    pub(crate) fn put(&self, run: &LogRun) {
        of(&mut self.lock(), run.app).put(run, self.bound);
    }

    /// What follows `after`, if it is here: at most `count` entries of `bytes` together, but at least one.
    pub(crate) fn page(&self, app: AppId, after: u64, count: usize, bytes: usize) -> Option<LogRun> {
        self.lock().get(&app)?.page(app, after, count, bytes)
    }

    /// Shows the entries in (after, through] and gives how far they are here without a hole.
    pub(crate) fn visit(
        &self,
        app: AppId,
        (after, through): (u64, u64),
        mut each: impl FnMut(&LogEntry),
    ) -> Option<u64> {
        let apps = self.lock();
        let app = apps.get(&app)?;
        let end = app.span(after)?.min(through);
        if end > after {
            app.entries.range(after + 1..=end).for_each(|(_, (entry, _))| each(entry));
        }
        Some(end)
    }

    /// An entry of a broadcast, to share its bytes.
    pub(crate) fn of(&self, app: AppId, id: u64) -> Option<Arc<LogEntry>> {
        let apps = self.lock();
        let newest = apps.get(&app)?.entries.values().rev().take(64);
        newest.map(|(entry, _)| entry).find(|entry| entry.id.0 == id).cloned()
    }

    /// A broadcast was taken back.
    pub(crate) fn recall(&self, app: AppId, id: u64) {
        let mut apps = self.lock();
        let Some(app) = apps.get_mut(&app) else { return };
        for (entry, _) in app.entries.values_mut().filter(|(entry, _)| entry.id.0 == id) {
            *entry = Arc::new(LogEntry { body: Body::Gone, recalled: true, ..(**entry).clone() });
        }
    }

    /// Whoever holds it reads the app's log. One for all, also where nothing has been read yet: in a room that has just started all
    /// who come want the same at once.
    pub(crate) fn flight(&self, app: AppId) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(&of(&mut self.lock(), app).flight)
    }
}

/// The cache of an app that is used now.
fn of(apps: &mut HashMap<AppId, AppCache>, id: AppId) -> &mut AppCache {
    let newest = apps.values().map(|app| app.used).max().unwrap_or(0) + 1;
    if !apps.contains_key(&id) && apps.len() >= APPS {
        let idle = apps.iter().min_by_key(|(_, app)| app.used).map(|(id, _)| *id);
        idle.map(|idle| apps.remove(&idle));
    }
    let app = apps.entry(id).or_default();
    app.used = newest;
    app
}

impl AppCache {
    fn put(&mut self, run: &LogRun, bound: usize) {
        if run.epoch < self.epoch || run.through <= run.after {
            return;
        }
        if run.epoch > self.epoch {
            let (flight, used) = (Arc::clone(&self.flight), self.used);
            *self = Self { epoch: run.epoch, flight, used, ..Self::default() };
        }
        let mut before: Option<&LogEntry> = None;
        for entry in &run.entries {
            if !self.entries.contains_key(&entry.bseq) {
                let bytes = entry.bytes(before);
                self.bytes += bytes;
                self.entries.insert(entry.bseq, (Arc::clone(entry), bytes));
            }
            before = Some(entry);
        }
        self.join(run.after, run.through);
        self.evict(bound);
    }

    /// Joins a span with those that it touches.
    fn join(&mut self, mut after: u64, mut through: u64) {
        let touching = self.spans.range(..=through).filter(|(_, end)| **end >= after);
        let touching: Vec<(u64, u64)> = touching.map(|(from, end)| (*from, *end)).collect();
        for (from, end) in touching {
            self.spans.remove(&from);
            (after, through) = (after.min(from), through.max(end));
        }
        self.spans.insert(after, through);
    }

    fn evict(&mut self, bound: usize) {
        while self.bytes > bound
            && self.entries.len() > 1
            && let Some((bseq, (entry, bytes))) = self.entries.pop_first()
        {
            self.bytes -= bytes;
            if let Some((next, counted)) = self.entries.first_entry().as_mut().map(|next| {
                let (next, counted) = next.get().clone();
                (next, counted)
            }) && next.bytes(Some(&entry)) < next.bytes(None)
            {
                // The payload that they shared is counted with the next.
                let bytes = next.bytes(None);
                self.bytes = self.bytes + bytes - counted;
                self.entries.insert(next.bseq, (next, bytes));
            }
            while let Some((from, end)) = self.spans.pop_first() {
                if from >= bseq || end > bseq {
                    self.spans.insert(from.max(bseq), end);
                    break;
                }
            }
        }
    }

    /// Through where it is whole after a number.
    fn span(&self, after: u64) -> Option<u64> {
        let (_, through) = self.spans.range(..=after).next_back()?;
        (*through >= after).then_some(*through)
    }

    fn page(&self, app: AppId, after: u64, count: usize, bytes: usize) -> Option<LogRun> {
        let end = self.span(after).filter(|end| *end > after)?;
        let (mut entries, mut taken, mut through): (Vec<Arc<LogEntry>>, usize, u64) = (Vec::new(), 0, end);
        for (_, (entry, _)) in self.entries.range(after + 1..=end) {
            let more = entry.bytes(entries.last().map(|last| &**last));
            if !entries.is_empty() && (entries.len() >= count || taken + more > bytes) {
                through = entries.last().map_or(end, |last| last.bseq);
                break;
            }
            taken += more;
            entries.push(Arc::clone(entry));
        }
        Some(LogRun { app, epoch: self.epoch, after, through, entries })
    }
}

#[cfg(test)]
mod tests {
    use audience::Audience;
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn entry(bseq: u64) -> Arc<LogEntry> {
        let frame = Bytes::from(vec![0; 10]);
        Arc::new(LogEntry::whole(bseq, bseq.into(), frame, Audience::everyone(), 0))
    }

    fn run(epoch: u64, after: u64, through: u64) -> LogRun {
        // Every third number holds nothing.
        let entries = (after + 1..=through).filter(|bseq| bseq % 3 > 0).map(entry).collect();
        LogRun { app: AppId(1), epoch, after, through, entries }
    }

    /// Whoever came to a room that had just started had a turn of its own, and read the log for itself.
    #[test]
    fn those_who_come_first_share_a_turn() {
        let cache = Cache::new(1_000);
        let first = cache.flight(AppId(1));
        assert!(Arc::ptr_eq(&first, &cache.flight(AppId(1))));
        cache.put(&run(1, 10, 14));
        assert!(Arc::ptr_eq(&first, &cache.flight(AppId(1))));
    }

    #[test]
    fn parts_that_touch_become_one_and_recalled_ones_hold_nothing() {
        let cache = Cache::new(1_000);
        cache.put(&run(1, 10, 14));
        assert!(cache.page(AppId(1), 9, 9, 999).is_none());
        cache.put(&run(1, 4, 10));
        let page = cache.page(AppId(1), 5, 99, 999).unwrap();
        assert_eq!((page.after, page.through), (5, 14));
        assert_eq!(page.entries.iter().map(|entry| entry.bseq).collect::<Vec<_>>(), [7, 8, 10, 11, 13, 14]);
        let page = cache.page(AppId(1), 5, 2, 999).unwrap();
        assert_eq!((page.entries.len(), page.through), (2, 8));
        assert_eq!(cache.page(AppId(1), 5, 99, 25).unwrap().entries.len(), 2);
        cache.recall(AppId(1), 8);
        let page = cache.page(AppId(1), 7, 1, 999).unwrap();
        assert!(page.entries[0].recalled && page.entries[0].frame().is_empty());
        cache.put(&run(2, 0, 1));
        assert!(cache.page(AppId(1), 5, 99, 999).is_none(), "the log was made anew");
    }

    proptest! {
        #[test]
        fn what_is_here_is_whole_and_bounded(
            runs in prop::collection::vec((0u64..60, 1u64..12), 1..20), bound in 10usize..400,
        ) {
            let cache = Cache::new(bound);
            for (after, length) in runs {
                cache.put(&run(1, after, after + length));
                let apps = cache.lock();
                let app = &apps[&AppId(1)];
                prop_assert!(app.bytes <= bound || app.entries.len() == 1);
                prop_assert_eq!(app.bytes, app.entries.len() * 10);
            }
            for after in 0..80 {
                let Some(page) = cache.page(AppId(1), after, 5, 30) else { continue };
                let wanted: Vec<u64> = (after + 1..=page.through).filter(|bseq| bseq % 3 > 0).collect();
                prop_assert_eq!(page.entries.iter().map(|entry| entry.bseq).collect::<Vec<_>>(), wanted);
                prop_assert!(page.through > after);
            }
        }
    }
}
