//! What a worker is told to do, and what it answers. Sent as JSON where the worker is a process.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use super::{Counts, Interval, broadcasts::Tally, line::LineSpec};
use crate::{
    judge::{Arrivals, Findings},
    latency::Latencies,
};

/// A set of devices, one user each.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FleetSpec {
    /// Number of the first user.
    pub first: u32,
    /// How many users.
    pub count: u32,
    /// Users are called `<prefix>-<number>`.
    pub uid_prefix: String,
    /// The app's name.
    pub app: String,
    /// Tags that every device binds with.
    pub tags: Vec<String>,
    /// How devices get their tokens.
    pub tokens: Tokens,
    /// How devices find a room.
    pub route: Route,
    /// Connections begun per second at most.
    pub ramp_per_s: f64,
    /// How many of the devices begin; the others wait for [`Command::Ramp`].
    pub begin: u32,
    /// Connections that have been begun and are not bound, at most.
    pub opening_max: u32,
    /// Addresses that devices connect from.
    pub sources: Option<Sources>,
    /// Heartbeat that the devices ask for; absent = the room's default.
    pub heartbeat_s: Option<u32>,
    /// How long an ack waits for others to join it.
    pub ack_delay_ms: u64,
    /// How long the ack of a broadcast may wait.
    pub broadcast_ack_delay_ms: u64,
    /// How devices are connected.
    #[serde(default)]
    pub line: LineSpec,
    /// Number of this run, in every payload.
    pub run: u32,
    /// Seed of all that happens at random.
    pub seed: u64,
    /// Whether every arrival is kept for the judge.
    pub receipts: bool,
    /// How often what was measured is handed over, for latencies over time; absent = never.
    pub sample_ms: Option<u32>,
    /// The shortest time between two tellings of counts by a worker process.
    pub tell_ms: u32,
}

/// How devices get their tokens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tokens {
    /// Signed by the worker with the app's secret.
    Secret(String),
    /// Made beforehand, in the order of the users.
    Ready(Vec<String>),
}

/// How devices find a room.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// Fixed addresses, device n beginning with the n-th, then the others in turn.
    Rooms(Vec<SocketAddr>),
    /// Base URL of a dispatcher, asked before every connect.
    Dispatcher(String),
}

/// Addresses that devices connect from. One address has some 28,000 ports towards one room, and a room may limit
/// the connections of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// The first; the following ones are used in turn.
    pub first: Ipv4Addr,
    /// Devices for each.
    pub per_address: u32,
}

impl Sources {
    /// The address of user `number`. Stays in the /8 of the first, and never takes its first or last address.
    #[must_use]
    pub fn of(&self, number: u32) -> Ipv4Addr {
        let net = self.first.to_bits() & 0xff00_0000;
        let offset =
            u64::from(self.first.to_bits() & 0x00ff_ffff) + u64::from(number / self.per_address.max(1));
        // 2^24 hosts less the first and the last.
        let host = 1 + offset.saturating_sub(1) % 0x00ff_fffe;
        Ipv4Addr::from_bits(net | u32::try_from(host).unwrap_or(1))
    }
}

/// To a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Cut this many connections per second from now on, and let them come back.
    Churn {
        /// Cuts per second.
        per_s: f64,
    },
    /// Let more devices begin.
    Ramp {
        /// So many of the devices in all.
        to: u32,
        /// Connections begun per second at most.
        per_s: f64,
    },
    /// Let this share of the devices leave unread what comes from now on, and all others read.
    Slow {
        /// 0 to 1; 0 = all read.
        share: f64,
    },
    /// Answer with [`Report::Snapshot`].
    Snapshot,
    /// Answer with [`Report::Receipts`], in parts.
    Receipts,
    /// End: close all connections.
    Stop,
}

/// From a worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// The counts, every few milliseconds while they change (processes only; threads share memory).
    Counts(Counts),
    /// What was measured lately (likewise).
    Interval(Box<Interval>),
    /// Answer to [`Command::Snapshot`].
    Snapshot(Box<Snapshot>),
    /// Answer to [`Command::Receipts`].
    Receipts {
        /// Some users.
        part: Vec<Receipt>,
        /// No more parts follow.
        last: bool,
    },
    /// The worker cannot go on.
    Failed(String),
}

/// All that a worker has measured so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// Counts.
    pub counts: Counts,
    /// From the beginning of a connection to its binding.
    pub connect: Latencies,
    /// From the moment a message was meant to be sent to its arrival at the app.
    pub delivery: Latencies,
    /// Likewise to the moment when the ack that covers it was written.
    pub acked: Latencies,
    /// The same for broadcasts, per delivery.
    pub broadcast: Latencies,
    /// How far each broadcast has come.
    pub tallies: Vec<Tally>,
    /// Violations that the devices saw by themselves.
    pub findings: Findings,
    /// Why connections and bindings failed or ended, and how often.
    pub reasons: BTreeMap<String, u64>,
    /// Number of the app, once a device is bound.
    #[serde(default)]
    pub app: Option<u32>,
}

/// All that came to one user, in order of arrival.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Receipt {
    /// The user's number.
    pub user: u32,
    /// Messages.
    pub messages: Arrivals,
    /// Broadcasts.
    pub broadcasts: Arrivals,
}

