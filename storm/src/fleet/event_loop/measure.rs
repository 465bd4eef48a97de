//! What a worker measures.

use std::collections::BTreeMap;

use client::session::{Broadcast, Message};
use wire::id::AppId;

use super::{device::Device, unacked::Unacked, wrap::Wrap};
use crate::{
    fleet::{Counts, FleetSpec, Interval, Receipt, Snapshot, broadcasts::Tallies},
    judge::{Findings, Stream, Violation},
    payload::{EVERYONE, Header},
};

/// Different reasons kept apart; a reason may hold a server's words, and these have no bound.
const MAX_REASONS: usize = 64;

/// Longest reason in characters.
const MAX_REASON: usize = 120;

/// Runs of numbers that all receipts of a worker keep beyond the first of each stream. A server that keeps its promises
/// needs none; one that does not is found out long before, and cannot fill more than 32 MB with it.
const MAX_RUNS: usize = 1 << 20;

/// Histograms, tallies and receipts of a worker's devices.
pub(super) struct Measured {
    pub(super) counts: Counts,
    /// Since the last interval was taken.
    recent: Interval,
    /// Before that.
    earlier: Interval,
    tallies: Tallies,
    unacked: Unacked,
    findings: Findings,
    reasons: BTreeMap<String, u64>,
    app: Option<u32>,
    run: u32,
    /// Number of the first device.
    first: u32,
    /// One for each device, or empty if nobody will ask.
    receipts: Vec<Receipt>,
    /// Runs that all receipts together may still take.
    runs_left: usize,
}

impl Measured {
    pub(super) fn new(spec: &FleetSpec) -> Self {
        let receipt = |user| Receipt { user, ..Receipt::default() };
        let users = spec.first..spec.first + spec.count;
        Self {
            counts: Counts::default(),
            recent: Interval::default(),
            earlier: Interval::default(),
            tallies: Tallies::new(spec.count),
            unacked: Unacked::default(),
            findings: Findings::default(),
            reasons: BTreeMap::new(),
            app: None,
            run: spec.run,
            first: spec.first,
            runs_left: MAX_RUNS,
            receipts: if spec.receipts { users.map(receipt).collect() } else { Vec::new() },
        }
    }

    /// A transport is ready for frames.
    pub(super) fn opened(&mut self, wrap: &Wrap, resumed: Option<bool>) {
        self.counts.web_sockets += u64::from(wrap.is_web_socket());
        self.counts.tls_full += u64::from(resumed == Some(false));
        self.counts.tls_resumed += u64::from(resumed == Some(true));
    }

    pub(super) fn bound(&mut self, device: &mut Device, app: AppId, now_ns: u64) {
        self.app = Some(app.0);
        self.counts.binds += 1;
        self.counts.bound += 1;
        self.counts.ever_bound += u64::from(!device.ever_bound);
        device.bound = true;
        device.ever_bound = true;
        if let (true, Some(dial)) = (device.opening, &device.dial) {
            self.recent.connect.record_ns(now_ns.saturating_sub(dial.began_ns));
        }
    }

    pub(super) fn unbound(&mut self, device: &mut Device) {
        self.counts.bound -= u64::from(device.bound);
        device.bound = false;
        self.unacked.end(&mut device.unacked, |_| {});
    }

    pub(super) fn message(&mut self, index: u32, device: &mut Device, message: &Message, now_ns: u64) {
        let user = self.first + index;
        let Some(header) = self.of_this_run(&message.payload) else { return };
        let stream = Stream::User(user);
        if header.user != user {
            self.findings.note(Violation::Misdelivered { stream, meant_for: header.user });
            return;
        }
        if device.ever_slow {
            self.counts.slow_messages += 1;
        } else {
            self.recent.delivery.record_ns(now_ns.saturating_sub(header.sent_ns));
        }
        let Some(position) = message.position else {
            self.counts.transients += 1;
            return;
        };
        self.counts.messages += 1;
        let place = (position.epoch.0, position.seq.0);
        if place <= device.place {
            self.findings.note(Violation::Misnumbered { stream, place, after: device.place });
        }
        device.place = place;
        self.unacked.push(&mut device.unacked, header.sent_ns);
        let kept = match self.receipts.get_mut(index as usize) {
            Some(receipt) => receipt.messages.push_within(header.number, &mut self.runs_left),
            None => true,
        };
        if !kept {
            self.findings.note(Violation::Unkept { stream, number: header.number });
        }
    }

