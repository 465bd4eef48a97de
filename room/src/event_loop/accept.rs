//! Accepting: a connection gets its place, or is refused.

use std::{io::Write as _, net::Shutdown};

use mio::{Interest, Token, net::TcpStream};
use wire::{ServerDecoder, codec::encode_server_frame, frame::Close};

use super::{EventLoop, listener::Accepted};
use crate::clock::Now;

/// Connections accepted before those that exist have their turn.
const ACCEPTS: usize = 64;

impl EventLoop {
    /// Takes in who waits at the port, as many as a turn may.
    pub(super) fn accept(&mut self, now: Now) {
        for _ in 0..ACCEPTS {
            let Some(listener) = self.listener.as_mut().filter(|listener| listener.is_ready(now.ms)) else {
                return;
            };
            let mut stream = match listener.accept(now.ms) {
                Accepted::Stream(stream) => stream,
                Accepted::Nobody => return,
                Accepted::Exhausted => {
                    self.accept_pauses += 1;
                    return tracing::warn!("no file left for connections; accepting pauses");
                }
            };
            let Some(conn) = self.sessions.open(now) else {
                self.refused += 1;
                refuse(&mut stream, self.sessions.busy());
                continue;
            };
            let token = Token((u64::from(conn.generation) << 32 | u64::from(conn.slot)) as usize);
            let both = Interest::READABLE | Interest::WRITABLE;
            if let Err(error) = self.poll.registry().register(&mut stream, token, both) {
                tracing::warn!(%error, "cannot watch a connection");
                self.sessions.on_closed(conn.slot);
                continue;
            }
            let slot = conn.slot as usize;
            while self.decoders.len() <= slot {
                self.decoders.push(ServerDecoder::for_server(self.max_frame));
            }
            self.forget_partial(conn.slot);
            self.outbox.insert(conn.slot, stream);
        }
    }
}

/// Says why, as far as the socket takes it at once, and closes.
fn refuse(stream: &mut TcpStream, close: Close) {
    let frame = encode_server_frame(&close.into());
    let _ = stream.write(&frame);
    let _ = stream.shutdown(Shutdown::Write);
}