impl FleetSpec {
    /// The uid of user `number`.
    #[must_use]
    pub fn uid(&self, number: u32) -> String {
        uid(&self.uid_prefix, number)
    }

    /// The part that worker `index` of `workers` takes.
    #[must_use]
    pub fn part(&self, index: u32, workers: u32) -> Self {
        let bound = |i: u32| (u64::from(self.count) * u64::from(i) / u64::from(workers)) as u32;
        let (from, to) = (bound(index), bound(index + 1));
        let part = f64::from(to - from) / f64::from(self.count.max(1));
        let tokens = match &self.tokens {
            Tokens::Ready(all) => {
                Tokens::Ready(all.get(from as usize..to as usize).unwrap_or_default().to_vec())
            }
            secret @ Tokens::Secret(_) => secret.clone(),
        };
        Self {
            first: self.first + from,
            count: to - from,
            begin: share(self.begin, from, to, self.count),
            ramp_per_s: self.ramp_per_s * part,
            opening_max: (f64::from(self.opening_max) * part).ceil() as u32,
            seed: self.seed.wrapping_add(u64::from(index)),
            tokens,
            line: self.line.part(index),
            ..self.clone()
        }
    }
}

/// What devices `from` to `to` of `count` have of a number of devices: in proportion, and all shares together make it
/// up exactly.
#[must_use]
pub(crate) fn share(of: u32, from: u32, to: u32, count: u32) -> u32 {
    let before = |at: u32| u64::from(of.min(count)) * u64::from(at) / u64::from(count.max(1));
    u32::try_from(before(to) - before(from)).unwrap_or(u32::MAX)
}

/// The uid of user `number` under a prefix.
#[must_use]
pub fn uid(prefix: &str, number: u32) -> String {
    format!("{prefix}-{number}")
}

impl Snapshot {
    /// Adds what another worker measured.
    pub fn merge(&mut self, other: Self) {
        self.counts = self.counts.merge(other.counts);
        self.connect.merge(&other.connect);
        self.delivery.merge(&other.delivery);
        self.acked.merge(&other.acked);
        self.broadcast.merge(&other.broadcast);
        Tally::merge(&mut self.tallies, other.tallies);
        self.findings.merge(other.findings);
        self.app = self.app.or(other.app);
        for (reason, count) in other.reasons {
            *self.reasons.entry(reason).or_default() += count;
        }
    }
}

#[cfg(test)]
pub(crate) fn example() -> FleetSpec {
    FleetSpec {
        first: 0,
        count: 10,
        uid_prefix: "u".into(),
        app: "demo".into(),
        tags: Vec::new(),
        tokens: Tokens::Ready((0..10).map(|n| n.to_string()).collect()),
        route: Route::Rooms(vec![SocketAddr::from(([127, 0, 0, 1], 7000))]),
        ramp_per_s: 100.0,
        begin: 10,
        opening_max: 10,
        sources: None,
        heartbeat_s: None,
        ack_delay_ms: 0,
        broadcast_ack_delay_ms: 0,
        line: LineSpec::default(),
        run: 1,
        seed: 1,
        receipts: true,
        sample_ms: None,
        tell_ms: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_users_once() {
        let spec = example();
        let parts: Vec<_> = (0..3).map(|i| spec.part(i, 3)).collect();
        let users: Vec<u32> = parts.iter().flat_map(|p| p.first..p.first + p.count).collect();
        assert_eq!(users, (0..10).collect::<Vec<_>>());
        for part in &parts {
            let Tokens::Ready(tokens) = &part.tokens else { panic!("changed kind") };
            assert_eq!(tokens[0], part.first.to_string());
            assert_eq!(tokens.len(), part.count as usize);
        }
        let half = FleetSpec { begin: 5, ..spec };
        let begin: Vec<u32> = (0..3).map(|i| half.part(i, 3).begin).collect();
        assert_eq!((begin.iter().sum::<u32>(), begin.iter().all(|n| (1..=2).contains(n))), (5, true));
    }

    #[test]
    fn sources_stay_inside_their_net() {
        let sources = Sources { first: Ipv4Addr::new(127, 1, 0, 1), per_address: 1000 };
        assert_eq!(sources.of(999), Ipv4Addr::new(127, 1, 0, 1));
        assert_eq!(sources.of(1000), Ipv4Addr::new(127, 1, 0, 2));
        for number in [0, 1 << 20, u32::MAX] {
            let one = Sources { first: Ipv4Addr::new(127, 255, 255, 250), per_address: 1 };
            let host = one.of(number).to_bits() & 0x00ff_ffff;
            assert!(one.of(number).is_loopback() && host != 0 && host != 0x00ff_ffff);
        }
    }

    #[test]
    fn the_first_worker_of_a_merge_does_not_hide_the_least() {
        let mut all = Snapshot {
            counts: Counts { broadcasts_complete: 4, ..Counts::default() },
            ..Snapshot::default()
        };
        all.merge(Snapshot {
            counts: Counts { broadcasts_complete: 9, ..Counts::default() },
            ..Snapshot::default()
        });
        assert_eq!(all.counts.broadcasts_complete, 4);
    }
}