    pub(super) fn broadcast(&mut self, index: u32, device: &mut Device, message: &Broadcast, now_ns: u64) {
        let Some(header) = self.of_this_run(&message.payload) else { return };
        let stream = Stream::Broadcasts(self.first + index);
        if header.user != EVERYONE {
            self.findings.note(Violation::Misdelivered { stream, meant_for: header.user });
            return;
        }
        self.counts.broadcasts += 1;
        if device.ever_slow {
            self.counts.slow_broadcasts += 1;
        } else {
            self.recent.broadcast.record_ns(now_ns.saturating_sub(header.sent_ns));
            self.tallies.note(header.number, header.sent_ns, now_ns);
            self.counts.broadcasts_complete = self.tallies.complete();
        }
        let place = (message.cursor.epoch.0, message.cursor.bseq.0);
        if place <= device.log_place {
            self.findings.note(Violation::Misnumbered { stream, place, after: device.log_place });
        }
        device.log_place = place;
        let kept = match self.receipts.get_mut(index as usize) {
            Some(receipt) => receipt.broadcasts.push_within(header.number, &mut self.runs_left),
            None => true,
        };
        if !kept {
            self.findings.note(Violation::Unkept { stream, number: header.number });
        }
    }

    /// An ack has left that covers everything that came so far.
    pub(super) fn acked(&mut self, device: &mut Device, now_ns: u64) {
        let (counts, recent, slow) = (&mut self.counts, &mut self.recent, device.ever_slow);
        self.unacked.end(&mut device.unacked, |sent_ns| {
            counts.acked += 1;
            if !slow {
                recent.acked.record_ns(now_ns.saturating_sub(sent_ns));
            }
        });
    }

    /// A device stops reading, or begins again. Broadcasts are complete without those that ever stopped.
    pub(super) fn slow(&mut self, device: &mut Device, slow: bool) {
        if device.slow == slow {
            return;
        }
        device.slow = slow;
        if slow {
            self.counts.slow += 1;
            if !device.ever_slow {
                device.ever_slow = true;
                self.tallies.without_one();
                self.counts.broadcasts_complete = self.tallies.complete();
            }
        } else {
            self.counts.slow -= 1;
        }
    }

    pub(super) fn reason(&mut self, why: &str) {
        let mut why: String = why.chars().take(MAX_REASON).collect();
        if self.reasons.len() >= MAX_REASONS && !self.reasons.contains_key(&why) {
            why = "others".into();
        }
        *self.reasons.entry(why).or_default() += 1;
    }

    /// What was measured since this was asked last.
    pub(super) fn take_interval(&mut self) -> Interval {
        self.earlier.merge(&self.recent);
        std::mem::take(&mut self.recent)
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let mut all = self.earlier.clone();
        all.merge(&self.recent);
        let Interval { connect, delivery, acked, broadcast } = all;
        Snapshot {
            counts: self.counts,
            connect,
            delivery,
            acked,
            broadcast,
            tallies: self.tallies.to_vec(),
            findings: self.findings.clone(),
            reasons: self.reasons.clone(),
            app: self.app,
        }
    }

    pub(super) fn receipts(&self) -> &[Receipt] {
        &self.receipts
    }

    fn of_this_run(&mut self, payload: &[u8]) -> Option<Header> {
        let header = Header::read(payload).filter(|header| header.run == self.run);
        self.counts.strangers += u64::from(header.is_none());
        header
    }
}
