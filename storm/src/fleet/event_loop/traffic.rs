//! Bytes in and out of a device's connection, and what follows from them.

use std::io::{self, ErrorKind, Read as _, Write as _};

use client::{
    Event, Output,
    session::{Cause, Ending},
};
use mio::event::Event as Readiness;
use wire::close::{Wait, Whither};

use super::{
    EventLoop, clear,
    device::{Device, Dial, Line},
};
use crate::fleet::Tokens;

/// `ClientFrame.ack` as a frame's first byte: field 4, length-delimited.
const ACK_TAG: u8 = 4 << 3 | 2;

impl EventLoop {
    pub(super) fn on_event(&mut self, index: u32, ready: &Readiness) {
        let Some(device) = self.devices.get_mut(index as usize) else { return };
        match &device.line {
            Line::Connecting(_) => self.on_connecting(index, ready),
            Line::Open(_) => {
                if ready.is_writable() && device.unsent.is_some() {
                    self.write(index, &[]);
                }
                if ready.is_readable() || ready.is_read_closed() || ready.is_error() {
                    self.read(index, ready.is_read_closed() || ready.is_error());
                }
            }
            // An event that was on its way when the connection ended.
            Line::Down | Line::Asking => {}
        }
    }

    fn on_connecting(&mut self, index: u32, ready: &Readiness) {
        let device = &mut self.devices[index as usize];
        let Line::Connecting(stream) = &device.line else { return };
        let failure = match (stream.take_error(), stream.peer_addr()) {
            (Ok(Some(error)) | Err(error), _) => Some(error),
            (Ok(None), Ok(_)) => None,
            (Ok(None), Err(error)) if error.kind() == ErrorKind::NotConnected && !ready.is_error() => return,
            (Ok(None), Err(error)) => Some(error),
        };
        if let Some(error) = failure {
            self.measured.reason(&format!("connect: {error}"));
            self.connect_failed(index, None);
            return;
        }
        self.measured.counts.connected += 1;
        if let Line::Connecting(stream) = std::mem::replace(&mut device.line, Line::Down) {
            device.line = Line::Open(stream);
        }
        self.with_session(index, |device, now, output| device.session.opened(now, output));
        // The room may have spoken in the same moment; an edge comes only once.
        if ready.is_readable() {
            self.read(index, ready.is_read_closed());
        }
    }

    /// A moment has come that this device waited for.
    pub(super) fn on_deadline(&mut self, index: u32) {
        match self.devices[index as usize].line {
            Line::Open(_) => self.with_session(index, |_, _, _| {}),
            Line::Connecting(_) => {
                self.measured.reason("connect: timed out");
                self.connect_failed(index, None);
            }
            Line::Down => {
                self.devices[index as usize].retry_at = client::Moment::NEVER;
                self.ready.push_back(index);
            }
            Line::Asking => {}
        }
    }

    /// Reads all that is there, then lets the session act on it once.
    fn read(&mut self, index: u32, closing: bool) {
        self.tick();
        let mut buffer = std::mem::take(&mut self.buffer);
        let end = self.read_into(index, &mut buffer, closing);
        self.buffer = buffer;
        self.with_session(index, |device, _, output| {
            if let Some(cause) = end {
                device.session.lost(cause, output);
            }
        });
    }

    fn read_into(&mut self, index: u32, buffer: &mut [u8], closing: bool) -> Option<Cause> {
        loop {
            let device = &mut self.devices[index as usize];
            let Line::Open(stream) = &mut device.line else { return None };
            let got = match stream.read(buffer) {
                Ok(0) => return Some(Cause::Lost("closed by the room".into())),
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Some(Cause::Lost(error.kind().to_string())),
            };
            self.measured.counts.bytes_in += got as u64;
            let mut input = &buffer[..got];
            loop {
                match device.decoder.decode(&mut input) {
                    Ok(Some(frame)) => device.session.on_frame(frame, self.now, &mut self.output),
                    Ok(None) => break,
                    Err(error) => return Some(Cause::Wire(error)),
                }
            }
            if self.output.ended.is_some() {
                return None;
            }
            // A short read has emptied the socket: more would be a new edge. Unless its end is there already.
            if got < buffer.len() && !closing {
                return None;
            }
        }
    }

    /// Lets `act` do something with a session, and then carries out all that comes of it.
    pub(super) fn with_session(
        &mut self,
        index: u32,
        act: impl FnOnce(&mut Device, client::Moment, &mut Output),
    ) {
        let mut output = std::mem::take(&mut self.output);
        let now = self.now;
        act(&mut self.devices[index as usize], now, &mut output);
        loop {
            self.devices[index as usize].session.advance(now, &mut output);
            // A token that was asked for is given at once, and its bind leaves with the next turn.
            if !self.take_events(index, &mut output) {
                break;
            }
        }
        if !output.bytes.is_empty() {
            self.write(index, &output.bytes);
            let device = &mut self.devices[index as usize];
            if !device.unacked.is_empty() && holds_ack(&output.bytes) {
                let now_ns = self.clock.now_ns();
                self.measured.acked(device, now_ns);
            }
        }
        match output.ended.take() {
            Some(ending) => self.on_ended(index, &ending),
            None => self.arm(index),
        }
        clear(&mut output);
        self.output = output;
    }

