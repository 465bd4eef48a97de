//! Broadcasts that are over when their user binds.

use proto::internal::{CreditKind, StoredBroadcast};
use wire::id::Bseq;

use super::cluster::Side;
use crate::exchange::{BindDone, Fate};

fn stored(bseq: u64) -> StoredBroadcast {
    StoredBroadcast { epoch: 1, bseq, id: 100 + bseq, ..StoredBroadcast::default() }
}

fn expired(bseq: u64) -> StoredBroadcast {
    StoredBroadcast { expires_ms: 1, ..stored(bseq) }
}

fn recalled(bseq: u64) -> StoredBroadcast {
    StoredBroadcast { recalled: true, ..stored(bseq) }
}

impl Side {
    /// A user of whom the saver knows that it has what is up to 5.
    async fn comes_to(log: &[StoredBroadcast]) -> Self {
        let side = Self::new();
        {
            let mut state = side.services.state();
            state.head = log.last().map_or(0, |stored| stored.bseq);
            state.log = log.to_vec();
            state.cursor = Some(5);
        }
        side
    }

    fn told(&self) -> Vec<(u64, CreditKind)> {
        let state = self.services.state();
        let credits = state.acks.iter().flat_map(|ack| &ack.credits);
        credits.map(|credit| (credit.bseq, credit.kind())).collect()
    }
}

fn places(done: &BindDone) -> (Bseq, Bseq) {
    (done.saved_cursor.bseq, done.cursor.bseq)
}

/// The room that the user had left told of what was over there after this one had read the user's place: both counted it, this one
/// for up to ten minutes.
#[tokio::test(start_paused = true)]
async fn what_is_over_is_counted_before_the_user_is_bound() {
    let log = [stored(5), expired(6), recalled(8), stored(9), expired(10)];
    let mut side = Side::comes_to(&log).await;
    let done = side.bind("alice").await;
    assert_eq!(places(&done), (Bseq(8), Bseq(8)), "up to the first that is alive");
    assert!(done.owed.is_empty());
    assert_eq!(side.told(), [(6, CreditKind::Expired), (8, CreditKind::Recalled)]);
    // The log is at hand now, and nothing is over behind this user's place.
    side.services.state().cursor = Some(8);
    let done = side.bind("bob").await;
    assert_eq!((places(&done), side.told().len()), ((Bseq(8), Bseq(8)), 2));
    let reads = |side: &Side| side.services.state().calls.iter().filter(|call| **call == "log").count();
    assert_eq!(reads(&side), 1);
    side.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_device_has_and_what_is_over_behind_it_are_told_together() {
    let mut side = Side::comes_to(&[stored(6), expired(7), expired(8), stored(9)]).await;
    let mut ask = side.bind_ask("alice");
    ask.broadcasts = Some(wire::id::Cursor { epoch: 1.into(), bseq: Bseq(7) });
    side.asks.binds.send(vec![ask]).await.unwrap();
    let done = side.bound().await.result.unwrap();
    assert_eq!(places(&done), (Bseq(8), Bseq(8)));
    let told = [(6, CreditKind::Acked), (7, CreditKind::Acked), (8, CreditKind::Expired)];
    assert_eq!(side.told(), told);
    side.end().await;
}

/// Without the archive they are owed, and the thread tells them with its next tick.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_told_is_owed() {
    let mut side = Side::comes_to(&[expired(6), stored(7)]).await;
    side.services.fail("ack", 1);
    let done = side.bind("alice").await;
    assert_eq!(places(&done), (Bseq(5), Bseq(6)));
    assert_eq!(
        done.owed.iter().map(|credit| (credit.bseq, credit.fate)).collect::<Vec<_>>(),
        [(6, Fate::Expired)]
    );
    side.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_holds_up_nobody() {
    let mut side = Side::comes_to(&[expired(6)]).await;
    side.services.fail("log", 1);
    let done = side.bind("alice").await;
    assert_eq!(places(&done), (Bseq(5), Bseq(5)));
    side.end().await;
}
