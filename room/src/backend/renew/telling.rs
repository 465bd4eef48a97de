//! Telling sessions, page by page.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
};

use futures::{StreamExt as _, future::join_all, stream::FuturesUnordered};
use peers::PeerError;
use proto::internal as rpc;
use tokio::{
    sync::oneshot,
    time::{Duration, Instant, sleep_until, timeout},
};

use super::{ANSWER, Plan, settle};
use crate::{
    backend::{Backend, Services, binds, ends},
    event_loop::{Order, Thread},
    exchange::{DeliveryItem, HeldSession, KickOrder, KickWhy},
};
use cluster::NodeId;

/// Sessions of one look at a thread, which takes a fraction of a millisecond.
const PAGE: usize = 1_024;
/// Batches under way at a time: enough to keep a register busy while the next page is made.
const UNDER_WAY: usize = 4;
/// A register that has not taken a batch by then is told again later.
const TAKEN: Duration = Duration::from_secs(2);

/// What a register said when it had been told.
pub(super) struct Done {
    pub(super) round: u64,
    /// It wants to be told again.
    pub(super) again: bool,
}

/// Tells what is to be told; the registers that were.
pub(super) async fn tell<S: Services>(
    backend: &Backend<S>,
    threads: &[Thread],
    plan: &Plan,
) -> HashMap<NodeId, Done> {
    // Binds that are under way now may have been answered by an earlier owner; they look at this when they are done.
    backend.next_round();
    let began = Instant::now();
    let mut rounds = rounds(backend, plan).await;
    let mut told = 0;
    let mut scan = Scan::new(backend.limits.restores_per_second);
    for thread in threads {
        let mut from = Some(0);
        let mut under_way = FuturesUnordered::new();
        while let Some(slot) = from {
            // Devices come first: pages are paced.
            let due = scan.due();
            let paced = async {
                sleep_until(due).await;
                page(thread, slot).await
            };
            let mut paced = pin!(paced);
            let held = loop {
                tokio::select! {
                    held = &mut paced => break held,
                    answer = under_way.next(), if !under_way.is_empty() => judge(answer, &mut rounds, &mut told),
                }
            };
            let Some((held, next)) = held else { break };
            scan.seen(held.len());
            for (node, batch) in share(held, plan) {
                let Some(round) = rounds.get(&node).copied() else { continue };
                if under_way.len() >= UNDER_WAY {
                    judge(under_way.next().await, &mut rounds, &mut told);
                }
                under_way.push(async move {
                    (node, round, batch.len(), restore(backend, thread, node, plan.mine, batch).await)
                });
            }
            from = next;
        }
        while let Some(answer) = under_way.next().await {
            judge(Some(answer), &mut rounds, &mut told);
        }
    }
    let settles = rounds.into_iter().map(|(node, round)| async move {
        let answer = timeout(TAKEN, backend.services.settle(node, settle(backend, plan, round))).await;
        match answer {
            Ok(Ok(again)) => Some((node, Done { round, again })),
            _ => None,
        }
    });
    let done: HashMap<_, _> = join_all(settles).await.into_iter().flatten().collect();
    let (registers, all) = (done.len(), done.len() == plan.nodes.len());
    tracing::info!(sessions = told, registers, all, took = ?began.elapsed(), "told the registers again");
    done
}

type Answer = (NodeId, u64, usize, Result<u64, PeerError>);

/// A register that failed, or has forgotten meanwhile what it was told, is told again later.
fn judge(answer: Option<Answer>, rounds: &mut HashMap<NodeId, u64>, told: &mut usize) {
    match answer {
        Some((_, round, sessions, Ok(now))) if now == round => *told += sessions,
        Some((node, _, _, result)) => {
            if let Err(error) = result {
                tracing::debug!(%node, %error, "a register could not be told sessions");
            }
            rounds.remove(&node);
        }
        None => {}
    }
}

/// The rounds in which those registers are that answer.
async fn rounds<S: Services>(backend: &Backend<S>, plan: &Plan) -> HashMap<NodeId, u64> {
    let ask = |node: &NodeId| {
        let node = *node;
        async move {
            let answer = backend.services.restore(node, request(backend, plan.mine, Vec::new()));
            timeout(ANSWER, answer).await.ok()?.ok().map(|answer| (node, answer.round))
        }
    };
    join_all(plan.nodes.keys().map(ask)).await.into_iter().flatten().collect()
}

