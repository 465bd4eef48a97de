//! What a service gets from the process that it runs in.

use std::{future::Future, path::PathBuf, sync::Arc};

use cluster::{Cluster, Me};
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::Metrics;

/// What a service gets from the process that it runs in. Clones share everything.
#[derive(Clone)]
pub struct Host {
    /// The cluster, and this node in it.
    pub cluster: Cluster,
    /// Folder for what this node keeps; it exists and can be written.
    pub data: PathBuf,
    /// The process's metrics.
    pub metrics: Metrics,
    /// Fires after the drain: every task of the service must end then.
    pub cancel: CancellationToken,
    /// Every task of the service; the process waits for them.
    pub tasks: TaskTracker,
}

impl Host {
    /// A host for one node.
    pub fn new(cluster: Cluster, data: PathBuf, metrics: Metrics, cancel: CancellationToken) -> Self {
        Self { cluster, data, metrics, cancel, tasks: TaskTracker::new() }
    }

    /// This node.
    pub fn me(&self) -> &Arc<Me> {
        self.cluster.me()
    }

    /// Starts a task that the process will wait for. It has to end when [`Host::cancel`] fires.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }
}
