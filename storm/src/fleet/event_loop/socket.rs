//! Readiness of a device's socket, and writing to it.

use std::io::{self, ErrorKind, Write as _};

use mio::event::Event as Readiness;

use super::{EventLoop, device::Line, wrap::Space};

/// `ClientFrame.ack` as a frame's first byte: field 4, length-delimited.
const ACK_TAG: u8 = 4 << 3 | 2;

impl EventLoop {
    pub(super) fn on_event(&mut self, index: u32, ready: &Readiness) {
        let Some(device) = self.devices.get_mut(index as usize) else { return self.on_silent(index, ready) };
        match &device.line {
            Line::Connecting(_) => self.on_connecting(index, ready),
            Line::Opening(_) | Line::Open(_) => {
                let (deaf, ended) = (device.is_deaf(), ready.is_read_closed() || ready.is_error());
                if ready.is_writable() && device.unsent.is_some() {
                    self.write_raw(index, &[]);
                }
                // What came before its end is read even by one that does not read.
                if ended || (ready.is_readable() && !deaf) {
                    self.read(index, ended);
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
        // The room may have spoken in the same moment; an edge comes only once.
        if self.established(index) && ready.is_readable() {
            self.read(index, ready.is_read_closed());
        }
    }

    /// A connection stands: says what comes first. `false`: it has failed.
    pub(super) fn established(&mut self, index: u32) -> bool {
        self.measured.counts.connected += 1;
        let device = &mut self.devices[index as usize];
        let Line::Connecting(stream) = std::mem::replace(&mut device.line, Line::Down) else { return false };
        match &mut device.wrap {
            None => {
                device.line = Line::Open(stream);
                self.with_session(index, |device, now, output| device.session.opened(now, output));
            }
            Some(wrap) => {
                device.line = Line::Opening(stream);
                let mut space = std::mem::take(&mut self.space);
                let begun = wrap.begin(&mut self.dice, &mut space);
                self.put_out(index, space);
                if let Err(error) = begun {
                    self.measured.reason(&format!("connect: {error}"));
                    self.connect_failed(index, None);
                    return false;
                }
            }
        }
        true
    }

    /// Writes frames of the session, in the way of the device's transport.
    pub(super) fn write(&mut self, index: u32, frames: &[u8]) {
        let device = &mut self.devices[index as usize];
        let Some(wrap) = &mut device.wrap else { return self.write_raw(index, frames) };
        if !wrap.is_open() {
            return;
        }
        let mut space = std::mem::take(&mut self.space);
        if let Err(error) = wrap.send(frames, &mut self.dice, &mut space) {
            // The connection is of no use then; what the room makes of the silence shows.
            self.measured.reason(&format!("send: {error}"));
        }
        self.put_out(index, space);
    }

    /// Sends what a transport has put into the shared space, and gives the space back.
    pub(super) fn put_out(&mut self, index: u32, mut space: Space) {
        if !space.out.is_empty() {
            self.write_raw(index, &space.out);
            space.out.clear();
        }
        self.space = space;
    }

    /// Writes what the socket takes and keeps the rest.
    fn write_raw(&mut self, index: u32, bytes: &[u8]) {
        let device = &mut self.devices[index as usize];
        let (Line::Opening(stream) | Line::Open(stream)) = &mut device.line else { return };
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
pub(super) fn holds_ack(mut frames: &[u8]) -> bool {
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

/// A length prefix and how many bytes it takes.
pub(super) fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
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
