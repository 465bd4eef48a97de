//! The process's metrics, for Prometheus.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use cluster::{Picture, Role};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::sync::watch;

use crate::memory::Memory;

/// The registry of a process. Clones share it; each service registers its own under its name.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    memory: Memory,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self { registry: Arc::default(), memory: Memory::default() };
        metrics.clear();
        metrics
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Registers metrics whose names all begin with `longwire_<name>_`.
    pub fn register<R>(&self, name: &str, register: impl FnOnce(&mut Registry) -> R) -> R {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        register(registry.sub_registry_with_prefix("longwire").sub_registry_with_prefix(name))
    }

    /// Forgets all metrics: a process that begins anew as another node registers them again.
    pub(crate) fn clear(&self) {
        let mut registry = Registry::default();
        self.memory.register(&mut registry);
        *self.registry.lock().unwrap_or_else(PoisonError::into_inner) = registry;
    }

    /// So much memory a service's configuration allows, in the cluster of this picture.
    pub(crate) fn set_memory_bound(&self, role: Role, bytes: u64, picture: watch::Receiver<Arc<Picture>>) {
        self.memory.set(role, bytes, picture);
    }

    /// The OpenMetrics text.
    pub fn encode(&self) -> String {
        self.memory.refresh();
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a string cannot fail.
        if encode(&mut text, &registry).is_err() {
            text.clear();
        }
        text
    }
}
