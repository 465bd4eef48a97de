//! Lines that go from one connection to another, also of another thread.

use std::io;

use mio::{Interest, Token};

use super::{EventLoop, Line};
use crate::exchange::ConnKey;

impl EventLoop {
    /// Takes a connection's line out; it has no socket then. `None`: it is closing, or has none.
    pub(super) fn take_line(&mut self, slot: u32) -> Option<Line> {
        let before = self.outbox.held(slot);
        let mut line = self.outbox.take_line(slot);
        self.settle(slot, before);
        if let Some(line) = &mut line {
            line.pass = Some(self.gate.take_pass(slot));
            if let Err(error) = self.poll.registry().deregister(&mut line.stream) {
                tracing::warn!(%error, "cannot leave a connection to another");
            }
        }
        line
    }

    /// Gives a connection without a socket a line. What the socket has for us makes an event, whether it came before or not.
    ///
    /// # Errors
    /// What the system says; the line is gone then.
    pub(super) fn put_line(&mut self, conn: ConnKey, mut line: Line) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut line.stream, token(conn), both)?;
        let before = self.outbox.held(conn.slot);
        if let Some(pass) = line.pass.take() {
            self.gate.put_pass(conn.slot, pass);
        }
        self.outbox.put_line(conn.slot, line);
        self.settle(conn.slot, before);
        Ok(())
    }
}

/// How the events of a connection are known.
pub(super) fn token(conn: ConnKey) -> Token {
    Token((u64::from(conn.generation) << 32 | u64::from(conn.slot)) as usize)
}
