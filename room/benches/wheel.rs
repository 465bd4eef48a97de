//! The timer wheel: 1,000,000 connections that are put in, come up and are put back. `cargo bench -p room --bench wheel`.

use std::{hint::black_box, time::Duration};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use room::{
    exchange::ConnKey,
    wheel::{TICK_MS, Wheel},
};

const CONNECTIONS: u32 = 1_000_000;
/// The wait of a heartbeat of five minutes.
const WAIT_MS: u64 = 455_000;

/// Connections that came over a whole round.
fn full() -> Wheel {
    let mut wheel = Wheel::new(0);
    for slot in 0..CONNECTIONS {
        wheel.schedule(ConnKey { slot, generation: 1 }, u64::from(slot) * WAIT_MS / u64::from(CONNECTIONS));
    }
    wheel
}

fn wheel(c: &mut Criterion) {
    let mut group = c.benchmark_group("wheel of a million");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(CONNECTIONS.into()));
    group.bench_function("put in", |b| b.iter(|| black_box(full()).len()));
    group.bench_function("come up and put back, all", |b| {
        b.iter_batched(
            full,
            |mut wheel| {
                for now in (0..=WAIT_MS).step_by(TICK_MS as usize) {
                    while let Some(conn) = wheel.expire(now) {
                        wheel.schedule(conn, now + WAIT_MS);
                    }
                }
                wheel
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
    let mut group = c.benchmark_group("wheel");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let mut wheel = full();
    let mut now = 0;
    group.bench_function("one tick, 550 connections", |b| {
        b.iter(|| {
            now += TICK_MS;
            while let Some(conn) = wheel.expire(now) {
                wheel.schedule(conn, now + WAIT_MS);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, wheel);
criterion_main!(benches);
