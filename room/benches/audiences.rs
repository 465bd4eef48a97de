//! Choosing among bindings, without sockets: an expression of five terms over a million, and a slice of a hundredth of them.
//! `cargo bench -p room --bench audiences`.

#[path = "../tests/crowd/mod.rs"]
mod crowd;

use std::{hint::black_box, sync::Arc, time::Duration};

use audience::{Audience, Slice};
use criterion::{Criterion, criterion_group, criterion_main};
use room::exchange::Meant;

use self::crowd::{APP, Crowd};

fn audiences(c: &mut Criterion) {
    let mut crowd = Crowd::new(1_000_000);
    let mut group = c.benchmark_group("of 1000000");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    let Ok(five) = "even and (all or not third) or third and not even".parse::<Audience>() else { return };
    let five: Meant = five.into();
    group.bench_function("count of five terms", |b| b.iter(|| black_box(crowd.sessions.count(APP, &five))));
    let everyone = Arc::new(Meant::default());
    let mut number = 0u64;
    group.bench_function("a slice of a hundredth", |b| {
        b.iter(|| {
            let from = number % 100 * 42_000_000;
            let Some(slice) = Slice::new(from, from + 42_000_000) else { return };
            number += 1;
            crowd.slice(number / 100 + 1, slice, &everyone);
            crowd.work();
        });
    });
    group.finish();
}

criterion_group!(benches, audiences);
criterion_main!(benches);
