//! Paused time throughout: an instant that has not moved proves that nothing waited.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

use super::*;

const LIMITS: BatchLimits = BatchLimits { queue_items: 8, batch_items: 4, in_flight: 1 };

/// Batches that were sent, each held back until the test lets it go.
#[derive(Clone)]
struct Gate {
    batches: Arc<Mutex<Vec<Vec<u32>>>>,
    open: Arc<Semaphore>,
}

impl Gate {
    fn new() -> Self {
        Self { batches: Arc::default(), open: Arc::new(Semaphore::new(0)) }
    }

    fn seen(&self) -> Vec<Vec<u32>> {
        self.batches.lock().unwrap().clone()
    }

    fn send(&self) -> impl Fn(Vec<u32>) -> BoxSend + Send + Sync + use<> {
        let gate = self.clone();
        move |items| {
            let gate = gate.clone();
            gate.batches.lock().unwrap().push(items.clone());
            Box::pin(async move {
                gate.open.acquire().await.unwrap().forget();
                Ok(items.into_iter().map(u64::from).collect())
            })
        }
    }
}

type BoxSend = std::pin::Pin<Box<dyn Future<Output = Result<Vec<u64>, &'static str>> + Send>>;

/// Lets every task that can run do so, without moving the clock.
async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn sends_at_once_below_the_bound() {
    let gate = Gate::new();
    let limits = BatchLimits { in_flight: 3, ..LIMITS };
    let (batcher, _task) = Batcher::spawn("t", limits, CancellationToken::new(), gate.send());
    for item in 0..3 {
        let _reply = batcher.offer(item).unwrap();
        settle().await;
    }
    assert_eq!(gate.seen(), [[0], [1], [2]]);
}

