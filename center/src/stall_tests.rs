//! A saver that takes a second for each batch: who is let in, what the others are told, and how soon it is over.

use std::{sync::Arc, time::Duration};

use http::HeaderValue;
use peers::Limits;
use proto::v1;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    config::Config,
    error::{Error, Result},
    ops::Ops,
    testing::{DEMO_KEY, TestCenter},
};

const SLOW: Duration = Duration::from_secs(1);

fn pushes(from: usize, count: usize) -> Vec<v1::PushRequest> {
    let one = |n| v1::PushRequest {
        uid: format!("user-{n}"),
        payload: vec![b'x'; 100].into(),
        ..Default::default()
    };
    (from..from + count).map(one).collect()
}

async fn push(ops: Arc<Ops>, pushes: Vec<v1::PushRequest>) -> Vec<Result<v1::PushResponse>> {
    let count = pushes.len();
    let key = HeaderValue::from_str(&format!("Bearer {DEMO_KEY}")).unwrap();
    let done = async {
        let caller = ops.authenticate(Some(&key)).await?;
        ops.push_batch(&caller, pushes).await
    };
    done.await.unwrap_or_else(|error| vec![Err(error); count])
}

/// Sends so many batches of 100 at once; answers how many pushes were accepted, and why the others were not.
async fn flood(center: &TestCenter, batches: usize) -> (usize, Vec<Error>) {
    let mut calls = JoinSet::new();
    for batch in 0..batches {
        calls.spawn(push(Arc::clone(&center.ops), pushes(batch * 100, 100)));
    }
    let (mut accepted, mut refused) = (0, Vec::new());
    for result in calls.join_all().await.into_iter().flatten() {
        match result {
            Ok(_) => accepted += 1,
            Err(error) => refused.push(error),
        }
    }
    (accepted, refused)
}

fn told_to_come_back(refused: &[Error], word: &str) {
    for error in refused {
        let facts = error.facts();
        assert_eq!(
            (facts.code.as_ref(), facts.status.as_u16(), facts.grpc),
            (word, 429, tonic::Code::Unavailable)
        );
        assert!(facts.retry_after.is_some_and(|after| after <= Duration::from_secs(1)), "{error}");
    }
}

/// What is under way to the saver and waits for it is all that is taken in; as soon as it is quick again so are the pushes.
#[tokio::test(start_paused = true)]
async fn a_slow_saver_fills_its_queue_and_is_forgiven_at_once() {
    let limits = Limits { queue_items: 1_000, batch_items: 500, in_flight: 2, ..Config::default().peers };
    let center = TestCenter::start(Config { peers: limits, ..Config::default() }).await;
    assert_eq!(flood(&center, 1).await.0, 100);

    center.fakes.state().append_takes = SLOW;
    let begun = Instant::now();
    let (accepted, refused) = flood(&center, 50).await;
    // The first batches leave as soon as there is one push: they may be small.
    assert!((1_000..=2_100).contains(&accepted), "{accepted}");
    assert_eq!(refused.len(), 5_000 - accepted);
    told_to_come_back(&refused, "overloaded");
    assert!(begun.elapsed() <= 4 * SLOW, "{:?}", begun.elapsed());

    center.fakes.state().append_takes = Duration::ZERO;
    let begun = Instant::now();
    assert_eq!(flood(&center, 10).await.0, 1_000, "nobody is refused any more");
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    assert_eq!(center.ops.bodies().held(), 0);
}

/// Requests that wait for the saver hold what they may hold of this center's memory, and not a byte more.
#[tokio::test(start_paused = true)]
async fn what_waits_for_a_slow_saver_is_bounded_in_bytes() {
    let most = 4 << 20;
    let center = TestCenter::start(Config { body_bytes_in_flight: most, ..Config::default() }).await;
    assert_eq!(flood(&center, 1).await.0, 100);
    center.fakes.state().append_takes = SLOW;
    let calls = flood(&center, 100);
    tokio::pin!(calls);
    assert!(tokio::time::timeout(SLOW / 2, &mut calls).await.is_err(), "some wait");
    assert!((1..=most).contains(&center.ops.bodies().held()), "{}", center.ops.bodies().held());
    let (accepted, refused) = calls.await;
    assert_eq!(accepted, most / (100 * 4_096) * 100, "each push counts four kilobytes");
    assert_eq!(refused.len(), 10_000 - accepted);
    told_to_come_back(&refused, "busy");
    assert_eq!(center.ops.bodies().held(), 0);
}
