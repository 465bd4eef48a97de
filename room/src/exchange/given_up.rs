//! Binds that their devices have given up while they were under way.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use foldhash::fast::RandomState;

use super::BindingKey;

/// Names them until they are answered, so there are at most as many as binds under way. A thread writes, and whoever makes its binds
/// reads: the device of such a bind is elsewhere, and what is asked for it later than what it asks for there would take its
/// session from it. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct GivenUp(Arc<Binds>);

#[derive(Debug, Default)]
struct Binds {
    /// How many there are; nearly always none, and then nothing is locked.
    count: AtomicUsize,
    keys: Mutex<HashSet<BindingKey, RandomState>>,
}

impl GivenUp {
    /// Notes a bind.
    pub(crate) fn note(&self, bind: BindingKey) {
        let mut keys = self.lock();
        keys.insert(bind);
        self.0.count.store(keys.len(), Ordering::Release);
    }

    /// It has been answered.
    pub(crate) fn forget(&self, bind: BindingKey) {
        if self.len() == 0 {
            return;
        }
        let mut keys = self.lock();
        keys.remove(&bind);
        // A storm leaves no table behind.
        if keys.is_empty() && keys.capacity() > 1_024 {
            *keys = HashSet::default();
        }
        self.0.count.store(keys.len(), Ordering::Release);
    }

    /// Whether a bind is among them.
    pub fn has(&self, bind: BindingKey) -> bool {
        self.len() > 0 && self.lock().contains(&bind)
    }

    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        self.0.count.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<BindingKey, RandomState>> {
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
