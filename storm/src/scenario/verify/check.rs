//! The servers' own books: ledgers that balance, inboxes that are empty.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use proto::v1;
use serde::Serialize;
use tokio::time::Instant;

use super::callers::Sample;
use crate::{
    fleet::uid,
    judge::{Findings, Violation},
    load::Centers,
};

/// The check goes on for at least this long: the last acks are written in batches.
pub(super) const LEAST: Duration = Duration::from_secs(3);

/// Between two looks at what was not right yet.
const AGAIN: Duration = Duration::from_millis(300);

/// Questions at once.
const AT_ONCE: usize = 32;

/// The ledgers that were looked at, added up: where every target went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Books {
    /// Ledgers.
    pub ledgers: u64,
    /// Users that messages were for.
    pub targets: u64,
    /// Acked by the user's device.
    pub acked: u64,
    /// Still in an inbox.
    pub stored: u64,
    /// Too old.
    pub expired: u64,
    /// Dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Taken back.
    pub recalled: u64,
    /// Targets of which the ledgers do not say where they went.
    pub unexplained: u64,
}

impl Books {
    fn add(&mut self, ledger: &v1::MessageLedger) {
        self.ledgers += 1;
        self.targets += ledger.targets;
        self.acked += ledger.acked;
        self.stored += ledger.stored;
        self.expired += ledger.expired;
        self.recalled += ledger.recalled;
        for (reason, count) in &ledger.dropped {
            *self.dropped.entry(reason.clone()).or_default() += count;
        }
        self.unexplained += ledger.targets.saturating_sub(explained(ledger));
    }
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ledgers, targets, acked, stored, expired, recalled, unexplained, .. } = self;
        write!(f, "{ledgers}; {targets} targets = {acked} acked + {stored} stored + {expired} expired")?;
        for (reason, count) in &self.dropped {
            write!(f, " + {count} dropped ({reason})")?;
        }
        write!(f, " + {recalled} recalled, {unexplained} unexplained")
    }
}

/// Looks at each sample until it is right or the deadline comes; what is wrong then is a violation.
pub(super) async fn check(
    centers: &Centers,
    prefix: &str,
    sample: &[Sample],
    deadline: Instant,
    findings: &mut Findings,
) -> Books {
    let books = Mutex::new(Books::default());
    let mut ledgers: Vec<u64> = sample.iter().map(|one| one.id).collect();
    let mut users: Vec<u32> =
        sample.iter().map(|one| one.user).collect::<BTreeSet<_>>().into_iter().collect();
    loop {
        let last = Instant::now() + AGAIN > deadline;
        let look = |id| {
            let books = &books;
            async move { (id, ledger(centers, id, last, books).await) }
        };
        let wrong_ledgers: Vec<_> = wrong(stream::iter(ledgers).map(look).buffer_unordered(AT_ONCE)).await;
        let look = |user| async move { (user, depth(centers, prefix, user).await) };
        let wrong_users: Vec<_> = wrong(stream::iter(users).map(look).buffer_unordered(AT_ONCE)).await;
        if wrong_ledgers.is_empty() && wrong_users.is_empty() {
            break;
        }
        if last {
            wrong_ledgers.into_iter().for_each(|(id, why)| findings.note(Violation::Ledger { id, why }));
            wrong_users
                .into_iter()
                .for_each(|(user, depth)| findings.note(Violation::Leftover { user, depth }));
            break;
        }
        tokio::time::sleep(AGAIN).await;
        ledgers = wrong_ledgers.into_iter().map(|(id, _)| id).collect();
        users = wrong_users.into_iter().map(|(user, _)| user).collect();
    }
    books.into_inner().unwrap_or_else(PoisonError::into_inner)
}

async fn wrong<K, W>(all: impl futures::Stream<Item = (K, Result<(), W>)>) -> Vec<(K, W)> {
    all.filter_map(|(key, result)| async move { Some((key, result.err()?)) }).collect().await
}

/// Whether a ledger is right; it is added to the books if it is, or if this was the last look.
async fn ledger(centers: &Centers, id: u64, last: bool, books: &Mutex<Books>) -> Result<(), String> {
    let ledger = centers.ledger(id).await.map_err(|failure| format!("no ledger: {failure}"))?;
    let right = balance(&ledger);
    if right.is_ok() || last {
        books.lock().unwrap_or_else(PoisonError::into_inner).add(&ledger);
    }
    right
}

/// Targets of which a ledger says where they went.
fn explained(ledger: &v1::MessageLedger) -> u64 {
    let dropped: u64 = ledger.dropped.values().sum();
    ledger.acked + ledger.stored + ledger.expired + dropped + ledger.recalled
}

/// Whether a ledger balances and says that its one target has acked.
fn balance(ledger: &v1::MessageLedger) -> Result<(), String> {
    let told = format!(
        "targets {}, acked {}, stored {}, expired {}, dropped {:?}, recalled {}",
        ledger.targets, ledger.acked, ledger.stored, ledger.expired, ledger.dropped, ledger.recalled
    );
    if explained(ledger) != ledger.targets {
        return Err(format!("the ledger does not balance: {told}"));
    }
    if ledger.targets != 1 || ledger.acked != 1 {
        return Err(format!("the ledger should say acked: {told}"));
    }
    Ok(())
}

async fn depth(centers: &Centers, prefix: &str, user: u32) -> Result<(), u64> {
    match centers.user(uid(prefix, user)).await {
        Ok(state) if state.inbox_depth == 0 => Ok(()),
        Ok(state) => Err(state.inbox_depth),
        // Nobody knows how deep; it is asked again, and in the end this is a violation.
        Err(_) => Err(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(targets: u64, acked: u64, stored: u64) -> v1::MessageLedger {
        v1::MessageLedger { targets, acked, stored, ..v1::MessageLedger::default() }
    }

    #[test]
    fn a_ledger_balances_and_says_acked() {
        assert_eq!(balance(&ledger(1, 1, 0)), Ok(()));
        assert!(balance(&ledger(1, 0, 1)).unwrap_err().contains("should say acked"));
        assert!(balance(&ledger(1, 1, 1)).unwrap_err().contains("does not balance"));
        let mut dropped = ledger(1, 0, 0);
        dropped.dropped.insert("inbox_full".into(), 1);
        assert!(balance(&dropped).unwrap_err().contains("inbox_full"));
    }

    #[test]
    fn the_books_say_where_every_target_went() {
        let mut books = Books::default();
        books.add(&ledger(3, 1, 1));
        let mut dropped = ledger(1, 0, 0);
        dropped.dropped.insert("inbox_full".into(), 1);
        books.add(&dropped);
        assert_eq!(
            books.to_string(),
            "2; 4 targets = 1 acked + 1 stored + 0 expired + 1 dropped (inbox_full) + 0 recalled, 1 unexplained"
        );
    }
}
