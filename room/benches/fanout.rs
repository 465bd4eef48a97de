//! What the sessions cost without sockets: a broadcast to 18,000 and to 1,000,000 bindings, with and without tags, and the
//! frames and messages of one device. `cargo bench -p room --bench fanout`.

#[path = "../tests/crowd/mod.rs"]
mod crowd;

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use room::exchange::DeliveryItem;
use wire::{
    frame::{Ack, Ping},
    id::MessageId,
};

use self::crowd::{APP, Crowd, NOW, uid};

fn broadcasts(c: &mut Criterion) {
    for count in [18_000, 1_000_000] {
        let mut group = c.benchmark_group(format!("broadcast to {count}"));
        group.sample_size(10).warm_up_time(Duration::from_millis(300));
        group.measurement_time(Duration::from_secs(2));
        group.throughput(Throughput::Elements(count.into()));
        let mut crowd = Crowd::new(count);
        for (name, audience) in
            [("everyone", ""), ("half and half", "even and (all or not third) or not even")]
        {
            group.bench_function(name, |b| {
                b.iter(|| {
                    crowd.broadcast(audience);
                    crowd.work();
                });
            });
        }
        group.finish();
    }
}

fn devices(c: &mut Criterion) {
    let mut group = c.benchmark_group("one of 18000");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let mut crowd = Crowd::new(18_000);
    let mut next = 0u32;
    let mut seq = 0;
    group.bench_function("message, then its ack", |b| {
        b.iter(|| {
            next = (next + 7_919) % 18_000;
            seq += u64::from(next < 7_919);
            let item = DeliveryItem {
                app: APP,
                uid: uid(next),
                fence: None,
                epoch: 1,
                seq: crowd.sent(next) + 1,
                id: MessageId(9),
                payload: Some(Bytes::from_static(&[7; 256])),
                accepted_ms: NOW.unix_ms,
                collapse_key: "".into(),
                urgent: false,
            };
            black_box(crowd.sessions.deliver(&item, &mut crowd.out));
            crowd.note_sent(next);
            let ack = Ack { binding: 1, seq: item.seq, epoch: 1, ..Ack::default() };
            crowd.frame(next, ack);
            crowd.sessions.take_acks(512).len()
        });
    });
    group.bench_function("heartbeat", |b| {
        b.iter(|| {
            next = (next + 7_919) % 18_000;
            crowd.frame(next, Ping {});
        });
    });
    group.finish();
    let mut group = c.benchmark_group("connect and bind");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(18_000));
    group
        .bench_function("18000", |b| b.iter_batched(|| (), |()| Crowd::new(18_000), BatchSize::PerIteration));
    group.finish();
}

criterion_group!(benches, broadcasts, devices);
criterion_main!(benches);