#[tokio::test(start_paused = true)]
async fn gathers_while_all_are_in_flight() {
    let gate = Gate::new();
    let (batcher, _task) = Batcher::spawn("t", LIMITS, CancellationToken::new(), gate.send());
    let first = batcher.offer(0).unwrap();
    settle().await;
    let replies: Vec<_> = (1..=6).map(|n| batcher.offer(n).unwrap()).collect();
    settle().await;
    assert_eq!(gate.seen(), [[0]], "one is out, so the others wait");
    gate.open.add_permits(3);
    assert_eq!(first.await, Ok(0));
    let answers: Vec<_> = join_all(replies).await;
    assert_eq!(answers, (1..=6).map(Ok).collect::<Vec<_>>(), "each caller has its own answer");
    assert_eq!(gate.seen(), [vec![0], vec![1, 2, 3, 4], vec![5, 6]], "in order, at most batch_items");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_gives_the_item_back() {
    let gate = Gate::new();
    let metrics = FlowMetrics::default();
    let (batcher, _task) =
        Batcher::builder("t", LIMITS).metrics(&metrics).spawn(CancellationToken::new(), gate.send());
    let mut replies = vec![batcher.offer(0).unwrap()];
    settle().await;
    replies.extend((1..=8).map(|n| batcher.offer(n).unwrap()));
    assert_eq!(batcher.offer(9).unwrap_err(), Full(9));
    assert_eq!(batcher.call(10).await, Err(CallError::Full));
    let counted = metrics.queue("t");
    assert_eq!((counted.depth.get(), counted.refused.get()), (8, 2));

    // One who waits for a place gets it as soon as there is one.
    let patient = tokio::spawn({
        let batcher = batcher.clone();
        async move { batcher.submit(11).await }
    });
    settle().await;
    gate.open.add_permits(100);
    assert_eq!(patient.await.unwrap(), Ok(11));
    join_all(replies).await;
    assert_eq!(counted.depth.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_error_reaches_every_waiter_of_its_batch_only() {
    let (batcher, _task) =
        Batcher::spawn("t", LIMITS, CancellationToken::new(), |items: Vec<u32>| async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if items.contains(&2) { Err("broken") } else { Ok(items) }
        });
    let replies: Vec<_> = (0..=5).map(|n| batcher.offer(n).unwrap()).collect();
    let answers = join_all(replies).await;
    // Nothing had run before the first poll of the driver, so the first batch is full.
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.is_err(), n < 4, "item {n}: {answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_answers_every_waiter() {
    let gate = Gate::new();
    let cancel = CancellationToken::new();
    let (batcher, task) = Batcher::spawn("t", LIMITS, cancel.clone(), gate.send());
    let out = batcher.offer(0).unwrap();
    settle().await;
    let waiting: Vec<_> = (1..=8).map(|n| batcher.offer(n).unwrap()).collect();
    let for_a_place = tokio::spawn({
        let batcher = batcher.clone();
        async move { batcher.submit(9).await }
    });
    settle().await;
    cancel.cancel();
    for answer in join_all(waiting).await {
        assert_eq!(answer, Err(CallError::Closed));
    }
    assert_eq!(for_a_place.await.unwrap(), Err(CallError::Closed));
    assert_eq!(batcher.call(10).await, Err(CallError::Closed));
    assert!(batcher.is_closed());
    assert!(!task.is_finished(), "what is in flight is waited for");
    gate.open.add_permits(1);
    assert_eq!(out.await, Ok(0));
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn ends_when_the_last_handle_is_dropped_and_sends_what_it_took() {
    let gate = Gate::new();
    let (batcher, task) = Batcher::spawn("t", LIMITS, CancellationToken::new(), gate.send());
    let replies: Vec<_> = (0..6).map(|n| batcher.offer(n).unwrap()).collect();
    drop(batcher);
    gate.open.add_permits(2);
    assert!(join_all(replies).await.into_iter().all(|r| r.is_ok()));
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn weight_bounds_a_batch() {
    let gate = Gate::new();
    let limits = BatchLimits { batch_items: 100, ..LIMITS };
    let (batcher, _task) = Batcher::builder("t", limits)
        .weight(10, |n: &u32| *n as usize)
        .spawn(CancellationToken::new(), gate.send());
    gate.open.add_permits(100);
    let replies: Vec<_> = [4, 6, 1, 50, 9, 1].map(|n| batcher.offer(n).unwrap()).into_iter().collect();
    join_all(replies).await;
    assert_eq!(gate.seen(), [vec![4, 6], vec![1], vec![50], vec![9, 1]]);
}

#[tokio::test(start_paused = true)]
async fn one_in_flight_keeps_the_order() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let (batcher, _task) = Batcher::spawn("t", LIMITS, CancellationToken::new(), move |items: Vec<u32>| {
        let log = Arc::clone(&log);
        async move {
            // Earlier batches take longer: were two out at once, they would overtake one another.
            tokio::time::sleep(Duration::from_millis(u64::from(1000 - items[0]))).await;
            log.lock().unwrap().extend(items.iter().copied());
            Ok::<_, &str>(items)
        }
    });
    for n in 0..500 {
        let batcher = batcher.clone();
        let (queued, when) = oneshot::channel();
        tokio::spawn(async move {
            let reply = loop {
                match batcher.offer(n) {
                    Ok(reply) => break reply,
                    Err(Full(_)) => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            };
            let _ = queued.send(());
            reply.await
        });
        when.await.unwrap();
    }
    while seen.lock().unwrap().len() < 500 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(seen.lock().unwrap().is_sorted());
}

#[tokio::test(start_paused = true)]
async fn missing_answers_and_panics_are_lost_not_stuck() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let (batcher, _task) = Batcher::spawn("t", LIMITS, CancellationToken::new(), move |items: Vec<u32>| {
        let call = count.fetch_add(1, Ordering::Relaxed);
        async move {
            match call {
                0 => panic!("a bug in the sender"),
                1 => Ok(items[..1].to_vec()),
                _ => Ok::<_, &str>(items),
            }
        }
    });
    assert_eq!(batcher.call(1).await, Err(CallError::Lost));
    let (a, b) = (batcher.offer(2).unwrap(), batcher.offer(3).unwrap());
    assert_eq!((a.await, b.await), (Ok(2), Err(CallError::Lost)));
    assert_eq!(batcher.call(4).await, Ok(4), "later items are served");
}

#[tokio::test(start_paused = true)]
async fn adds_no_delay() {
    let start = Instant::now();
    let limits = BatchLimits { queue_items: 1000, batch_items: 64, in_flight: 2 };
    let (batcher, _task) = Batcher::spawn(
        "t",
        limits,
        CancellationToken::new(),
        |items: Vec<u32>| async move { Ok::<_, ()>(items) },
    );
    join_all((0..1000).map(|n| batcher.call(n))).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// With a peer that took a second for each batch every call waited for as long as its caller did, was sent when nobody wanted
/// it any more, and so made the next one late too: hardly any was answered in time.
#[tokio::test(start_paused = true)]
async fn what_has_waited_for_too_long_is_not_sent() {
    let second = Duration::from_secs(1);
    let sent = Arc::new(Mutex::new(Vec::new()));
    let note = sent.clone();
    let limits = BatchLimits { batch_items: 1, ..LIMITS };
    let builder = Batcher::builder("t", limits).stale_after(5 * second / 2);
    let (batcher, _task) = builder.spawn(CancellationToken::new(), move |items: Vec<u32>| {
        note.lock().unwrap().extend(items.clone());
        async move {
            tokio::time::sleep(second).await;
            Ok::<_, &'static str>(items)
        }
    });
    let begun = Instant::now();
    let mut replies: Vec<_> = (0..6).map(|n| batcher.offer(n).unwrap()).collect();
    // Its caller goes.
    drop(replies.remove(1));
    let answers = join_all(replies).await;
    assert_eq!(answers, [Ok(0), Ok(2), Ok(3), Err(CallError::Full), Err(CallError::Full)]);
    assert_eq!(*sent.lock().unwrap(), [0, 2, 3]);
    assert_eq!(begun.elapsed(), 3 * second, "who is not served is told when that is known");
    assert_eq!(batcher.call(9).await, Ok(9), "as soon as there is room again all is as ever");
}

/// Fifty rooms with a few binds a second each sent every one of them in a call of its own, and calls were all that the machine did.
#[tokio::test(start_paused = true)]
async fn what_a_slow_peer_is_asked_meanwhile_goes_together() {
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let noted = sizes.clone();
    let (batcher, _task) =
        Batcher::builder("t", BatchLimits { queue_items: 100, batch_items: 64, in_flight: 4 })
            .paced(Duration::from_millis(200))
            .spawn(CancellationToken::new(), move |items: Vec<u32>| {
                noted.lock().unwrap().push(items.len());
                async move {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Ok::<_, ()>(items)
                }
            });
    let mut calls = Vec::new();
    for n in 0..80 {
        calls.push(batcher.offer(n).unwrap());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await, Ok(n as u32));
    }
    // 5 ms each, so 80 ms apart.
    let sizes = sizes.lock().unwrap().clone();
    assert!(sizes.len() <= 6, "{sizes:?}");
}

/// Nothing waits where the peer answers at once, and a burst that does not fit into one batch is not slowed either.
#[tokio::test(start_paused = true)]
async fn a_quick_peer_and_a_burst_are_not_made_to_wait() {
    let (batcher, _task) =
        Batcher::builder("t", BatchLimits { queue_items: 100, batch_items: 8, in_flight: 4 })
            .paced(Duration::from_millis(200))
            .spawn(CancellationToken::new(), |items: Vec<u32>| async move { Ok::<_, ()>(items) });
    let start = Instant::now();
    for n in 0..10 {
        assert_eq!(batcher.call(n).await, Ok(n));
    }
    let calls: Vec<_> = (0..80).map(|n| batcher.offer(n).unwrap()).collect();
    futures::future::join_all(calls).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// Whoever had a bounded number under way, each answered and followed by the next, waited for the pace and not for the peer: 256
/// binds were 2,400 a second.
#[tokio::test(start_paused = true)]
async fn a_caller_with_much_to_ask_goes_at_the_peers_speed() {
    let (batcher, _task) =
        Batcher::builder("t", BatchLimits { queue_items: 100, batch_items: 64, in_flight: 4 })
            .paced(Duration::from_millis(200))
            .spawn(CancellationToken::new(), |items: Vec<u32>| async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok::<_, ()>(items)
            });
    let start = Instant::now();
    let callers = (0..64).map(|n| {
        let batcher = batcher.clone();
        async move {
            for _ in 0..10 {
                assert_eq!(batcher.call(n).await, Ok(n));
            }
        }
    });
    futures::future::join_all(callers).await;
    assert!(start.elapsed() <= Duration::from_millis(400), "{:?}", start.elapsed());
}
