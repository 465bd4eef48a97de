//! From a thread to the tokio side.

use tokio::sync::mpsc;

use crate::{
    exchange::{AckAsk, BindAsk, EndAsk, KeepAsk, LoadAsk, Outgoing, PageAsk, UpAsk},
    session::Sessions,
};

/// Items of one batch. It bounds, with the queues' lengths, what is between the two sides.
const BATCH: usize = 512;

/// Where a thread's asks go, one bounded queue of batches for each kind.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // The types say it.
pub struct AskQueues {
    pub binds: mpsc::Sender<Vec<BindAsk>>,
    pub loads: mpsc::Sender<Vec<LoadAsk>>,
    pub acks: mpsc::Sender<Vec<AckAsk>>,
    pub ends: mpsc::Sender<Vec<EndAsk>>,
    pub ups: mpsc::Sender<Vec<UpAsk>>,
    pub pages: mpsc::Sender<Vec<PageAsk>>,
    pub keeps: mpsc::Sender<Vec<KeepAsk>>,
}

/// Where they come out.
#[derive(Debug)]
#[allow(missing_docs)] // The types say it.
pub struct AskStreams {
    pub binds: mpsc::Receiver<Vec<BindAsk>>,
    pub loads: mpsc::Receiver<Vec<LoadAsk>>,
    pub acks: mpsc::Receiver<Vec<AckAsk>>,
    pub ends: mpsc::Receiver<Vec<EndAsk>>,
    pub ups: mpsc::Receiver<Vec<UpAsk>>,
    pub pages: mpsc::Receiver<Vec<PageAsk>>,
    pub keeps: mpsc::Receiver<Vec<KeepAsk>>,
}

/// Queues for `batches` batches of each kind.
pub fn ask_queues(batches: usize) -> (AskQueues, AskStreams) {
    let (binds, binds_out) = mpsc::channel(batches);
    let (loads, loads_out) = mpsc::channel(batches);
    let (acks, acks_out) = mpsc::channel(batches);
    let (ends, ends_out) = mpsc::channel(batches);
    let (ups, ups_out) = mpsc::channel(batches);
    let (pages, pages_out) = mpsc::channel(batches);
    let (keeps, keeps_out) = mpsc::channel(batches);
    (
        AskQueues { binds, loads, acks, ends, ups, pages, keeps },
        AskStreams {
            binds: binds_out,
            loads: loads_out,
            acks: acks_out,
            ends: ends_out,
            ups: ups_out,
            pages: pages_out,
            keeps: keeps_out,
        },
    )
}

/// When the binds of a thread are handed over. Those that come while the cluster takes its time wait a little for others: then a
/// few calls do for all of them.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    due_ms: u64,
}

impl Gathering {
    /// So many binds, which go to a few registers and savers, share their calls well enough: a call costs as much as some fifty.
    const ENOUGH: usize = 192;

    /// Until when so many binds wait for others, ms.
    pub(super) fn until(&self, binds: usize, now_ms: u64) -> Option<u64> {
        (binds > 0 && binds < Self::ENOUGH && now_ms < self.due_ms).then_some(self.due_ms)
    }

    /// They were handed over, and those that follow are to gather for so long.
    pub(super) fn handed_over(&mut self, now_ms: u64, gather_ms: u32) {
        self.due_ms = now_ms + u64::from(gather_ms);
    }
}

impl AskQueues {
    /// Hands over what there is place for; binds only if they are `due`. `true`: something is left.
    pub(crate) fn hand_over(&self, sessions: &mut Sessions, due: bool) -> bool {
        let mut left = due && self.pass_binds(sessions);
        let asks = &mut sessions.asks;
        left |= pass(&mut asks.loads, &self.loads);
        left |= pass(&mut asks.ups, &self.ups);
        left |= pass(&mut asks.pages, &self.pages);
        left |= pass(&mut asks.keeps, &self.keeps);
        // Acks before ends: an end that overtakes an ack would leave the message for the next bind.
        while sessions.has_acks() {
            let Ok(place) = self.acks.try_reserve() else { break };
            place.send(sessions.take_acks(BATCH));
        }
        while sessions.has_ends() {
            let Ok(place) = self.ends.try_reserve() else { break };
            place.send(sessions.take_ends(BATCH));
        }
        left || sessions.has_acks() || sessions.has_ends()
    }

    fn pass_binds(&self, sessions: &mut Sessions) -> bool {
        while !sessions.asks.binds.is_empty() {
            let Ok(place) = self.binds.try_reserve() else { return true };
            let binds = sessions.take_binds(BATCH);
            if !binds.is_empty() {
                place.send(binds);
            }
        }
        false
    }
}

fn pass<T>(from: &mut Outgoing<T>, to: &mpsc::Sender<Vec<T>>) -> bool {
    while !from.is_empty() {
        let Ok(place) = to.try_reserve() else { return true };
        place.send(from.take(BATCH));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_binds_wait_for_others_and_many_do_not() {
        let mut gathering = Gathering::default();
        assert_eq!(gathering.until(1, 5), None, "the first goes at once");
        gathering.handed_over(5, 200);
        assert_eq!(gathering.until(0, 6), None, "there is nothing to wait with");
        assert_eq!(gathering.until(1, 6), Some(205));
        assert_eq!(gathering.until(Gathering::ENOUGH, 6), None);
        assert_eq!(gathering.until(1, 205), None);
        gathering.handed_over(205, 0);
        assert_eq!(gathering.until(1, 205), None, "a cluster that answers at once is not waited for");
    }
}
