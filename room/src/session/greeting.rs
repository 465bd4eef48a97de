//! Answers to Connect that wait for company.
//!
//! A device that binds right behind its Connect waits for `Bound` and not for `Connected`. To write the two together spares the
//! room a write, which is the dearest part of a connect, and the device a read. The answer waits for as long as the first bind
//! takes, and at most until the next tick.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use wire::frame::Connected;

use super::{Sessions, outlet::Outlet, tell};

/// The answers that wait, by connection. Each has a bind under way.
#[derive(Debug, Default)]
pub(crate) struct Greetings {
    pub(super) held: HashMap<u32, Connected, RandomState>,
    /// More of what the connection sent is at hand than has been heard.
    more: bool,
}

impl Sessions {
    /// Whether more of what a connection sent is at hand, besides the frame that is about to be heard. After the last frame that is
    /// at hand call [`Sessions::heard_all`].
    pub fn expect(&mut self, more: bool) {
        self.greetings.more = more;
    }

    /// All that was at hand of a connection has been heard. Unless it has bound, nothing comes for which its answer could wait.
    pub fn heard_all(&mut self, slot: u32, out: &mut impl Outlet) {
        self.greetings.more = false;
        let binds = self.conns.get(slot as usize).is_some_and(|session| session.bindings > 0);
        if !binds {
            self.answer_connect(slot, out);
        }
    }

    /// Answers Connect, or lets the answer wait for what follows.
    pub(crate) fn say_connected(&mut self, slot: u32, connected: Connected, out: &mut impl Outlet) {
        if self.greetings.more && !connected.resumed {
            self.greetings.held.insert(slot, connected);
        } else {
            tell(out, slot, connected);
        }
    }

    /// Something else is about to be said, or has been heard: the answer to Connect waits no longer.
    pub(crate) fn answer_connect(&mut self, slot: u32, out: &mut impl Outlet) {
        // The usual case hashes nothing.
        if !self.greetings.held.is_empty()
            && let Some(connected) = self.greetings.held.remove(&slot)
        {
            tell(out, slot, connected);
        }
    }

    /// None waits for longer than a tick.
    pub(crate) fn answer_all_connects(&mut self, out: &mut impl Outlet) {
        // A storm leaves no table behind.
        for (slot, connected) in std::mem::take(&mut self.greetings.held) {
            tell(out, slot, connected);
        }
    }

    /// The connection is over.
    pub(crate) fn forget_greeting(&mut self, slot: u32) {
        if !self.greetings.held.is_empty() {
            self.greetings.held.remove(&slot);
        }
    }
}
