use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const LIMITS: PoolLimits = PoolLimits { workers: 2, queue: 3 };
const SHED: AtBound = AtBound::Shed { retry_after: Duration::from_secs(1) };

/// Lets every task that can run do so, without moving the clock.
async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

/// A pool whose handler waits for a permit of the semaphore for each item, and counts.
fn gated(
    at_bound: AtBound,
    cancel: &CancellationToken,
) -> (Pool<u32>, JoinHandle<Vec<u32>>, Arc<Semaphore>, FlowMetrics) {
    let metrics = FlowMetrics::default();
    let gate = Arc::new(Semaphore::new(0));
    let open = Arc::clone(&gate);
    let (pool, owner) = Pool::spawn("p", LIMITS, at_bound, &metrics, cancel.clone(), move |_| {
        let open = Arc::clone(&open);
        async move { open.acquire().await.unwrap().forget() }
    });
    (pool, owner, gate, metrics)
}

async fn fill(pool: &Pool<u32>) {
    for n in 0..2 {
        pool.offer(n).unwrap();
    }
    settle().await;
    for n in 2..5 {
        pool.offer(n).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn offer_is_bounded_whatever_the_policy() {
    let (pool, _owner, gate, metrics) = gated(SHED, &CancellationToken::new());
    fill(&pool).await;
    assert_eq!(pool.offer(5), Err(Full(5)));
    assert_eq!(metrics.queue("p").refused.get(), 1);
    assert_eq!((pool.depth(), metrics.queue("p").depth.get()), (3, 3));
    gate.add_permits(10);
    settle().await;
    assert_eq!(pool.offer(5), Ok(()));
    settle().await;
    assert_eq!(metrics.queue("p").depth.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn shed_says_when_to_come_back() {
    let (pool, _owner, _gate, metrics) = gated(SHED, &CancellationToken::new());
    fill(&pool).await;
    let bounced = pool.submit(5).await.unwrap_err();
    assert_eq!(bounced, Bounced::Shed { item: 5, retry_after: Duration::from_secs(1) });
    assert_eq!(metrics.queue("p").shed.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn spill_hands_the_item_back() {
    let (pool, _owner, _gate, metrics) = gated(AtBound::Spill, &CancellationToken::new());
    fill(&pool).await;
    assert_eq!(pool.submit(5).await, Err(Bounced::Spill(5)));
    assert_eq!(metrics.queue("p").spilled.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn retry_waits_for_a_place_and_sheds_in_the_end() {
    let backoff = Backoff::full_jitter(Duration::from_millis(10), Duration::from_millis(100));
    let policy = AtBound::Retry { backoff, patience: Duration::from_secs(2) };
    let (pool, _owner, gate, metrics) = gated(policy, &CancellationToken::new());
    fill(&pool).await;
    let start = Instant::now();
    let bounced = pool.submit(5).await.unwrap_err();
    assert_eq!(bounced, Bounced::Shed { item: 5, retry_after: backoff.cap });
    assert!(start.elapsed() <= Duration::from_secs(2) && start.elapsed() > Duration::from_secs(1));
    assert!(metrics.queue("p").retried.get() > 10);

    let patient = tokio::spawn({
        let pool = pool.clone();
        async move { pool.submit(6).await }
    });
    settle().await;
    gate.add_permits(1);
    assert_eq!(patient.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn the_end_gives_back_what_was_not_begun() {
    let cancel = CancellationToken::new();
    let (pool, owner, gate, _metrics) = gated(SHED, &cancel);
    fill(&pool).await;
    cancel.cancel();
    settle().await;
    assert!(!owner.is_finished(), "two are being handled");
    assert_eq!(pool.submit(9).await, Err(Bounced::Closed(9)));
    gate.add_permits(2);
    assert_eq!(owner.await.unwrap(), [2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn workers_bound_what_runs_at_a_time_and_survive_a_panic() {
    let (running, most, done) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (r, m, d) = (Arc::clone(&running), Arc::clone(&most), Arc::clone(&done));
    let limits = PoolLimits { workers: 2, queue: 100 };
    let metrics = FlowMetrics::default();
    let (pool, _owner) = Pool::spawn("p", limits, SHED, &metrics, CancellationToken::new(), move |n: u32| {
        let (running, most, done) = (Arc::clone(&r), Arc::clone(&m), Arc::clone(&d));
        async move {
            assert!(n >= 3, "a bug in the handler");
            most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(10)).await;
            running.fetch_sub(1, Ordering::Relaxed);
            done.fetch_add(1, Ordering::Relaxed);
        }
    });
    for n in 0..23 {
        pool.offer(n).unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((done.load(Ordering::Relaxed), most.load(Ordering::Relaxed)), (20, 2));
}
