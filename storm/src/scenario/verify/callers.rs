//! The backends that call the API, one for each user and one for broadcasts: who may send next, who has to repeat,
//! and the books of what was accepted. No clock, no network.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

use flow::Backoff;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{
    fleet::Receipt,
    judge::{Findings, Promised, Stream},
    load::{Failure, Fate},
    payload::EVERYONE,
};

/// Between repeats. Quick at first, for a center that only stumbled; two seconds for one that restarts.
const BACKOFF: Backoff =
    Backoff { initial: Duration::from_millis(50), factor: 2.0, cap: Duration::from_secs(2), jitter: 0.5 };

/// One message on its way: the same in every repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    /// The user, or [`EVERYONE`].
    pub(super) user: u32,
    pub(super) number: u64,
    pub(super) sent_ns: u64,
}

/// An accepted message that is looked at in the end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) user: u32,
    pub(super) id: u64,
}

#[derive(Debug, Clone, Default)]
struct Caller {
    promised: Promised,
    number: u64,
    sent_ns: u64,
    /// Failures of the present message.
    failures: u32,
    /// A refusal that came after an attempt of unknown end: nothing more can be said of this stream's order.
    stuck: bool,
}

pub(super) struct Callers {
    users: Vec<Caller>,
    everyone: Caller,
    idle: VecDeque<u32>,
    waiting: BinaryHeap<Reverse<(Instant, u32)>>,
    sample: Vec<Sample>,
    sample_size: usize,
    rng: StdRng,
    accepted: u64,
    /// Messages refused for good.
    pub(super) refused: u64,
    /// Repeats sent.
    pub(super) retries: u64,
    /// Accepted by an earlier attempt than the one that was answered.
    pub(super) repeated: u64,
}

impl Callers {
    pub(super) fn new(users: u32, sample_size: usize, seed: u64) -> Self {
        Self {
            users: vec![Caller::default(); users as usize],
            everyone: Caller::default(),
            idle: (0..users).collect(),
            waiting: BinaryHeap::new(),
            sample: Vec::new(),
            sample_size,
            rng: StdRng::seed_from_u64(seed),
            accepted: 0,
            refused: 0,
            retries: 0,
            repeated: 0,
        }
    }

    /// A new message to the next user who has none on its way.
    pub(super) fn next(&mut self, sent_ns: u64) -> Option<Call> {
        let user = self.idle.pop_front()?;
        Some(self.begin(user, sent_ns))
    }

    /// A new broadcast, if none is on its way.
    pub(super) fn next_broadcast(&mut self, sent_ns: u64) -> Option<Call> {
        let free = !self.everyone.promised.is_open() && !self.everyone.stuck;
        free.then(|| self.begin(EVERYONE, sent_ns))
    }

    /// A message whose time to be repeated has come.
    pub(super) fn repeat(&mut self, now: Instant) -> Option<Call> {
        let Reverse((at, user)) = self.waiting.peek().copied()?;
        if at > now {
            return None;
        }
        self.waiting.pop();
        self.retries += 1;
        let caller = self.caller(user);
        Some(Call { user, number: caller.number, sent_ns: caller.sent_ns })
    }

    fn begin(&mut self, user: u32, sent_ns: u64) -> Call {
        let caller = self.caller(user);
        caller.number += 1;
        caller.sent_ns = sent_ns;
        caller.failures = 0;
        caller.promised.sent(caller.number);
        Call { user, number: caller.number, sent_ns }
    }

    pub(super) fn on_accepted(&mut self, call: Call, id: u64, repeated: bool) {
        self.caller(call.user).promised.accepted(call.number);
        self.repeated += u64::from(repeated);
        if call.user != EVERYONE {
            self.accepted += 1;
            self.idle.push_back(call.user);
            self.take_sample(Sample { user: call.user, id });
        }
    }

    pub(super) fn on_failed(&mut self, call: Call, failure: &Failure, now: Instant) {
        let wait = BACKOFF.delay(self.caller(call.user).failures, &mut self.rng);
        let caller = self.caller(call.user);
        match failure.fate {
            Fate::Unsettled => {
                caller.failures += 1;
                let at = now + wait.max(failure.retry_after.unwrap_or_default());
                self.waiting.push(Reverse((at, call.user)));
            }
            Fate::Refused => {
                // After an attempt without an answer the message may have been stored all the same.
                caller.stuck = caller.failures > 0;
                if !caller.stuck {
                    caller.promised.refused();
                    if call.user != EVERYONE {
                        self.idle.push_back(call.user);
                    }
                }
                self.refused += 1;
            }
        }
    }

