//! Whose first byte is it: TLS, a WebSocket's request, or native frames.

use wire::{ServerDecoder, codec::PREAMBLE, frame::CloseCode};

use super::{
    EventLoop,
    line::{Begun, Kind, Shield},
    read::Step,
    tls::Tls,
};
use crate::{clock::Now, session::Outlet as _};

/// The kind of a TLS record that begins a handshake.
const HANDSHAKE: u8 = 0x16;
/// `GET`, with which every request for a WebSocket begins.
const GET: u8 = b'G';

impl EventLoop {
    /// One byte decides.
    pub(super) fn sniff(&mut self, slot: u32, input: &[u8], now: Now) -> Step {
        let Some(first) = input.first() else { return Step::All };
        let shield = self.outbox.speaks(slot).1;
        match *first {
            HANDSHAKE if shield == Shield::Plain => self.begin_tls(slot, input),
            GET if self.doors.websocket.is_some() => {
                self.outbox.decide(slot, Kind::Request);
                Step::Again
            }
            first if first == PREAMBLE[0] => {
                self.outbox.decide(slot, Kind::Native);
                let decoder = ServerDecoder::for_server(self.max_frame);
                self.outbox.keep_begun(slot, Begun::Native(decoder));
                Step::Again
            }
            first => {
                let (reason, words) = match first {
                    HANDSHAKE => ("tls_in_tls", "TLS within TLS is not spoken"),
                    GET => ("websocket_off", "WebSocket is switched off"),
                    _ => ("unknown", "the connection does not begin with the preamble \"LW\""),
                };
                self.entries.strangers.count(reason);
                self.sessions.close(slot, CloseCode::BadFrame, words, now, &mut self.outbox);
                Step::Stop
            }
        }
    }

    /// The handshake goes on in its turn.
    fn begin_tls(&mut self, slot: u32, input: &[u8]) -> Step {
        let Some(config) = self.doors.tls.as_ref().map(|tls| tls.server()) else {
            self.entries.strangers.count("tls_off");
            // Whoever speaks TLS understands nothing else.
            self.outbox.abort(slot);
            return Step::Stop;
        };
        match Tls::new(config) {
            Ok(mut tls) => {
                tls.put_off(input);
                self.outbox.shield(slot, tls);
                Step::All
            }
            Err(error) => {
                tracing::error!(%error, "TLS cannot be begun with what is configured");
                self.outbox.abort(slot);
                Step::Stop
            }
        }
    }
}