    /// Takes what the session has for the app. Whether a token was set, so that the session has more to do.
    fn take_events(&mut self, index: u32, output: &mut Output) -> bool {
        if output.events.is_empty() {
            return false;
        }
        let mut token_set = false;
        let now_ns = self.clock.now_ns();
        for event in output.events.drain(..) {
            let device = &mut self.devices[index as usize];
            match event {
                Event::Message(message) => self.measured.message(index, device, &message, now_ns),
                Event::Broadcast(message) => self.measured.broadcast(index, device, &message, now_ns),
                Event::TokenNeeded { binding } => {
                    let token = match (&self.minter, &self.spec.tokens) {
                        (Some(minter), _) => minter.mint(&self.spec.uid(self.spec.first + index)),
                        (None, Tokens::Ready(ready)) => ready[index as usize].clone(),
                        (None, Tokens::Secret(_)) => continue,
                    };
                    device.session.set_token(binding, token.into());
                    token_set = true;
                }
                Event::Bound { .. } => {
                    self.measured.bound(device, now_ns);
                    self.opening -= u32::from(device.opening);
                    device.opening = false;
                    device.failures = 0;
                    device.dial = None;
                }
                Event::BindFailed { code, gives_up, .. } => {
                    self.measured.counts.bind_failures += 1;
                    self.measured.reason(&format!("bind: {}", code.label()));
                    self.lose(index, gives_up);
                }
                Event::Unbound { reason, .. } => {
                    self.measured.reason(&format!("unbound: {}", reason.label()));
                    self.measured.unbound(device);
                    self.lose(index, !reason.binds_again());
                }
                Event::Connected { .. }
                | Event::Disconnected(_)
                | Event::Recalled { .. }
                | Event::UpDone { .. } => {}
            }
        }
        token_set
    }

    /// A binding is not to be: for good, or the session tries again by itself.
    fn lose(&mut self, index: u32, for_good: bool) {
        let device = &mut self.devices[index as usize];
        if for_good && !device.gone {
            device.gone = true;
            self.measured.counts.gone += 1;
            self.opening -= u32::from(device.opening);
            device.opening = false;
        }
    }

    /// A connection has ended, by the session's or the room's will.
    fn on_ended(&mut self, index: u32, ending: &Ending) {
        self.measured.counts.disconnects += 1;
        self.measured.reason(&ending.cause.to_string());
        let device = &mut self.devices[index as usize];
        self.measured.unbound(device);
        if ending.whither == Whither::Nowhere {
            self.lose(index, true);
        }
        let device = &mut self.devices[index as usize];
        if ending.whither == Whither::Elsewhere {
            device.room = device.room.wrapping_add(1);
        }
        let told = ending.addresses.iter().filter_map(|address| address.parse().ok()).collect();
        device.dial = Some(Box::new(Dial { next: told, tried: Vec::new() }));
        let backoff = self.config.backoff;
        let wait = match ending.wait {
            Wait::Brief => backoff.delay(0, &mut self.dice),
            Wait::Backoff => backoff.delay(device.failures, &mut self.dice),
            Wait::AsTold => backoff.delay(device.failures, &mut self.dice).max(ending.retry_after),
        };
        device.failures = device.failures.saturating_add(1);
        self.retry(index, wait);
    }

    /// Writes what the socket takes and keeps the rest.
    pub(super) fn write(&mut self, index: u32, bytes: &[u8]) {
        let device = &mut self.devices[index as usize];
        let Line::Open(stream) = &mut device.line else { return };
        if let Some(unsent) = &mut device.unsent {
            unsent.extend_from_slice(bytes);
            let sent = write_some(stream, unsent);
            unsent.drain(..sent);
            if unsent.is_empty() {
                device.unsent = None;
            }
            self.measured.counts.bytes_out += sent as u64;
            return;
        }
        let sent = write_some(stream, bytes);
        self.measured.counts.bytes_out += sent as u64;
        if sent < bytes.len() {
            device.unsent = Some(Box::new(bytes[sent..].to_vec()));
        }
    }
}

/// How many bytes the socket took. An error shows at the next read.
fn write_some(stream: &mut mio::net::TcpStream, bytes: &[u8]) -> usize {
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(0) => break,
            Ok(taken) => sent += taken,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    sent
}

/// Whether an ack is among these frames. The session does not say; its frames do.
fn holds_ack(mut frames: &[u8]) -> bool {
    while let Some((len, prefix)) = varint(frames) {
        let body = &frames[prefix..];
        if body.first() == Some(&ACK_TAG) {
            return true;
        }
        match body.get(len..) {
            Some(rest) => frames = rest,
            None => return false,
        }
    }
    false
}

fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(5).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{
        codec,
        frame::{Ack, Up},
    };

    #[test]
    fn finds_acks_among_other_frames() {
        let up =
            codec::encode_client_frame(&Up { payload: vec![ACK_TAG; 300].into(), ..Up::default() }.into());
        let ack = codec::encode_ack(&Ack { binding: 1, seq: 300, ..Ack::default() });
        let mut frames = codec::ping().to_vec();
        frames.extend_from_slice(&up);
        assert!(!holds_ack(&frames));
        frames.extend_from_slice(&ack);
        assert!(holds_ack(&frames));
        assert!(!holds_ack(&[]) && !holds_ack(&[0x80]));
    }
}
