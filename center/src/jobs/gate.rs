//! Who releases next. The log of an app is one line: when several jobs want a place in it, urgent ones go first.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hashbrown::HashMap;
use tokio::sync::oneshot;

/// A gate for each app whose jobs release. As many may wait as there are jobs.
#[derive(Clone, Default)]
pub(crate) struct Gates {
    apps: Arc<Mutex<HashMap<u32, Waiting>>>,
}

/// Those who wait while another is in; the app has no entry when nobody is.
#[derive(Default)]
struct Waiting {
    urgent: VecDeque<oneshot::Sender<Pass>>,
    others: VecDeque<oneshot::Sender<Pass>>,
}

/// Leave to append to an app's log; the next one's turn comes when it is dropped.
pub(crate) struct Pass {
    /// None: it was handed to somebody who had stopped waiting, and goes on to the next.
    gates: Option<Gates>,
    app: u32,
}

impl Gates {
    /// Waits for the log of an app.
    pub(crate) async fn pass(&self, app: u32, urgent: bool) -> Pass {
        let turn = {
            let mut apps = self.lock();
            let Some(waiting) = apps.get_mut(&app) else {
                apps.insert(app, Waiting::default());
                return Pass { gates: Some(self.clone()), app };
            };
            let (wake, turn) = oneshot::channel();
            if urgent { &mut waiting.urgent } else { &mut waiting.others }.push_back(wake);
            turn
        };
        match turn.await {
            Ok(pass) => pass,
            // The pass before is handed on or the entry removed, never a sender dropped alone.
            Err(_) => Pass { gates: Some(self.clone()), app },
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Waiting>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is next, or nobody any more.
    fn next(&self, app: u32) -> Option<oneshot::Sender<Pass>> {
        let mut apps = self.lock();
        let waiting = apps.get_mut(&app)?;
        let next = waiting.urgent.pop_front().or_else(|| waiting.others.pop_front());
        if next.is_none() {
            apps.remove(&app);
        }
        next
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        // Who has stopped waiting gives its pass back by dropping it, which would call this anew, one level deeper for each.
        let Some(gates) = self.gates.take() else { return };
        while let Some(next) = gates.next(self.app) {
            match next.send(Pass { gates: Some(gates.clone()), app: self.app }) {
                Ok(()) => return,
                Err(mut pass) => pass.gates = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn urgent_ones_go_first() {
        let gates = Gates::default();
        let first = gates.pass(1, false).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for (name, urgent) in [("a", false), ("b", false), ("gone", true), ("c", true), ("d", true)] {
            let (gates, order) = (gates.clone(), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let _pass = gates.pass(1, urgent).await;
                order.lock().unwrap().push(name);
            }));
            tokio::task::yield_now().await;
        }
        tasks.remove(2).abort();
        tokio::task::yield_now().await;
        let _other = gates.pass(2, false).await;
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), ["c", "d", "a", "b"]);
        assert!(!gates.lock().contains_key(&1), "nobody waits, nothing is kept");
    }
}
