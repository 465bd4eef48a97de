//! The tasks behind a pool.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Shared;

/// Runs the workers until `cancel` fires and answers what nobody had begun.
pub(super) async fn own<T, F, Fut>(
    shared: Arc<Shared<T>>,
    workers: usize,
    cancel: CancellationToken,
    handler: F,
) -> Vec<T>
where
    T: Send + 'static,
    F: Fn(T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let handler = Arc::new(handler);
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        tasks.spawn(work(Arc::clone(&shared), Arc::clone(&handler)));
    }
    cancel.cancelled().await;
    let left = {
        let mut queue = shared.lock();
        queue.closed = true;
        std::mem::take(&mut queue.items)
    };
    shared.ready.close();
    shared.metrics.depth.dec_by(i64::try_from(left.len()).unwrap_or(i64::MAX));
    while tasks.join_next().await.is_some() {}
    left.into_iter().map(|(_, item)| item).collect()
}

async fn work<T, F, Fut>(shared: Arc<Shared<T>>, handler: Arc<F>)
where
    F: Fn(T) -> Fut,
    Fut: Future<Output = ()>,
{
    while let Ok(permit) = shared.ready.acquire().await {
        permit.forget();
        // Empty only when the owner has just taken what was left.
        let Some((since, item)) = shared.lock().items.pop_front() else { continue };
        shared.metrics.depth.dec();
        shared.metrics.wait.observe(since.elapsed().as_secs_f64());
        // A panic over one item must not cost the pool a worker.
        if AssertUnwindSafe(async { handler(item).await }).catch_unwind().await.is_err() {
            tracing::error!(pool = shared.name, "handling an item panicked");
        }
    }
}
