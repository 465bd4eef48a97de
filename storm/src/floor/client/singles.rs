//! Single messages to one receiver after the other.

use std::time::{Duration, Instant};

use super::{Client, ORDERS, read_all};
use crate::{
    floor::server::{ORDER, send},
    latency::Latencies,
};

impl Client {
    /// At most `window` on their way. Answers messages per second and their latencies.
    pub(super) fn singles(&mut self, time: Duration, window: u32) -> anyhow::Result<(f64, Latencies)> {
        let all = self.receivers.len() as u32;
        // At most one on its way to each, so that an arrival names its order.
        let window = window.min(all);
        let mut sent_at = vec![None; all as usize];
        let (mut next, mut outstanding, mut arrived) = (0_u32, 0, 0_u64);
        let mut latencies = Latencies::default();
        let start = Instant::now();
        let mut orders = Vec::with_capacity(ORDER * window as usize);
        loop {
            let now = Instant::now();
            while now - start < time && outstanding < window && sent_at[next as usize].is_none() {
                orders.extend_from_slice(&next.to_be_bytes());
                sent_at[next as usize] = Some(now);
                next = (next + 1) % all;
                outstanding += 1;
            }
            send(&mut self.feeder, &orders)?;
            orders.clear();
            if outstanding == 0 {
                return Ok((arrived as f64 / start.elapsed().as_secs_f64(), latencies));
            }
            self.wait()?;
            let now = Instant::now();
            for event in &self.events {
                let index = event.token().0;
                if event.token() == ORDERS || !event.is_readable() {
                    continue;
                }
                let receiver = &mut self.receivers[index];
                receiver.bytes += read_all(&mut receiver.stream, &mut self.buffer)? as u64;
                if receiver.bytes >= self.payload as u64
                    && let Some(at) = sent_at[index].take()
                {
                    receiver.bytes -= self.payload as u64;
                    latencies.record(now - at);
                    arrived += 1;
                    outstanding -= 1;
                }
            }
        }
    }
}
