//! Whose turn it is to write, where several processes share the file.
//!
//! SQLite has no queue. Who finds its lock taken looks again after pauses that grow to 100 ms, and whoever has just written
//! takes it again meanwhile: two savers that always had something to write kept each other out for half a second. So they
//! stand in line first, in the kernel: who is next holds one lock file while it waits for the other, and nobody passes it.
//!
//! This is a courtesy. What keeps transactions apart is SQLite's own lock; where files cannot be locked, or somebody keeps
//! its turn for too long, one goes on without.

use std::{
    fs::{File, TryLockError},
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::oneshot;
use tracing::debug;

/// A turn is waited for so long: many transactions. Then its holder is stopped, or its disk is, and SQLite decides.
const PATIENCE: Duration = Duration::from_secs(1);

/// The line of those who write to one file.
#[derive(Debug)]
pub(super) struct Turns(Option<Arc<Files>>);

#[derive(Debug)]
struct Files {
    next: File,
    turn: File,
    /// Somebody waits, perhaps in vain: there is one thread for that at most.
    waiting: AtomicBool,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn(Arc<Files>);

impl Drop for Turn {
    fn drop(&mut self) {
        if let Err(e) = self.0.turn.unlock() {
            debug!(error = %e, "the turn to write cannot be given up");
        }
    }
}

impl Turns {
    /// The line for an archive; its files are beside it.
    pub(super) fn of(archive: &Path) -> Self {
        let open = |end: &str| {
            let mut name = archive.as_os_str().to_owned();
            name.push(end);
            File::options().create(true).truncate(false).write(true).open(name)
        };
        let files = || -> io::Result<Files> {
            Ok(Files { next: open("-next")?, turn: open("-turn")?, waiting: AtomicBool::new(false) })
        };
        let files = files().inspect_err(|e| debug!(error = %e, "who writes takes no turns"));
        Self(files.ok().map(Arc::new))
    }

    /// Waits for a turn; `None` is to go on without.
    pub(super) async fn take(&self) -> Option<Turn> {
        let files = self.0.as_ref()?;
        if files.waiting.swap(true, Ordering::AcqRel) {
            // A wait that was given up goes on still.
            return None;
        }
        let done = |turn| {
            files.waiting.store(false, Ordering::Release);
            turn
        };
        let next = match files.next.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => false,
            Err(TryLockError::Error(_)) => return done(None),
        };
        // Nobody else is there, as almost always.
        if next && files.turn.try_lock().is_ok() {
            let _ = files.next.unlock();
            return done(Some(Turn(files.clone())));
        }
        let (reply, answer) = oneshot::channel();
        let waiter = files.clone();
        let wait = move || {
            let next = if next { Ok(()) } else { waiter.next.lock() };
            let turn = next.and_then(|()| waiter.turn.lock());
            let _ = waiter.next.unlock();
            waiter.waiting.store(false, Ordering::Release);
            if turn.is_ok() {
                // It ends at once if nobody waits for it any more.
                let _ = reply.send(Turn(waiter));
            }
        };
        // Not one of the runtime's threads: it would wait for this one at its end.
        if std::thread::Builder::new().name("archive-turn".to_owned()).spawn(wait).is_err() {
            let _ = files.next.unlock();
            return done(None);
        }
        tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(folder: &tempfile::TempDir) -> (Turns, Turns) {
        let path = folder.path().join("archive.db");
        (Turns::of(&path), Turns::of(&path))
    }

    /// Whoever had the turn took it again before the other had looked.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_waits_is_next() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = both(&folder);
        for _ in 0..20 {
            let held = a.take().await.unwrap();
            let waits = tokio::spawn({
                let b = Turns(b.0.clone());
                async move { b.take().await.unwrap() }
            });
            // It stands in line when it holds the place of the next.
            while a.0.as_ref().unwrap().next.try_lock().is_ok() {
                a.0.as_ref().unwrap().next.unlock().unwrap();
                tokio::task::yield_now().await;
            }
            drop(held);
            let again = tokio::spawn({
                let a = Turns(a.0.clone());
                async move { a.take().await.unwrap() }
            });
            let theirs = waits.await.unwrap();
            assert!(!again.is_finished(), "it has passed the one in line");
            drop(theirs);
            drop(again.await.unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_end_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = both(&folder);
        let held = a.take().await.unwrap();
        assert!(b.take().await.is_none());
        assert!(b.take().await.is_none(), "at once: one thread waits already");
        drop(held);
        while b.0.as_ref().unwrap().waiting.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        // What nobody waited for any more was given back.
        while a.take().await.is_none() {}
        assert!(Turns(None).take().await.is_none());
    }
}
