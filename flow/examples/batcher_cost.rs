//! What the batcher costs for each item: `cargo run --release -p flow --example batcher_cost`.
//!
//! Callers loop over `call`; a batch takes one turn of the scheduler. On one thread wall time is CPU time, so the time
//! for each item is all there is to it: the caller's wake-up included.

use std::time::Instant;

use flow::{BatchLimits, Batcher};
use tokio_util::sync::CancellationToken;

const ITEMS: u32 = 2_000_000;

fn main() {
    let single = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let double = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    for callers in [1, 16, 256, 4096] {
        let one = single.block_on(run(callers));
        let two = double.block_on(run(callers));
        println!("{callers:>5} callers: {one:>5} ns an item on one thread, {two:>5} ns on two");
    }
}

async fn run(callers: u32) -> u128 {
    let limits = BatchLimits { queue_items: 8192, batch_items: 512, in_flight: 4 };
    let cancel = CancellationToken::new();
    let (batcher, task) = Batcher::spawn("cost", limits, cancel.clone(), |items: Vec<u32>| async move {
        tokio::task::yield_now().await;
        Ok::<_, ()>(items)
    });
    let start = Instant::now();
    let loops: Vec<_> = (0..callers)
        .map(|_| {
            let batcher = batcher.clone();
            tokio::spawn(async move {
                for n in 0..ITEMS / callers {
                    assert_eq!(batcher.call(n).await, Ok(n));
                }
            })
        })
        .collect();
    for done in loops {
        done.await.expect("no item was lost");
    }
    let each = start.elapsed() / ITEMS;
    cancel.cancel();
    task.await.expect("the driver ends");
    each.as_nanos()
}
