//! A device's WebSocket: the upgrade, and frames in messages.

use std::net::SocketAddr;

use client::backoff::Dice;
use prost::Message as _;
use wire::{
    WireError,
    codec::PREAMBLE,
    frame::{ClientFrame, ServerFrame},
    limits::MAX_SERVER_FRAME,
    ws::{self, Format, Incoming, Opcode, Receiver, upgrade},
};

use super::{socket::varint, wrap::WrapError};

/// A WebSocket, or the way to one.
pub(super) struct Web {
    receiver: Receiver,
    format: Format,
    /// Whether the preamble of native frames has been taken off.
    greeted: bool,
    /// Until the answer to the upgrade has come.
    upgrade: Option<Box<Upgrade>>,
}

struct Upgrade {
    address: SocketAddr,
    /// Chosen when it is sent.
    nonce: Option<[u8; 16]>,
    /// Beginning of the answer.
    head: Vec<u8>,
}

/// What is upgraded; the room's default.
const PATH: &str = "/";

impl Web {
    pub(super) fn new(json: bool, address: SocketAddr) -> Self {
        Self {
            // JSON says the same in more bytes: numbers as words, bytes as base64.
            receiver: Receiver::for_client(if json { 2 * MAX_SERVER_FRAME } else { MAX_SERVER_FRAME }),
            format: if json { Format::Json } else { Format::Binary },
            greeted: false,
            upgrade: Some(Box::new(Upgrade { address, nonce: None, head: Vec::new() })),
        }
    }

    /// Whether the upgrade has been asked for.
    pub(super) fn has_asked(&self) -> bool {
        self.upgrade.as_ref().is_none_or(|upgrade| upgrade.nonce.is_some())
    }

    /// Asks for the upgrade.
    pub(super) fn ask(&mut self, dice: &mut Dice, out: &mut Vec<u8>) {
        let Some(upgrade) = &mut self.upgrade else { return };
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&dice.roll().to_ne_bytes());
        nonce[8..].copy_from_slice(&dice.roll().to_ne_bytes());
        upgrade.nonce = Some(nonce);
        let host = upgrade.address.to_string();
        out.extend_from_slice(&upgrade::request(&host, PATH, self.format, nonce, None));
    }

    /// Takes what came; whether the WebSocket is open.
    pub(super) fn receive(
        &mut self,
        came: &[u8],
        dice: &mut Dice,
        frames: &mut Vec<ServerFrame>,
        out: &mut Vec<u8>,
    ) -> Result<bool, WrapError> {
        let Some(mut upgrade) = self.upgrade.take() else {
            self.take_messages(came, dice, frames, out)?;
            return Ok(true);
        };
        upgrade.head.extend_from_slice(came);
        let answer = match upgrade.nonce {
            Some(nonce) => upgrade::Response::parse(&upgrade.head, self.format, nonce)?,
            None => None,
        };
        let Some((_, len)) = answer else {
            self.upgrade = Some(upgrade);
            return Ok(false);
        };
        self.take_messages(&upgrade.head[len..], dice, frames, out)?;
        Ok(true)
    }

    /// Native frames as messages.
    pub(super) fn send(
        &mut self,
        mut frames: &[u8],
        dice: &mut Dice,
        out: &mut Vec<u8>,
    ) -> Result<(), WrapError> {
        if !self.greeted {
            frames = frames.strip_prefix(&PREAMBLE).unwrap_or(frames);
            self.greeted = true;
        }
        while let Some((len, prefix)) = varint(frames) {
            // A session writes whole frames.
            let Some((frame, rest)) = frames[prefix..].split_at_checked(len) else { break };
            frames = rest;
            match self.format {
                Format::Binary => ws::masked_into(out, Opcode::Binary, frame, mask(dice)),
                Format::Json => {
                    let frame = ClientFrame::decode(frame).map_err(WireError::BadProtobuf)?;
                    ws::masked_into(out, Opcode::Text, &wire::json::encode_client(&frame), mask(dice));
                }
            }
        }
        Ok(())
    }

    fn take_messages(
        &mut self,
        mut input: &[u8],
        dice: &mut Dice,
        frames: &mut Vec<ServerFrame>,
        out: &mut Vec<u8>,
    ) -> Result<(), WrapError> {
        while let Some(incoming) = self.receiver.decode(&mut input)? {
            match incoming {
                Incoming::Binary(bytes) => {
                    frames.push(ServerFrame::decode(bytes).map_err(WireError::BadProtobuf)?);
                }
                Incoming::Text(bytes) => frames.push(wire::json::decode_server(&bytes)?),
                Incoming::Ping(bytes) => ws::masked_into(out, Opcode::Pong, &bytes, mask(dice)),
                Incoming::Pong(_) => {}
                // The room's own Close came before, unless it could not.
                Incoming::Close(_) if frames.is_empty() => return Err(WrapError::Closed),
                Incoming::Close(_) => break,
            }
        }
        Ok(())
    }
}

fn mask(dice: &mut Dice) -> [u8; 4] {
    (dice.roll() as u32).to_ne_bytes()
}
