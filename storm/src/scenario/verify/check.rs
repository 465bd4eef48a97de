//! The servers' own books: ledgers that balance, inboxes that are empty.

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt as _, stream};
use proto::v1;
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

/// Looks at each sample until it is right or the deadline comes; what is wrong then is a violation. Answers how many
/// were looked at.
pub(super) async fn check(
    centers: &Centers,
    prefix: &str,
    sample: &[Sample],
    deadline: Instant,
    findings: &mut Findings,
) -> u64 {
    let mut ledgers: Vec<u64> = sample.iter().map(|one| one.id).collect();
    let mut users: Vec<u32> =
        sample.iter().map(|one| one.user).collect::<BTreeSet<_>>().into_iter().collect();
    loop {
        let look = |id| async move { (id, ledger(centers, id).await) };
        let wrong_ledgers: Vec<_> = wrong(stream::iter(ledgers).map(look).buffer_unordered(AT_ONCE)).await;
        let look = |user| async move { (user, depth(centers, prefix, user).await) };
        let wrong_users: Vec<_> = wrong(stream::iter(users).map(look).buffer_unordered(AT_ONCE)).await;
        if wrong_ledgers.is_empty() && wrong_users.is_empty() {
            return sample.len() as u64;
        }
        if Instant::now() + AGAIN > deadline {
            wrong_ledgers.into_iter().for_each(|(id, why)| findings.note(Violation::Ledger { id, why }));
            wrong_users
                .into_iter()
                .for_each(|(user, depth)| findings.note(Violation::Leftover { user, depth }));
            return sample.len() as u64;
        }
        tokio::time::sleep(AGAIN).await;
        ledgers = wrong_ledgers.into_iter().map(|(id, _)| id).collect();
        users = wrong_users.into_iter().map(|(user, _)| user).collect();
    }
}

async fn wrong<K, W>(all: impl futures::Stream<Item = (K, Result<(), W>)>) -> Vec<(K, W)> {
    all.filter_map(|(key, result)| async move { Some((key, result.err()?)) }).collect().await
}

async fn ledger(centers: &Centers, id: u64) -> Result<(), String> {
    let ledger = centers.ledger(id).await.map_err(|failure| format!("no ledger: {failure}"))?;
    balance(&ledger)
}

/// Whether a ledger balances and says that its one target has acked.
fn balance(ledger: &v1::MessageLedger) -> Result<(), String> {
    let dropped: u64 = ledger.dropped.values().sum();
    let sum = ledger.acked + ledger.stored + ledger.expired + dropped + ledger.recalled;
    let told = format!(
        "targets {}, acked {}, stored {}, expired {}, dropped {dropped}, recalled {}",
        ledger.targets, ledger.acked, ledger.stored, ledger.expired, ledger.recalled
    );
    if sum != ledger.targets {
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
        assert!(balance(&dropped).unwrap_err().contains("dropped 1"));
    }
}
