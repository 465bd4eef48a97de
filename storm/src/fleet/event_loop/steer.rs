//! What the scenario asks of a worker: churn, reports, the end.

use std::{
    sync::mpsc as blocking,
    time::{Duration, Instant},
};

use client::session::Cause;
use mio::{Interest, Token, event::Event as Readiness};

use super::{EventLoop, clear, device::Line, dial};
use crate::{
    fleet::{
        Command, Report,
        line::{Cut, LineSpec},
    },
    pacing::Pacer,
};

/// Users per part of the receipts: a few hundred kilobytes of JSON.
const RECEIPTS_PART: usize = 2000;

/// Sockets of devices that have gone silent, at most: they are in the margin that is left below the limit of open files.
/// Beyond it a silent cut is a reset.
const SILENT_MAX: usize = 400;

/// A device that was cut comes back within this time.
const CHURN_RETURN_MS: u64 = 1000;

impl EventLoop {
    /// Cuts as many connections as the churn asks for; a bound one each, if one is found.
    pub(super) fn churn_due(&mut self, now: Instant) {
        // A handful of looks finds a bound device unless most are down, and then there is churn enough.
        const LOOKS: u32 = 8;
        let due = self.churn.as_ref().map_or(0, |churn| churn.due(now));
        for _ in 0..due {
            self.churn.iter_mut().for_each(|churn| {
                churn.take();
            });
            for _ in 0..LOOKS {
                let index = self.dice.below(self.spec.count.into()) as u32;
                if self.devices[index as usize].bound {
                    self.cut(index);
                    break;
                }
            }
        }
    }

    pub(super) fn take_commands(&mut self) {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Churn { per_s }) => {
                    self.churn = (per_s > 0.0).then(|| Pacer::new(Instant::now(), per_s));
                }
                Ok(Command::Ramp { to, per_s }) => {
                    self.begin = to.min(self.spec.count);
                    self.ramp = Pacer::new(Instant::now(), per_s);
                }
                Ok(Command::Slow { share }) => self.slow_down(share),
                Ok(Command::Snapshot) => self.tell(Report::Snapshot(Box::new(self.measured.snapshot()))),
                Ok(Command::Receipts) => {
                    let mut parts = self.measured.receipts().chunks(RECEIPTS_PART).peekable();
                    while let Some(part) = parts.next() {
                        let last = parts.peek().is_none();
                        self.tell(Report::Receipts { part: part.to_vec(), last });
                    }
                    if self.measured.receipts().is_empty() {
                        self.tell(Report::Receipts { part: Vec::new(), last: true });
                    }
                }
                Ok(Command::Stop) | Err(blocking::TryRecvError::Disconnected) => self.stopping = true,
                Err(blocking::TryRecvError::Empty) => return,
            }
            if self.stopping {
                return;
            }
        }
    }

    /// Hands over what was measured, whenever its time has come. The loop looks around often enough for this.
    pub(super) fn hand_over(&mut self, now: Instant) {
        let (Some(at), Some(every)) = (self.interval_at, self.spec.sample_ms) else { return };
        if now >= at {
            self.interval_at = Some(now + Duration::from_millis(every.into()));
            self.shared.add_interval(self.measured.take_interval());
        }
    }

    /// Waits for the scenario if it is slow to read: it has asked for this.
    fn tell(&self, report: Report) {
        // Nobody listens any more: then the end comes by the command channel.
        let _ = self.reports.blocking_send(report);
    }

    fn cut(&mut self, index: u32) {
        self.measured.counts.churned += 1;
        let cuts = if self.spec.line.cuts.is_empty() { &Cut::USUAL[..] } else { &self.spec.line.cuts };
        let how = cuts[self.dice.below(cuts.len() as u64) as usize];
        let mut output = std::mem::take(&mut self.output);
        match how {
            Cut::Leave => {
                self.devices[index as usize].session.close(self.now, &mut output);
                self.write(index, &output.bytes);
            }
            Cut::Silent if self.silence(index) => {}
            Cut::Fin => {}
            Cut::Rst | Cut::Silent => {
                if let Some(stream) = self.devices[index as usize].stream() {
                    // Failing only makes it gentle.
                    let _ = socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
                }
            }
        }
        let device = &mut self.devices[index as usize];
        device.session.lost(Cause::Lost("cut on purpose".into()), &mut output);
        clear(&mut output);
        self.output = output;
        self.measured.unbound(&mut self.devices[index as usize]);
        let back = Duration::from_millis(self.dice.below(CHURN_RETURN_MS));
        self.retry(index, back);
    }

    /// Takes a device's socket away and leaves it alone, until the room ends it. False if there are too many of these.
    fn silence(&mut self, index: u32) -> bool {
        if self.silent.len() >= SILENT_MAX {
            return false;
        }
        let device = &mut self.devices[index as usize];
        let line = std::mem::replace(&mut device.line, Line::Down);
        let Line::Open(mut stream) = line else {
            device.line = line;
            return false;
        };
        let entry = self.silent.vacant_entry();
        let token = Token(self.devices.len() + entry.key());
        if self.poll.registry().reregister(&mut stream, token, Interest::READABLE).is_ok() {
            entry.insert(stream);
        }
        true
    }

    /// Something has come for a device that has gone silent. It is let go when the room has ended the connection.
    pub(super) fn on_silent(&mut self, token: u32, ready: &Readiness) {
        let key = (token as usize).wrapping_sub(self.devices.len());
        if (ready.is_read_closed() || ready.is_error()) && self.silent.contains(key) {
            self.silent.remove(key);
        }
    }

    /// Lets this share of the devices leave unread what comes, and all others read.
    fn slow_down(&mut self, share: f64) {
        for index in 0..self.devices.len() as u32 {
            let device = &mut self.devices[index as usize];
            let was = device.slow;
            self.measured.slow(device, LineSpec::is_slow(self.spec.first + index, share));
            if was && !device.slow {
                // All of it: what was left unread comes with no edge of its own.
                self.read(index, true);
            }
        }
    }

    /// Says good-bye on every connection, so that what was received is acked.
    pub(super) fn close_all(&mut self) {
        self.tick();
        let mut output = std::mem::take(&mut self.output);
        for index in 0..self.devices.len() {
            self.devices[index].session.close(self.now, &mut output);
            self.write(index as u32, &output.bytes);
            clear(&mut output);
            let device = &mut self.devices[index];
            self.measured.unbound(device);
            dial::close_line(device);
        }
    }
}