    /// Whether no message is on its way or waits for its repeat. `flying`: calls that are under way.
    pub(super) fn is_settled(&self, flying: usize) -> bool {
        flying == 0 && self.waiting.is_empty()
    }

    /// Messages to users that were accepted.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Broadcasts that were accepted.
    pub(super) fn broadcasts_accepted(&self) -> u64 {
        self.everyone.promised.count()
    }

    /// Messages of which nobody knows whether they were stored.
    pub(super) fn unsettled(&self) -> u64 {
        let all = self.users.iter().chain([&self.everyone]);
        all.filter(|caller| caller.promised.is_open()).count() as u64
    }

    pub(super) fn sample(&self) -> &[Sample] {
        &self.sample
    }

    /// Compares the books with what came to one user.
    pub(super) fn judge(&self, receipt: &Receipt, findings: &mut Findings) {
        let user = receipt.user;
        if let Some(caller) = self.users.get(user as usize) {
            caller.promised.judge(Stream::User(user), &receipt.messages, findings);
            self.everyone.promised.judge(Stream::Broadcasts(user), &receipt.broadcasts, findings);
        }
    }

    fn caller(&mut self, user: u32) -> &mut Caller {
        if user == EVERYONE { &mut self.everyone } else { &mut self.users[user as usize] }
    }

    /// Every accepted message has the same chance to be in the sample.
    fn take_sample(&mut self, one: Sample) {
        if self.sample.len() < self.sample_size {
            self.sample.push(one);
        } else {
            let at = self.rng.random_range(0..self.accepted) as usize;
            if let Some(place) = self.sample.get_mut(at) {
                *place = one;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: &str) -> Failure {
        Failure::from_word(code, "", 0)
    }

    #[test]
    fn one_message_of_a_user_at_a_time() {
        let mut callers = Callers::new(2, 10, 1);
        let a = callers.next(1).unwrap();
        let b = callers.next(1).unwrap();
        assert_ne!(a.user, b.user);
        assert_eq!(callers.next(1), None);
        callers.on_accepted(a, 7, false);
        let again = callers.next(2).unwrap();
        assert_eq!((again.user, again.number), (a.user, 2));
        assert_eq!(callers.unsettled(), 2);
    }

    #[test]
    fn what_has_no_answer_is_repeated_as_it_was() {
        let t0 = Instant::now();
        let mut callers = Callers::new(1, 10, 1);
        let call = callers.next(5).unwrap();
        callers.on_failed(call, &Failure::unanswered("cut"), t0);
        assert!(!callers.is_settled(0) && callers.next(6).is_none());
        assert_eq!(callers.repeat(t0), None);
        assert_eq!(callers.repeat(t0 + Duration::from_secs(1)), Some(call));
        callers.on_accepted(call, 7, true);
        assert!(callers.is_settled(0));
        assert_eq!(
            (callers.accepted(), callers.repeated, callers.retries, callers.unsettled()),
            (1, 1, 1, 0)
        );
    }

    #[test]
    fn a_refusal_is_final_only_if_nothing_is_unknown() {
        let t0 = Instant::now();
        let mut callers = Callers::new(1, 10, 1);
        let first = callers.next(5).unwrap();
        callers.on_failed(first, &refusal("payload_too_large"), t0);
        let second = callers.next(6).expect("the user goes on");
        callers.on_failed(second, &Failure::unanswered("cut"), t0);
        callers.on_failed(second, &refusal("unknown_app"), t0);
        assert_eq!((callers.next(7), callers.unsettled(), callers.refused), (None, 1, 2));
        let mut findings = Findings::default();
        let mut receipt = Receipt::default();
        receipt.messages.push(2);
        callers.judge(&receipt, &mut findings);
        assert!(findings.is_clean(), "the second may have been stored");
        receipt.messages.push(1);
        callers.judge(&receipt, &mut findings);
        assert_eq!(findings.stray, 1, "the first must not come");
    }

    #[test]
    fn broadcasts_come_one_by_one_too() {
        let mut callers = Callers::new(1, 10, 1);
        let call = callers.next_broadcast(1).unwrap();
        assert_eq!(callers.next_broadcast(1), None);
        callers.on_accepted(call, 9, false);
        assert_eq!(callers.broadcasts_accepted(), 1);
        assert!(callers.sample().is_empty() && callers.next_broadcast(2).is_some());
    }
}
