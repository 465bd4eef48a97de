//! Who may connect: decided at accept, before anything is made for the connection.
//!
//! One [`Admission`] for all threads of a room, because an address is one address whichever thread its connections came
//! to. It is asked at accept, at the end of a handshake and at close; nothing on a message's way touches it. No socket, no
//! clock: addresses and times come in.

mod networks;
mod rate;
mod reason;
mod table;
mod words;

#[cfg(test)]
mod tests;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use arc_swap::{ArcSwap, Guard};

pub use self::{networks::Networks, reason::Reason, words::Words};
use self::{
    rate::Rate,
    table::{PerAddress, Place, Table},
};

/// Bytes of one address in the table, for the memory account: an entry, its place in the index, and what both grow ahead.
pub(crate) const ADDRESS_BYTES: usize = 64;

/// What is asked of who comes. `None` = no limit.
#[derive(Debug, Clone)]
pub struct Rules {
    /// If not empty, nobody else may connect.
    pub allow: Networks,
    /// May not connect, allowed or not.
    pub deny: Networks,
    /// Connections of one address.
    pub connections_per_ip: Option<u32>,
    /// Handshakes a second, of all.
    pub handshakes_per_second: Option<u32>,
    /// Handshakes a second of one address.
    pub handshakes_per_second_per_ip: Option<u32>,
    /// Handshakes in progress, of all.
    pub handshakes_in_progress: Option<u32>,
    /// Handshakes in progress of one address.
    pub handshakes_in_progress_per_ip: Option<u32>,
    /// What the refused are told.
    pub words: Words,
}

impl Default for Rules {
    /// Everybody may connect.
    fn default() -> Self {
        Self {
            allow: Networks::default(),
            deny: Networks::default(),
            connections_per_ip: None,
            handshakes_per_second: None,
            handshakes_per_second_per_ip: None,
            handshakes_in_progress: None,
            handshakes_in_progress_per_ip: None,
            words: Words::new(1_000),
        }
    }
}

impl Rules {
    /// Whether the lists let an address in.
    pub fn lets_in(&self, address: IpAddr) -> bool {
        !self.deny.contains(address) && (self.allow.is_empty() || self.allow.contains(address))
    }

    fn per_address(&self) -> PerAddress {
        PerAddress {
            connections: self.connections_per_ip,
            handshakes: self.handshakes_in_progress_per_ip,
            rate: self.handshakes_per_second_per_ip.map(Rate::per_second),
        }
    }
}

/// What a connection holds of its admission: four bytes. Whoever has one gives it back by [`Admission::leave`], once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u32);

impl Ticket {
    /// Of nobody.
    pub const NONE: Self = Self(u32::MAX);
    /// The handshake is in progress.
    const GREETING: u32 = 1 << 31;
    /// In place of a [`Place`]: the address is not counted. Differs from the low bits of [`Ticket::NONE`].
    const UNCOUNTED: u32 = (1 << 31) - 2;

    fn new(place: Option<Place>) -> Self {
        const { assert!(Place::MAX < Self::UNCOUNTED, "a place is never taken for none") };
        Self(Self::GREETING | place.map_or(Self::UNCOUNTED, |place| place.0))
    }

    /// Whether the handshake is in progress.
    pub fn is_greeting(self) -> bool {
        self != Self::NONE && self.0 & Self::GREETING != 0
    }

    fn place(self) -> Option<Place> {
        let place = self.0 & !Self::GREETING;
        (place < Self::UNCOUNTED).then_some(Place(place))
    }
}

/// The door of a room.
#[derive(Debug)]
pub struct Admission {
    rules: ArcSwap<Rules>,
    table: Table,
    /// Times are counted from here.
    began: Instant,
    /// Connections, and how many there may be.
    connections: AtomicUsize,
    connections_max: usize,
    /// Handshakes in progress.
    handshakes: AtomicUsize,
    /// When the bucket of all handshakes is full again.
    full_ns: AtomicU64,
}

