//! One thread's side of admission: which of its connections came in with which ticket.

use std::{net::IpAddr, sync::Arc, time::Instant};

use crate::admission::{Admission, Reason, Ticket};

/// While the process is out of files, this is said once in so many ms.
const WARN_MS: u64 = 10_000;

/// The room's admission, as a thread has it.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) admission: Arc<Admission>,
    /// By slot.
    tickets: Vec<Ticket>,
    /// Chooses among the waits that the refused are told.
    dice: u32,
    /// Accepting has come to a stop for want of files.
    exhausted: bool,
    warned_ms: Option<u64>,
    /// Times that it has.
    pub(super) pauses: u64,
}

impl Gate {
    /// One that lets everybody in.
    pub(super) fn open() -> Self {
        let admission = Admission::new(crate::admission::Rules::default(), usize::MAX, Instant::now());
        Self {
            admission: Arc::new(admission),
            tickets: Vec::new(),
            dice: 0,
            exhausted: false,
            warned_ms: None,
            pauses: 0,
        }
    }

    pub(super) fn enter(&mut self, address: IpAddr) -> Result<Ticket, Reason> {
        self.exhausted = false;
        self.admission.enter(address, Instant::now())
    }

    /// The connection in this slot came in with it.
    pub(super) fn put(&mut self, slot: u32, ticket: Ticket) {
        let at = slot as usize;
        if self.tickets.len() <= at {
            self.tickets.resize(at + 1, Ticket::NONE);
        }
        let before = std::mem::replace(&mut self.tickets[at], ticket);
        self.give_back(before);
    }

    /// Takes the ticket of a connection whose line goes to another.
    pub(super) fn take_pass(&mut self, slot: u32) -> Pass {
        Pass { ticket: self.take(slot), admission: Arc::clone(&self.admission) }
    }

    /// The line that it came with is in this slot now.
    pub(super) fn put_pass(&mut self, slot: u32, mut pass: Pass) {
        // Another admission has not counted it; then it goes back to its own.
        let is_ours = Arc::ptr_eq(&self.admission, &pass.admission);
        let ticket = if is_ours { std::mem::replace(&mut pass.ticket, Ticket::NONE) } else { Ticket::NONE };
        self.put(slot, ticket);
    }

    fn take(&mut self, slot: u32) -> Ticket {
        self.tickets.get_mut(slot as usize).map_or(Ticket::NONE, |at| std::mem::replace(at, Ticket::NONE))
    }

    /// Whether the connection's handshake is counted as in progress.
    pub(super) fn is_greeting(&self, slot: u32) -> bool {
        self.tickets.get(slot as usize).is_some_and(|ticket| ticket.is_greeting())
    }

    pub(super) fn greeted(&mut self, slot: u32) {
        if let Some(ticket) = self.tickets.get_mut(slot as usize) {
            self.admission.greeted(ticket);
        }
    }

    pub(super) fn leave(&mut self, slot: u32) {
        let ticket = self.take(slot);
        self.give_back(ticket);
    }

    pub(super) fn give_back(&self, ticket: Ticket) {
        if ticket != Ticket::NONE {
            self.admission.leave(ticket, Instant::now());
        }
    }

    pub(super) fn roll(&mut self) -> u32 {
        // A step that has no factor in common with the number of waits visits them all, and neighbours far apart.
        self.dice = self.dice.wrapping_add(13);
        self.dice
    }

    /// There is no file for who comes.
    pub(super) fn exhausted(&mut self, now_ms: u64) {
        if !std::mem::replace(&mut self.exhausted, true) {
            self.pauses += 1;
        }
        if self.warned_ms.is_none_or(|warned_ms| now_ms >= warned_ms + WARN_MS) {
            self.warned_ms = Some(now_ms);
            tracing::warn!("no file left for connections; who comes is sent elsewhere or waits");
        }
    }
}

/// The ticket of a line on its way to another connection. It is given back if the line never arrives.
#[derive(Debug)]
pub(super) struct Pass {
    ticket: Ticket,
    admission: Arc<Admission>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        // It has arrived, or came with none.
        if self.ticket != Ticket::NONE {
            self.admission.leave(self.ticket, Instant::now());
        }
    }
}
