//! What the scenario asks of a worker: churn, reports, the end.

use std::{
    sync::mpsc as blocking,
    time::{Duration, Instant},
};

use client::session::Cause;

use super::{EventLoop, clear, dial};
use crate::{
    fleet::{Command, Report},
    pacing::Pacer,
};

/// Users per part of the receipts: a few hundred kilobytes of JSON.
const RECEIPTS_PART: usize = 2000;

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

    /// Waits for the scenario if it is slow to read: it has asked for this.
    fn tell(&self, report: Report) {
        // Nobody listens any more: then the end comes by the command channel.
        let _ = self.reports.blocking_send(report);
    }

    fn cut(&mut self, index: u32) {
        self.measured.counts.churned += 1;
        let gentle = self.dice.below(2) == 0;
        let device = &mut self.devices[index as usize];
        if let (false, Some(stream)) = (gentle, device.stream()) {
            // Every other one ends with a reset, as when a network goes away. Failing only makes it gentle.
            let _ = socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
        }
        let mut output = std::mem::take(&mut self.output);
        device.session.lost(Cause::Lost("cut on purpose".into()), &mut output);
        clear(&mut output);
        self.output = output;
        self.measured.unbound(&mut self.devices[index as usize]);
        let back = Duration::from_millis(self.dice.below(CHURN_RETURN_MS));
        self.retry(index, back);
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
