//! One app's log, as the keeper knows it: how far it is whole, and what has overtaken the rest.

use std::{collections::BTreeMap, sync::Arc};

use peers::PeerError;
use tokio::sync::oneshot;
use wire::id::{AppId, Cursor};

use crate::exchange::{LogEntry, LogRun};

/// Broadcasts that overtook others and are kept; more are read from the log.
const EARLY: usize = 256;

/// One app's log.
pub(super) struct AppLog {
    app: AppId,
    pub(super) epoch: u64,
    /// The threads have everything up to here.
    pub(super) head: u64,
    early: BTreeMap<u64, Arc<LogEntry>>,
    /// It is being read, or waits for a moment before it is.
    pub(super) reading: bool,
    /// Who wants to know the saver's head.
    pub(super) waiters: Vec<oneshot::Sender<Result<Cursor, PeerError>>>,
}

/// What a notice means for the log.
pub(super) enum Noticed {
    /// It was next: this run goes to the threads.
    Next(LogRun),
    /// It was known.
    Known,
    /// Something before it is missing.
    Hole,
}

impl AppLog {
    pub(super) fn new(app: AppId, head: Cursor) -> Self {
        Self {
            app,
            epoch: head.epoch.0,
            head: head.bseq.0,
            early: BTreeMap::new(),
            reading: false,
            waiters: Vec::new(),
        }
    }

    pub(super) fn notice(&mut self, epoch: u64, entry: Arc<LogEntry>) -> Noticed {
        if epoch < self.epoch || (epoch == self.epoch && entry.bseq <= self.head) {
            return Noticed::Known;
        }
        if entry.bseq == self.head + 1 {
            let after = self.head;
            self.epoch = epoch;
            self.early.insert(entry.bseq, entry);
            return Noticed::Next(LogRun {
                app: self.app,
                epoch,
                after,
                entries: self.take_early(),
                through: self.head,
            });
        }
        if self.early.len() < EARLY && entry.bseq > self.head {
            self.early.insert(entry.bseq, entry);
        }
        Noticed::Hole
    }

    /// Takes what follows the head without a hole, and moves the head.
    fn take_early(&mut self) -> Vec<Arc<LogEntry>> {
        let mut entries = Vec::new();
        while let Some(entry) = self.early.remove(&(self.head + 1)) {
            self.head = entry.bseq;
            entries.push(entry);
        }
        entries
    }

    /// Whether something has overtaken the rest.
    pub(super) fn has_hole(&self) -> bool {
        !self.early.is_empty()
    }

    /// A part was read: what goes to the threads.
    pub(super) fn read(&mut self, mut run: LogRun, head: u64) -> Option<LogRun> {
        if run.epoch != self.epoch && head < self.head {
            // The log was made anew, and its numbers went back.
            self.epoch = run.epoch;
            self.head = head;
            self.early.clear();
            return Some(LogRun { after: head, through: head, entries: Vec::new(), ..run });
        }
        self.epoch = self.epoch.max(run.epoch);
        if run.after > self.head || run.through <= self.head {
            // Notices were faster.
            if run.through <= run.after {
                // What overtook the rest is not in the log either; asking again at once would not change that.
                self.early.clear();
            }
            return None;
        }
        run.entries.retain(|entry| entry.bseq > self.head);
        run.after = self.head;
        self.head = run.through;
        self.early = self.early.split_off(&(self.head + 1));
        run.entries.extend(self.take_early());
        run.through = self.head;
        Some(run)
    }
}

#[cfg(test)]
mod tests {
    use audience::Audience;
    use bytes::Bytes;
    use proptest::prelude::*;
    use wire::id::{Bseq, Epoch, MessageId};

    use super::*;

    fn log(head: u64) -> AppLog {
        AppLog::new(AppId(1), Cursor { epoch: Epoch(5), bseq: Bseq(head) })
    }

    fn entry(bseq: u64) -> Arc<LogEntry> {
        Arc::new(LogEntry::whole(bseq, MessageId(bseq), Bytes::new(), Audience::everyone(), 0))
    }

    fn run(after: u64, through: u64) -> LogRun {
        LogRun {
            app: AppId(1),
            epoch: 5,
            after,
            through,
            entries: (after + 1..=through).map(entry).collect(),
        }
    }

    fn numbers(run: &LogRun) -> (u64, Vec<u64>, u64) {
        (run.after, run.entries.iter().map(|entry| entry.bseq).collect(), run.through)
    }

    #[test]
    fn a_late_notice_takes_along_what_overtook_it() {
        let mut log = log(3);
        assert!(matches!(log.notice(5, entry(5)), Noticed::Hole));
        assert!(log.has_hole());
        let Noticed::Next(run) = log.notice(5, entry(4)) else { panic!("it was next") };
        assert_eq!(numbers(&run), (3, vec![4, 5], 5));
        assert!(!log.has_hole());
        assert!(matches!(log.notice(5, entry(5)), Noticed::Known));
    }

    #[test]
    fn a_read_fills_the_hole() {
        let mut log = log(3);
        assert!(matches!(log.notice(5, entry(7)), Noticed::Hole));
        let read = log.read(run(3, 6), 7).unwrap();
        assert_eq!(numbers(&read), (3, vec![4, 5, 6, 7], 7));
        assert!(log.read(run(3, 6), 7).is_none(), "what notices were faster with");
    }

    #[test]
    fn a_hole_that_the_log_does_not_know_is_given_up() {
        let mut log = log(3);
        assert!(matches!(log.notice(5, entry(7)), Noticed::Hole));
        assert!(log.read(run(3, 3), 3).is_none());
        assert!(!log.has_hole());
    }

    proptest! {
        /// Notices that are lost, doubled and out of order, and pages that were read before: what goes to the threads has no hole
        /// and nothing twice.
        #[test]
        fn the_threads_get_each_once_and_in_order(steps in prop::collection::vec((0u8..4, 1u64..9), 1..80)) {
            let mut log = log(3);
            let (mut stored, mut told, mut page) = (3, 3, None);
            for (step, number) in steps {
                let next = match step {
                    0 => {
                        stored += number;
                        None
                    }
                    1 => match log.notice(5, entry((told + number).min(stored))) {
                        Noticed::Next(next) => Some(next),
                        Noticed::Known | Noticed::Hole => None,
                    },
                    2 => {
                        page = Some((run(log.head, stored.min(log.head + number)), stored));
                        None
                    }
                    _ => page.take().and_then(|(page, head)| log.read(page, head)),
                };
                let Some(next) = next else { continue };
                let wanted = run(told, next.through);
                prop_assert!(next.through > told && next.through <= stored);
                prop_assert_eq!(numbers(&next), numbers(&wanted));
                told = next.through;
                prop_assert_eq!(told, log.head);
            }
        }
    }

    #[test]
    fn numbers_that_went_back_begin_anew() {
        let mut log = log(30);
        let fresh = LogRun { epoch: 6, ..run(30, 30) };
        let read = log.read(fresh, 2).unwrap();
        assert_eq!((read.epoch, numbers(&read)), (6, (2, vec![], 2)));
        assert_eq!((log.epoch, log.head), (6, 2));
    }
}
