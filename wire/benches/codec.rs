//! The codec, by frame. `cargo bench -p wire --bench codec`.

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use wire::{
    ServerDecoder,
    codec::{
        PREAMBLE, encode_ack, encode_broadcast, encode_client_frame, encode_server_frame, ping, push_into,
        push_len,
    },
    frame::{Ack, Bind, Broadcast, ClientFrame, Push, ServerFrame},
};

fn push() -> Push {
    let payload = Bytes::from_static(&[7; 256]);
    Push {
        binding: 1,
        seq: 123_456,
        skip: 0,
        id: 1 << 60,
        payload,
        accepted_ms: 1_800_000_000_000,
        ..Default::default()
    }
}

fn ack() -> Ack {
    Ack { binding: 1, seq: 123_456, bseq: 4_711, epoch: 3, held_ms: 0 }
}

fn bind() -> Bind {
    Bind {
        binding: 1,
        app: "demo".to_owned(),
        uid: "user-0001234".to_owned(),
        token: "x".repeat(200),
        tags: vec!["beta".to_owned()],
        inbox: None,
        broadcasts: None,
        ..Default::default()
    }
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    group
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500));
    let (push, mut buffer) = (push(), Vec::with_capacity(1024));
    group.bench_function("push of 256 bytes", |b| {
        b.iter(|| {
            buffer.clear();
            push_into(black_box(&push), &mut buffer);
            (push_len(&push), buffer.len())
        });
    });
    let frame = ServerFrame::from(push);
    group
        .bench_function("push of 256 bytes, by prost", |b| b.iter(|| encode_server_frame(black_box(&frame))));
    let payload = Bytes::from_static(&[7; 256]);
    let broadcast =
        Broadcast { app: 7, bseq: 4_711, id: 1 << 60, payload, accepted_ms: 1_800_000_000_000, binding: 0 };
    group.bench_function("broadcast of 256 bytes", |b| b.iter(|| encode_broadcast(black_box(&broadcast))));
    group.bench_function("ack", |b| b.iter(|| encode_ack(black_box(&ack()))));
    group.finish();
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    group
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500));
    let frames = [
        ("ack", encode_ack(&ack())),
        ("ping", ping()),
        ("bind", encode_client_frame(&ClientFrame::from(bind()))),
    ];
    for (name, bytes) in &frames {
        let mut decoder = ServerDecoder::for_server(1 << 16);
        assert!(decoder.decode(&mut &PREAMBLE[..]).is_ok());
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(*name, |b| {
            b.iter(|| {
                let mut input = black_box(&bytes[..]);
                decoder.decode(&mut input).ok().flatten()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, encode, decode);
criterion_main!(benches);
