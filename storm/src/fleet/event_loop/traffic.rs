//! What comes in on a connection, and what the session makes of it.

use std::io::{ErrorKind, Read as _};

use client::{
    Event, Output,
    session::{Cause, Ending},
};
use mio::net::TcpStream;
use wire::close::{Wait, Whither};

use super::{
    EventLoop, clear,
    device::{Device, Dial, Line},
    socket::holds_ack,
    wrap::Step,
};
use crate::fleet::Tokens;

impl EventLoop {
    /// A moment has come that this device waited for.
    pub(super) fn on_deadline(&mut self, index: u32) {
        match self.devices[index as usize].line {
            Line::Open(_) => self.with_session(index, |device, now, _| {
                if device.is_deaf() {
                    // The room's silence is this device's own doing.
                    device.session.excuse(now);
                }
            }),
            Line::Connecting(_) | Line::Opening(_) => {
                self.measured.reason("connect: timed out");
                self.connect_failed(index, None);
            }
            Line::Down => {
                if let Some(dial) = &mut self.devices[index as usize].dial {
                    dial.retry_at = client::Moment::NEVER;
                }
                self.ready.push_back(index);
            }
            Line::Asking => {}
        }
    }

    /// Reads all that is there, then lets the session act on it once.
    pub(super) fn read(&mut self, index: u32, closing: bool) {
        self.tick();
        let mut buffer = std::mem::take(&mut self.buffer);
        let end = match self.devices[index as usize].wrap {
            None => self.read_into(index, &mut buffer, closing),
            Some(_) => self.read_wrapped(index, &mut buffer, closing),
        };
        self.buffer = buffer;
        if let (Line::Opening(_), Some(cause)) = (&self.devices[index as usize].line, &end) {
            self.measured.reason(&format!("connect: {cause}"));
            self.connect_failed(index, None);
            return;
        }
        self.with_session(index, |device, _, output| {
            if let Some(cause) = end {
                device.session.lost(cause, output);
            }
        });
    }

    /// The same through a transport that changes bytes.
    fn read_wrapped(&mut self, index: u32, buffer: &mut [u8], closing: bool) -> Option<Cause> {
        loop {
            let device = &mut self.devices[index as usize];
            let (Line::Opening(stream) | Line::Open(stream)) = &mut device.line else { return None };
            let got = match take(stream, buffer) {
                Ok(got) => got,
                Err(end) => return end,
            };
            self.measured.counts.bytes_in += got as u64;
            let wrap = device.wrap.as_mut()?;
            let mut space = std::mem::take(&mut self.space);
            let step = wrap.receive(&mut buffer[..got], &mut device.decoder, &mut self.dice, &mut space);
            if let Ok(Step::Opened { resumed }) = step {
                self.measured.opened(wrap, resumed);
                if let Line::Opening(stream) = std::mem::replace(&mut device.line, Line::Down) {
                    device.line = Line::Open(stream);
                }
                device.session.opened(self.now, &mut self.output);
            }
            for frame in space.frames.drain(..) {
                device.session.on_frame(frame, self.now, &mut self.output);
            }
            self.put_out(index, space);
            if let Err(error) = step {
                return Some(error.into());
            }
            if self.output.ended.is_some() || (got < buffer.len() && !closing) {
                return None;
            }
        }
    }

    fn read_into(&mut self, index: u32, buffer: &mut [u8], closing: bool) -> Option<Cause> {
        loop {
            let device = &mut self.devices[index as usize];
            let Line::Open(stream) = &mut device.line else { return None };
            let got = match take(stream, buffer) {
                Ok(got) => got,
                Err(end) => return end,
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
            if device.unacked.is_some() && holds_ack(&output.bytes) {
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
                Event::Bound { app, .. } => {
                    self.measured.bound(device, app, now_ns);
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
                Event::Connected { resumed, .. } => self.measured.counts.resumed += u64::from(resumed),
                Event::Unreachable { .. }
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
        device.dial = Some(Box::new(Dial { next: told, ..Dial::default() }));
        let backoff = self.config.backoff;
        let wait = match ending.wait {
            Wait::Brief => backoff.delay(0, &mut self.dice),
            Wait::Backoff => backoff.delay(device.failures.into(), &mut self.dice),
            Wait::AsTold => backoff.delay(device.failures.into(), &mut self.dice).max(ending.retry_after),
        };
        device.failures = device.failures.saturating_add(1);
        self.retry(index, wait);
    }
}

/// Reads once: so many bytes, or why there are none.
fn take(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<usize, Option<Cause>> {
    loop {
        return match stream.read(buffer) {
            Ok(0) => Err(Some(Cause::Lost("closed by the room".into()))),
            Ok(got) => Ok(got),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => Err(Some(Cause::Lost(error.kind().to_string()))),
        };
    }
}