impl Admission {
    /// A door to a room of so many connections.
    pub fn new(rules: Rules, connections_max: usize, now: Instant) -> Self {
        Self {
            rules: ArcSwap::new(Arc::new(rules)),
            table: Table::new(connections_max),
            began: now,
            connections: AtomicUsize::new(0),
            connections_max,
            handshakes: AtomicUsize::new(0),
            full_ns: AtomicU64::new(0),
        }
    }

    /// Addresses that are counted at most, in a room of so many connections.
    pub(crate) fn addresses_max(connections_max: usize) -> usize {
        Table::bound(connections_max)
    }

    /// Other rules, for who comes from now on. Connections whose address was not counted when they came are not counted
    /// afterwards either.
    pub fn set_rules(&self, rules: Rules) {
        self.rules.store(Arc::new(rules));
    }

    /// The rules that hold.
    pub fn rules(&self) -> Guard<Arc<Rules>> {
        self.rules.load()
    }

    /// Somebody is at the door. A ticket, which is to be given back, or why not: then nothing is kept of it.
    ///
    /// What concerns one address is asked before what concerns all, so that an address that is refused takes nothing from
    /// the others.
    ///
    /// # Errors
    /// The first reason there is.
    pub fn enter(&self, address: IpAddr, now: Instant) -> Result<Ticket, Reason> {
        let rules = self.rules.load();
        if !rules.lets_in(address) {
            return Err(Reason::Denied);
        }
        let now_ns = self.ns(now);
        take(&self.connections, Some(self.connections_max)).ok_or(Reason::Full)?;
        let admitted = self.begin(address, &rules, now_ns);
        if admitted.is_err() {
            self.connections.fetch_sub(1, Ordering::Relaxed);
        }
        admitted
    }

    fn begin(&self, address: IpAddr, rules: &Rules, now_ns: u64) -> Result<Ticket, Reason> {
        let most = rules.handshakes_in_progress.map(|most| most as usize);
        take(&self.handshakes, most).ok_or(Reason::Handshakes)?;
        let admitted = self.count(address, rules, now_ns);
        if admitted.is_err() {
            self.handshakes.fetch_sub(1, Ordering::Relaxed);
        }
        admitted
    }

    fn count(&self, address: IpAddr, rules: &Rules, now_ns: u64) -> Result<Ticket, Reason> {
        let may = rules.per_address();
        // Without limits there is no table: where each device has an address of its own it would cost each something.
        let place = (!may.is_unlimited()).then(|| self.table.enter(address, &may, now_ns)).transpose()?;
        let rate = rules.handshakes_per_second.map(Rate::per_second);
        if rate.is_none_or(|rate| rate.take_shared(&self.full_ns, now_ns)) {
            return Ok(Ticket::new(place));
        }
        if let Some(place) = place {
            self.table.take_back(place, &may, now_ns);
        }
        Err(Reason::Rate)
    }

    /// The handshake is through, well or not.
    pub fn greeted(&self, ticket: &mut Ticket) {
        if !ticket.is_greeting() {
            return;
        }
        ticket.0 &= !Ticket::GREETING;
        self.handshakes.fetch_sub(1, Ordering::Relaxed);
        if let Some(place) = ticket.place() {
            self.table.greeted(place);
        }
    }

    /// The connection has ended.
    pub fn leave(&self, mut ticket: Ticket, now: Instant) {
        if ticket == Ticket::NONE {
            return;
        }
        self.greeted(&mut ticket);
        self.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(place) = ticket.place() {
            self.table.leave(place, self.ns(now));
        }
    }

    /// Forgets some of the addresses that have nothing any more; for every tick of every thread.
    pub fn sweep(&self, now: Instant) {
        self.table.sweep(self.ns(now));
    }

    /// Connections now.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Handshakes in progress.
    pub fn handshakes(&self) -> usize {
        self.handshakes.load(Ordering::Relaxed)
    }

    /// Addresses that are counted now.
    pub fn addresses(&self) -> usize {
        self.table.len()
    }

    fn ns(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Counts one more, if there may be one more.
fn take(count: &AtomicUsize, most: Option<usize>) -> Option<usize> {
    let more = |count: usize| most.is_none_or(|most| count < most).then(|| count + 1);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()
}
