//! One message to all receivers, again and again.

use std::time::{Duration, Instant};

use super::{Client, ORDERS, Receiver, TEN, read_all};
use crate::floor::server::{ACK_MAX, ALL, ALL_TEN, send};

/// What a round is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Round {
    /// One message to each.
    Single,
    /// Ten messages to each, in one send.
    Merged,
    /// One message to each, which answers it.
    Acked,
}

impl Client {
    /// Rounds to all receivers, at most `outstanding` that not all have. Answers deliveries per second.
    pub(super) fn rounds(&mut self, time: Duration, round: Round, outstanding: u64) -> anyhow::Result<f64> {
        let (order, each) = if round == Round::Merged { (ALL_TEN, TEN) } else { (ALL, 1) };
        let receivers = self.receivers.len() as u64;
        let round_bytes = receivers * self.payload as u64 * each;
        let start = Instant::now();
        let (mut ordered, mut bytes, mut answered) = (0, 0, 0);
        loop {
            let ending = start.elapsed() >= time;
            let done = if round == Round::Acked { answered } else { bytes / round_bytes };
            for _ in ordered - done..outstanding {
                if !ending {
                    send(&mut self.feeder, &order.to_be_bytes())?;
                    ordered += 1;
                }
            }
            if ending && done == ordered {
                return Ok((ordered * receivers * each) as f64 / start.elapsed().as_secs_f64());
            }
            self.wait()?;
            for event in &self.events {
                if event.token() == ORDERS {
                    // A byte for each round that everybody has answered.
                    answered += read_all(&mut self.feeder, &mut self.buffer)? as u64;
                } else if event.is_readable() {
                    let receiver = &mut self.receivers[event.token().0];
                    let came = read_all(&mut receiver.stream, &mut self.buffer)? as u64;
                    bytes += came;
                    if round == Round::Acked {
                        ack(receiver, came, self.payload as u64)?;
                    }
                }
            }
        }
    }
}

/// Answers all messages that have come whole, at once.
fn ack(receiver: &mut Receiver, came: u64, payload: u64) -> anyhow::Result<()> {
    receiver.bytes += came;
    let mut messages = receiver.bytes / payload;
    receiver.bytes %= payload;
    while messages > 0 {
        let now = messages.min(ACK_MAX.into());
        // At most ACK_MAX, so it fits.
        send(&mut receiver.stream, &[now as u8])?;
        messages -= now;
    }
    Ok(())
}
