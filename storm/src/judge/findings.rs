//! Violations, counted, the first of them kept.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many violations are told one by one. The first few tell what is wrong; the counters tell how much.
const KEPT: usize = 20;

/// A sequence of messages that is judged for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// The messages to the user of this number.
    User(u32),
    /// The broadcasts, as the user of this number got them.
    Broadcasts(u32),
}

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Violation {
    /// Accepted, and did not come.
    Lost {
        /// Where.
        stream: Stream,
        /// The message's number.
        number: u64,
    },
    /// Came to the app more than once.
    Doubled {
        /// Where.
        stream: Stream,
        /// The message's number.
        number: u64,
    },
    /// Came after a later one.
    Disordered {
        /// Where.
        stream: Stream,
        /// The message's number.
        number: u64,
        /// The later one.
        after: u64,
    },
    /// Came, and was never sent, or was refused.
    Stray {
        /// Where.
        stream: Stream,
        /// The message's number.
        number: u64,
    },
    /// The inbox's or log's own numbers did not ascend.
    Misnumbered {
        /// Where.
        stream: Stream,
        /// Its place, (epoch, seq).
        place: (u64, u64),
        /// The place before it.
        after: (u64, u64),
    },
    /// A message of one user came to another.
    Misdelivered {
        /// Where it came.
        stream: Stream,
        /// Whom it was for.
        meant_for: u32,
    },
    /// The ledger of a message does not balance, or does not say what happened.
    Ledger {
        /// The message's id.
        id: u64,
        /// What is wrong.
        why: String,
    },
    /// Came in such disorder that there was no room to remember it; what looks lost in this stream may be this.
    Unkept {
        /// Where.
        stream: Stream,
        /// The message's number.
        number: u64,
    },
    /// An inbox is not empty though all that it held was delivered and acked.
    Leftover {
        /// The user.
        user: u32,
        /// Messages in it.
        depth: u64,
    },
}

/// All violations of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Findings {
    /// Accepted messages that did not come.
    pub lost: u64,
    /// Messages that came again.
    pub doubled: u64,
    /// Messages that came after later ones.
    pub disordered: u64,
    /// Messages that nobody sent.
    pub stray: u64,
    /// Places that did not ascend.
    pub misnumbered: u64,
    /// Messages at the wrong user.
    pub misdelivered: u64,
    /// Ledgers that are wrong.
    pub ledger: u64,
    /// Inboxes that are not empty.
    pub leftover: u64,
    /// Arrivals that could not be remembered.
    #[serde(default)]
    pub unkept: u64,
    first: Vec<Violation>,
}

impl Findings {
    /// Counts a violation, and keeps it if it is among the first.
    pub fn note(&mut self, violation: Violation) {
        *match violation {
            Violation::Lost { .. } => &mut self.lost,
            Violation::Doubled { .. } => &mut self.doubled,
            Violation::Disordered { .. } => &mut self.disordered,
            Violation::Stray { .. } => &mut self.stray,
            Violation::Misnumbered { .. } => &mut self.misnumbered,
            Violation::Misdelivered { .. } => &mut self.misdelivered,
            Violation::Ledger { .. } => &mut self.ledger,
            Violation::Leftover { .. } => &mut self.leftover,
            Violation::Unkept { .. } => &mut self.unkept,
        } += 1;
        if self.first.len() < KEPT {
            self.first.push(violation);
        }
    }

    /// Adds what another part of the storm found.
    pub fn merge(&mut self, other: Self) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.disordered += other.disordered;
        self.stray += other.stray;
        self.misnumbered += other.misnumbered;
        self.misdelivered += other.misdelivered;
        self.ledger += other.ledger;
        self.leftover += other.leftover;
        self.unkept += other.unkept;
        let room = KEPT.saturating_sub(self.first.len());
        self.first.extend(other.first.into_iter().take(room));
    }

    /// All violations together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.lost
            + self.doubled
            + self.disordered
            + self.stray
            + self.misnumbered
            + self.misdelivered
            + self.ledger
            + self.leftover
            + self.unkept
    }

    /// Whether every promise was kept.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.total() == 0
    }

    /// The first violations.
    #[must_use]
    pub fn first(&self) -> &[Violation] {
        &self.first
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => write!(f, "user {user}"),
            Self::Broadcasts(user) => write!(f, "broadcasts at user {user}"),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { stream, number } => write!(f, "{stream}: number {number} was accepted and is lost"),
            Self::Doubled { stream, number } => write!(f, "{stream}: number {number} came twice"),
            Self::Disordered { stream, number, after } => {
                write!(f, "{stream}: number {number} came after {after}")
            }
            Self::Stray { stream, number } => {
                write!(f, "{stream}: number {number} came and was never accepted")
            }
            Self::Misnumbered { stream, place, after } => {
                write!(f, "{stream}: place {}:{} came after {}:{}", place.0, place.1, after.0, after.1)
            }
            Self::Misdelivered { stream, meant_for } => {
                write!(f, "{stream}: got a message for user {meant_for}")
            }
            Self::Ledger { id, why } => write!(f, "message {id}: {why}"),
            Self::Unkept { stream, number } => {
                write!(f, "{stream}: number {number} came in such disorder that it could not be remembered")
            }
            Self::Leftover { user, depth } => {
                write!(f, "user {user}: {depth} messages are left in the inbox")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_all_and_keeps_the_first() {
        let mut findings = Findings::default();
        for number in 0..100 {
            findings.note(Violation::Lost { stream: Stream::User(1), number });
        }
        let mut all = Findings::default();
        all.note(Violation::Stray { stream: Stream::Broadcasts(2), number: 5 });
        all.merge(findings);
        assert_eq!((all.total(), all.lost, all.stray, all.first().len()), (101, 100, 1, KEPT));
        assert_eq!(all.first()[1].to_string(), "user 1: number 0 was accepted and is lost");
    }
}
