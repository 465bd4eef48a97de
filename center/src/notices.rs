//! Tells the rooms of broadcasts, after they are in the log.

use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use proto::internal::BroadcastNotice;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{jobs::Parts, metrics::Metrics};

/// Broadcasts being told at once. Rooms get them in their order all the same, because each room has its own queue, which is
/// entered in the order in which telling begins: a room that does not answer keeps only what is for itself waiting.
pub(crate) const TELLING: usize = 32;

/// Broadcasts that wait. With those that are being told, and with the largest payloads, 18 MiB.
pub(crate) const QUEUE: usize = 256;

/// The stage. What it sheds the rooms find by themselves, when they next compare the log's head.
#[derive(Clone)]
pub(crate) struct Notices {
    queue: mpsc::Sender<Telling>,
    metrics: Metrics,
}

enum Telling {
    /// By this center: what is appended by calls of its own is told in the order of the log.
    Here(BroadcastNotice),
    /// By the centers that are responsible for the parts of the job.
    Parts(BroadcastNotice),
}

impl Notices {
    pub(crate) fn spawn(
        parts: Parts,
        metrics: &Metrics,
        cancel: CancellationToken,
    ) -> (Notices, JoinHandle<()>) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let stage = tokio::spawn(async move {
            cancel.run_until_cancelled(tell(&parts, waiting)).await;
        });
        (Notices { queue, metrics: metrics.clone() }, stage)
    }

    /// Has all rooms told of a broadcast that is one entry of its log.
    pub(crate) fn offer(&self, notice: BroadcastNotice) {
        self.put(Telling::Here(notice));
    }

    /// Has all rooms told of one slice of a job.
    pub(crate) fn offer_slice(&self, notice: BroadcastNotice) {
        self.put(Telling::Parts(notice));
    }

    /// Whether nothing waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.capacity() == self.queue.max_capacity()
    }

    fn put(&self, telling: Telling) {
        if self.queue.try_send(telling).is_err() {
            self.metrics.notices_shed.inc();
        }
    }
}

async fn tell(parts: &Parts, mut waiting: mpsc::Receiver<Telling>) {
    let mut telling = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(()) = telling.next(), if !telling.is_empty() => {}
            next = waiting.recv(), if telling.len() < TELLING => {
                let Some(next) = next else { return };
                let mut one = async move {
                    match next {
                        Telling::Here(notice) => parts.tell_here(&notice).await,
                        Telling::Parts(notice) => parts.tell(&notice).await,
                    }
                }
                .boxed();
                // Its first poll puts it into the queues of the rooms, before that of the next.
                if futures::poll!(&mut one).is_pending() {
                    telling.push(one);
                }
            }
        }
    }
}
