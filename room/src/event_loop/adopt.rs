//! A device that goes on after its connection broke: its new line moves to where its seat is, be it in another thread, whose
//! port the kernel might as well have led it to.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{
    EventLoop, Line,
    order::{Bell, Order, Thread},
};
use crate::{clock::Now, exchange::ConnKey, resume::Sealer, session::Moving};

/// A line whose owner has asked for another seat, until what is being read of it has been read.
#[derive(Debug)]
pub(super) struct Departure {
    from: ConnKey,
    moving: Box<Moving>,
    /// What came behind its Connect: at most what is read of a connection at a time.
    rest: Vec<u8>,
}

/// A line on its way to its seat.
#[derive(Debug)]
pub struct Arrival {
    line: Line,
    moving: Box<Moving>,
    rest: Vec<u8>,
}

/// Another thread of the room. It does not keep the thread from seeing that nobody else can give it orders any more.
#[derive(Debug)]
pub(super) struct Sibling {
    orders: mpsc::WeakSender<Order>,
    bell: Arc<Bell>,
}

impl EventLoop {
    /// Lets devices resume connections that broke. `sealer` is the same in all threads of the room, and these are the threads,
    /// in order.
    #[must_use]
    pub fn resuming(self, sealer: Sealer, threads: &[Thread]) -> Self {
        let sibling =
            |thread: &Thread| Sibling { orders: thread.orders.downgrade(), bell: Arc::clone(&thread.bell) };
        let siblings = threads.iter().map(sibling).collect();
        Self { siblings, sessions: self.sessions.with_resume(sealer), ..self }
    }

    /// The zone of the room.
    #[must_use]
    pub fn in_zone(self, zone: &str) -> Self {
        Self { sessions: self.sessions.in_zone(zone), ..self }
    }

    /// Notes that a line is to go; it goes when what has come of it has been read.
    pub(super) fn note_departure(&mut self, slot: u32, moving: Box<Moving>) {
        if let Some(generation) = self.sessions.generation(slot) {
            self.departures.push(Departure { from: ConnKey { slot, generation }, moving, rest: Vec::new() });
        }
    }

    /// Keeps what comes from a device whose line is to go. `false`: it is not.
    pub(super) fn keep_for_departure(&mut self, slot: u32, input: &[u8]) -> bool {
        // Empty nearly always, and never longer than the connections of one turn.
        let departure = self.departures.iter_mut().rev().find(|departure| departure.from.slot == slot);
        departure.map(|departure| departure.rest.extend_from_slice(input)).is_some()
    }

    /// Brings the lines that are to go to their seats.
    pub(super) fn depart(&mut self, now: Now) {
        for Departure { from, moving, rest } in std::mem::take(&mut self.departures) {
            if self.sessions.generation(from.slot) != Some(from.generation) {
                continue;
            }
            let Some(line) = self.take_line(from.slot) else {
                self.close(from.slot, now);
                continue;
            };
            self.sessions.move_away(from.slot);
            self.send_home(Arrival { line, moving, rest }, now);
        }
    }

    fn send_home(&mut self, arrival: Arrival, now: Now) {
        let thread = arrival.moving.seat.thread;
        if thread == self.sessions.thread() {
            return self.arrive(arrival, now);
        }
        let sibling = self.siblings.get(usize::from(thread));
        let Some((orders, sibling)) = sibling.and_then(|sibling| Some((sibling.orders.upgrade()?, sibling)))
        else {
            return self.stay(arrival, now);
        };
        match orders.try_send(Order::Adopt(Box::new(arrival))) {
            Ok(()) => sibling.bell.ring(),
            Err(mpsc::error::TrySendError::Full(order) | mpsc::error::TrySendError::Closed(order)) => {
                if let Order::Adopt(arrival) = order {
                    self.stay(*arrival, now);
                }
            }
        }
    }

    /// The seat cannot be reached: the device begins afresh, here.
    fn stay(&mut self, arrival: Arrival, now: Now) {
        self.sessions.seat_out_of_reach();
        self.begin_afresh(arrival, now);
    }

    /// A line has come to its seat. If that is not there any more the device begins afresh.
    pub(super) fn arrive(&mut self, arrival: Arrival, now: Now) {
        let Some(conn) = self.sessions.take_seat(arrival.moving.seat, now) else {
            return self.begin_afresh(arrival, now);
        };
        // The room may not have noticed that the old line broke. What comes of it in this turn is taken for the new one's,
        // which is looked at in vain then.
        self.drop_line(conn.slot);
        let Arrival { line, moving, rest } = arrival;
        if let Err(error) = self.put_line(conn, line) {
            tracing::warn!(%error, "cannot watch a connection");
            return self.sessions.on_lost(conn.slot, now);
        }
        self.sessions.resume(conn.slot, &moving.connect, now, &mut self.outbox);
        self.go_on_reading(conn, &rest, now);
    }

    fn begin_afresh(&mut self, arrival: Arrival, now: Now) {
        // None: the room is full, or leaves. The device finds its line closed and goes elsewhere.
        let Some(conn) = self.sessions.open(now) else { return };
        let Arrival { line, moving, rest } = arrival;
        if let Err(error) = self.put_line(conn, line) {
            tracing::warn!(%error, "cannot watch a connection");
            return self.sessions.on_closed(conn.slot);
        }
        self.sessions.greet(conn.slot, &moving.connect, now, &mut self.outbox);
        self.go_on_reading(conn, &rest, now);
    }

    fn go_on_reading(&mut self, conn: ConnKey, rest: &[u8], now: Now) {
        if rest.is_empty() {
            self.greet(conn.slot);
        } else {
            self.take_in(conn.slot, rest, now);
        }
        // Whatever the socket told before it was the new slot's.
        self.unread.push(conn);
    }
}