async fn page(thread: &Thread, slot: u32) -> Option<(Vec<HeldSession>, Option<u32>)> {
    let (reply, answer) = oneshot::channel();
    // A thread that has ended has no sessions.
    thread.send(Order::Held(slot, PAGE, reply)).await.ok()?;
    answer.await.ok()
}

fn share(held: Vec<HeldSession>, plan: &Plan) -> HashMap<NodeId, Vec<HeldSession>> {
    let mut batches: HashMap<NodeId, Vec<HeldSession>> = HashMap::new();
    for session in held {
        if let Some(node) = plan.wants(&session) {
            batches.entry(node).or_default().push(session);
        }
    }
    batches
}

fn request<S>(backend: &Backend<S>, life: u64, sessions: Vec<rpc::RestoreItem>) -> rpc::RestoreRequest {
    rpc::RestoreRequest { room: backend.identity.node, incarnation: life, sessions }
}

/// Tells one register sessions of one thread; the register's round.
pub(super) async fn restore<S: Services>(
    backend: &Backend<S>,
    thread: &Thread,
    node: NodeId,
    life: u64,
    batch: Vec<HeldSession>,
) -> Result<u64, PeerError> {
    let since_ms = cluster::now_ms();
    let item = |session: &HeldSession| rpc::RestoreItem {
        app: session.app.0,
        uid: session.uid.as_str().to_owned(),
        conn: session.conn.0,
        fence: session.fence.0,
        since_ms,
    };
    let request = request(backend, life, batch.iter().map(item).collect());
    let taken = timeout(TAKEN, backend.services.restore(node, request)).await;
    let answer = taken.unwrap_or_else(|_| Err(unanswered(node)))?;
    backend.metrics.renewals.inc_by(batch.len() as u64);
    let lost: HashSet<u32> = answer.lost.into_iter().collect();
    let (kicked, batch): (Vec<_>, Vec<_>) =
        batch.into_iter().enumerate().partition(|(place, _)| lost.contains(&(*place as u32)));
    if !kicked.is_empty() {
        let order =
            |(_, HeldSession { app, uid, fence, .. })| KickOrder { app, uid, fence, why: KickWhy::Replaced };
        let (reply, _) = oneshot::channel();
        // A thread that has ended has no bindings.
        let _ = thread.send(Order::Kick(kicked.into_iter().map(order).collect(), reply)).await;
    }
    let batch: std::sync::Arc<[HeldSession]> = batch.into_iter().map(|(_, session)| session).collect();
    let (reply, over) = oneshot::channel();
    if thread.send(Order::Over(batch.clone(), reply)).await.is_ok() {
        // Those that ended while they were told: their end may have reached the register first.
        for place in over.await.unwrap_or_default() {
            if let Some(session) = batch.get(place as usize) {
                ends::end_again(backend, session).await;
            }
        }
    }
    Ok(answer.round)
}

fn unanswered(node: NodeId) -> PeerError {
    PeerError::Unavailable {
        role: cluster::Role::Register,
        node: Some(node),
        detail: "it did not take the sessions in time".into(),
    }
}

/// Has every binding look whether something waits in its inbox.
pub(super) async fn look_into_inboxes<S: Services>(backend: &Backend<S>, threads: &[Thread]) {
    let mut scan = Scan::new(backend.limits.looks_per_second);
    for thread in threads {
        let mut from = Some(0);
        while let Some(slot) = from {
            let Some((held, next)) = page(thread, slot).await else { break };
            scan.seen(held.len());
            let (reply, _) = oneshot::channel();
            let _ = thread.send(Order::Deliver(held.into_iter().map(nudge).collect(), reply)).await;
            from = next;
            sleep_until(scan.due()).await;
        }
    }
}

fn nudge(session: HeldSession) -> DeliveryItem {
    binds::nudge(session.app, session.uid, session.fence)
}

/// Keeps to a pace.
struct Scan {
    began: Instant,
    seen: u64,
    per_second: u32,
}

impl Scan {
    fn new(per_second: u32) -> Scan {
        Scan { began: Instant::now(), seen: 0, per_second: per_second.max(1) }
    }

    fn seen(&mut self, sessions: usize) {
        self.seen += sessions as u64;
    }

    /// When the next look may be taken.
    fn due(&self) -> Instant {
        self.began + Duration::from_secs_f64(self.seen as f64 / f64::from(self.per_second))
    }
}
