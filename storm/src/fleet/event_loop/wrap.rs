//! What stands between a device's frames and its socket, for all transports but native plain text.
//!
//! The SDK's session speaks native frames, whatever carries them: what it writes is taken apart here frame by frame and
//! put into messages and records, and what comes is put together the other way round.

use std::net::SocketAddr;

use client::{backoff::Dice, session::Cause};
use wire::{ClientDecoder, frame::ServerFrame};

use super::{
    tls::{self, Stage, Tls},
    web::Web,
};
use crate::fleet::line::Transport;

/// TLS, WebSocket or both. Boxed, because a native device has none of it.
pub(super) struct Wrap {
    tls: Option<Box<Tls>>,
    web: Option<Web>,
    /// Whether frames may be sent.
    open: bool,
}

/// Space that all devices of a loop share while bytes pass through.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// To the socket, as it goes out.
    pub(super) out: Vec<u8>,
    /// Frames that have come.
    pub(super) frames: Vec<ServerFrame>,
    plain_in: Vec<u8>,
    plain_out: Vec<u8>,
}

/// Why a transport could not be opened, or ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum WrapError {
    #[error("tls: {0}")]
    Tls(#[from] rustls::Error),
    #[error("websocket: {0}")]
    Upgrade(#[from] wire::ws::upgrade::UpgradeError),
    #[error("websocket: {0}")]
    WebSocket(#[from] wire::ws::WsError),
    #[error("{0}")]
    Wire(#[from] wire::WireError),
    #[error("closed by the room")]
    Closed,
}

impl From<WrapError> for Cause {
    fn from(error: WrapError) -> Self {
        match error {
            WrapError::Wire(error) => Self::Wire(error),
            other => Self::Lost(other.to_string()),
        }
    }
}

/// What came of bytes from the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Still on the way to the first frame.
    Opening,
    /// Frames may be sent from now on; how TLS came about, if there is any.
    Opened {
        /// Whether it was resumed.
        resumed: Option<bool>,
    },
    /// As before.
    Open,
}

impl Wrap {
    /// What `transport` needs to `address`. `None`: nothing.
    pub(super) fn new(
        transport: Transport,
        client: Option<&tls::Client>,
        (address, is_first): (SocketAddr, bool),
    ) -> Result<Option<Box<Self>>, rustls::Error> {
        let web = transport.web_socket().map(|json| Web::new(json, address));
        let tls = match client {
            Some(client) if transport.has_tls() => {
                let (config, name) = client.connect(address, is_first);
                Some(Box::new(Tls::new(config, name)?))
            }
            _ => None,
        };
        let any = tls.is_some() || web.is_some();
        Ok(any.then(|| Box::new(Self { tls, web, open: false })))
    }

    /// Whether frames may be sent.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Whether it is a WebSocket.
    pub(super) fn is_web_socket(&self) -> bool {
        self.web.is_some()
    }

    /// The socket stands: puts what is to be sent first into `space.out`.
    pub(super) fn begin(&mut self, dice: &mut Dice, space: &mut Space) -> Result<(), WrapError> {
        match (&mut self.tls, &mut self.web) {
            (Some(tls), _) => {
                tls.receive(&mut [], &mut space.plain_in, &mut space.out)?;
            }
            (None, Some(web)) => web.ask(dice, &mut space.out),
            (None, None) => {}
        }
        Ok(())
    }

    /// Takes what came from the socket. Frames go into `space.frames`, what is to be sent into `space.out`.
    pub(super) fn receive(
        &mut self,
        came: &mut [u8],
        decoder: &mut ClientDecoder,
        dice: &mut Dice,
        space: &mut Space,
    ) -> Result<Step, WrapError> {
        let was_open = self.open;
        let Some(tls) = &mut self.tls else {
            if let Some(web) = &mut self.web {
                self.open = web.receive(came, dice, &mut space.frames, &mut space.out)?;
            }
            return Ok(step(was_open, self.open, None));
        };
        space.plain_in.clear();
        space.plain_out.clear();
        let stage = tls.receive(came, &mut space.plain_in, &mut space.out)?;
        if stage == Stage::Handshake {
            return Ok(Step::Opening);
        }
        match &mut self.web {
            Some(web) => {
                if !web.has_asked() {
                    web.ask(dice, &mut space.plain_out);
                }
                self.open = web.receive(&space.plain_in, dice, &mut space.frames, &mut space.plain_out)?;
                if stage == Stage::Open {
                    tls.send(&space.plain_out, &mut space.out)?;
                }
            }
            None => {
                self.open = true;
                let mut input = &space.plain_in[..];
                while let Some(frame) = decoder.decode(&mut input)? {
                    space.frames.push(frame);
                }
            }
        }
        if stage == Stage::Closed && space.frames.is_empty() {
            return Err(WrapError::Closed);
        }
        Ok(step(was_open, self.open, Some(tls.is_resumed())))
    }

    /// Puts native frames, with the preamble before the first, into `space.out` as they go out.
    pub(super) fn send(
        &mut self,
        frames: &[u8],
        dice: &mut Dice,
        space: &mut Space,
    ) -> Result<(), WrapError> {
        match (&mut self.tls, &mut self.web) {
            (None, Some(web)) => web.send(frames, dice, &mut space.out)?,
            (Some(tls), None) => tls.send(frames, &mut space.out)?,
            (Some(tls), Some(web)) => {
                space.plain_out.clear();
                web.send(frames, dice, &mut space.plain_out)?;
                tls.send(&space.plain_out, &mut space.out)?;
            }
            (None, None) => space.out.extend_from_slice(frames),
        }
        Ok(())
    }
}

fn step(was_open: bool, is_open: bool, resumed: Option<bool>) -> Step {
    match (was_open, is_open) {
        (true, _) => Step::Open,
        (false, true) => Step::Opened { resumed },
        (false, false) => Step::Opening,
    }
}
