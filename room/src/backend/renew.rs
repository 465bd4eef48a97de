//! Follows the registers. One that starts anew knows nobody, and when their number changes, users change hands: the room
//! tells its sessions again to whoever owns them now.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use cluster::{Incarnation, NodeId, NodeState, Picture, Role, rendezvous};
use futures::{StreamExt as _, stream};
use proto::internal as rpc;
use tokio::sync::{mpsc, oneshot, watch};
use wire::id::FenceNumber;

use super::{Backend, Services, ends, inboxes::persist};
use crate::{
    event_loop::{Order, Thread},
    exchange::{HeldSession, NewFence},
    metrics::RoomMetrics,
};

/// Sessions of one look at a thread; a look takes well under a millisecond.
const PAGE: usize = 1_024;
/// Sessions that are told at a time; the client packs them into batches.
const UNDER_WAY: usize = 512;
/// Binds that may be caught between two lives of a register; as many as are under way in a few threads.
const LATE: usize = 8_192;
/// The registers, as of the last picture that was dealt with.
#[derive(Default)]
struct Registers {
    /// The life of each that was told everything.
    told: HashMap<NodeId, Incarnation>,
    picture: Arc<Picture>,
}

impl Registers {
    fn serving(picture: &Picture) -> HashMap<NodeId, Incarnation> {
        let up = |state| matches!(state, NodeState::Ready | NodeState::Draining);
        picture
            .of(Role::Register)
            .filter(|node| up(node.state))
            .map(|node| (node.id, node.incarnation))
            .collect()
    }

    /// Whether anybody has to be told anything.
    fn differ(&self, picture: &Picture) -> bool {
        let members =
            |picture: &Picture| -> Vec<NodeId> { picture.of(Role::Register).map(|node| node.id).collect() };
        let serving = Self::serving(picture);
        serving.iter().any(|(id, life)| self.told.get(id) != Some(life))
            || members(picture) != members(&self.picture)
    }

    /// Whether the register that owns this session now does not know it.
    fn has_lost(&self, picture: &Picture, session: &HeldSession) -> bool {
        let key = rendezvous::user_key(session.app.0, &session.uid);
        let Some(owner) = picture.owner(Role::Register, key) else { return false };
        // One that is down is told when it is up.
        let up = Self::serving(picture).contains_key(&owner.id);
        let before = self.picture.owner(Role::Register, key).map(|node| node.id);
        up && (self.told.get(&owner.id) != Some(&owner.incarnation) || before != Some(owner.id))
    }
}

/// Follows the picture until the room ends.
pub(super) async fn run<S: Services>(
    backend: Arc<Backend<S>>,
    threads: Vec<Thread>,
    mut pictures: watch::Receiver<Arc<Picture>>,
) {
    let mut registers = Registers::default();
    let first = pictures.borrow_and_update().clone();
    // Those that are there when the room starts have no sessions of it to lose.
    registers.told = Registers::serving(&first);
    registers.picture = first;
    let cancel = backend.cancel.clone();
    while let Some(Ok(())) = cancel.run_until_cancelled(pictures.changed()).await {
        let picture = pictures.borrow_and_update().clone();
        if !registers.differ(&picture) {
            continue;
        }
        let told = cancel.run_until_cancelled(tell(&backend, &threads, &registers, &picture)).await;
        match told {
            None => return,
            // The next picture tries again; it comes at the latest when the register is seen to be back.
            Some(false) => tracing::warn!("a register could not be told all sessions"),
            Some(true) => {
                registers.told = Registers::serving(&picture);
                registers.picture = picture;
            }
        }
    }
}

/// Tells what has to be told; whether all of it was.
async fn tell<S: Services>(
    backend: &Backend<S>,
    threads: &[Thread],
    registers: &Registers,
    picture: &Picture,
) -> bool {
    // Binds that are under way now may have been answered by the earlier life; they look at this when they are done.
    backend.rounds.fetch_add(1, Ordering::SeqCst);
    let (mut all, mut count) = (true, 0);
    for thread in threads {
        let mut from = Some(0);
        while let Some(slot) = from {
            let (reply, answer) = oneshot::channel();
            // A thread that has ended has no sessions.
            let Ok(()) = thread.send(Order::Held(slot, PAGE, reply)).await else { break };
            let Ok((held, next)) = answer.await else { break };
            let lost = held.into_iter().filter(|session| registers.has_lost(picture, session));
            let mut renewed =
                stream::iter(lost).map(|session| renew(backend, thread, session)).buffer_unordered(UNDER_WAY);
            while let Some(done) = renewed.next().await {
                count += 1;
                all &= done;
            }
            from = next;
        }
    }
    if all {
        for (node, life) in Registers::serving(picture) {
            if registers.told.get(&node) != Some(&life) {
                let request = rpc::SettleRequest {
                    room: backend.identity.node,
                    incarnation: backend.identity.incarnation,
                };
                if let Err(error) = backend.services.settle(node, request).await {
                    // It stops waiting by itself after some seconds.
                    tracing::debug!(%node, %error, "a register was not told that it has been told all");
                }
            }
        }
    }
    tracing::info!(sessions = count, all, "told the registers again");
    all
}

/// Sessions that one round missed, one by one.
#[derive(Debug)]
pub(crate) struct Late {
    queue: mpsc::Sender<(Thread, HeldSession)>,
    metrics: RoomMetrics,
}

impl Late {
    pub(super) fn new(metrics: RoomMetrics) -> (Self, mpsc::Receiver<(Thread, HeldSession)>) {
        let (queue, late) = mpsc::channel(LATE);
        (Self { queue, metrics }, late)
    }

    /// Has a session told again. At the bound it is counted and stays unknown to its register until it binds again.
    pub(super) fn renew(&self, thread: &Thread, session: HeldSession) {
        if self.queue.try_send((thread.clone(), session)).is_err() {
            self.metrics.renewals_lost.inc();
        }
    }
}

/// Tells late sessions again until the room ends.
pub(super) async fn run_late<S: Services>(
    backend: Arc<Backend<S>>,
    mut late: mpsc::Receiver<(Thread, HeldSession)>,
) {
    let cancel = backend.cancel.clone();
    let one = |(thread, session)| renew_late(Arc::clone(&backend), thread, session);
    let all = stream::poll_fn(|cx| late.poll_recv(cx)).for_each_concurrent(UNDER_WAY, one);
    // The queue's sender lives in the backend itself, so the queue never closes; the token ends it.
    let _ = cancel.run_until_cancelled(all).await;
}

async fn renew_late<S: Services>(backend: Arc<Backend<S>>, thread: Thread, session: HeldSession) {
    if !renew(&backend, &thread, session).await {
        backend.metrics.renewals_lost.inc();
    }
}

/// Tells one session again, and the thread its new fence; whether it worked.
async fn renew<S: Services>(backend: &Backend<S>, thread: &Thread, session: HeldSession) -> bool {
    let HeldSession { binding, app, uid, conn, fence } = session;
    let item = rpc::BindItem {
        app: app.0,
        uid: uid.as_str().to_owned(),
        room: backend.identity.node,
        incarnation: backend.identity.incarnation,
        conn: conn.0,
        since_ms: cluster::now_ms(),
        above: fence.0,
    };
    let new = match persist(backend, || backend.services.bind(item.clone())).await {
        Ok(new) => FenceNumber(new),
        Err(error) => {
            tracing::debug!(%app, %error, "a session could not be told again");
            return false;
        }
    };
    let (reply, answer) = oneshot::channel();
    let order = Order::Renewed(NewFence { binding, old: fence, new }, reply);
    let held = thread.send(order).await.is_ok() && answer.await.unwrap_or(false);
    if !held {
        // It ended meanwhile, with the old fence.
        ends::give_back(backend, app, &uid, new).await;
    }
    true
}

#[cfg(test)]
mod tests {
    use cluster::NodeInfo;
    use wire::id::{AppId, ConnId, Uid};

    use super::*;
    use crate::exchange::BindingKey;

    fn picture(registers: &[(u32, u64, NodeState)]) -> Picture {
        let node = |(id, life, state): &(u32, u64, NodeState)| NodeInfo {
            incarnation: Incarnation(*life),
            state: *state,
            ..NodeInfo::new(Role::Register, NodeId(*id))
        };
        Picture::new(1, registers.iter().map(node).collect())
    }

    fn lost(before: &Picture, now: &Picture) -> usize {
        let known = Registers { told: Registers::serving(before), picture: Arc::new(before.clone()) };
        let session = |n: u32| HeldSession {
            binding: BindingKey { slot: n, generation: 1 },
            app: AppId(1),
            uid: Uid::new(format!("u{n}")).unwrap(),
            conn: ConnId(1),
            fence: FenceNumber(1),
        };
        let lost = (0..1_000).filter(|n| known.has_lost(now, &session(*n))).count();
        assert!(lost == 0 || known.differ(now));
        lost
    }

    use NodeState::{Down, Ready};

    #[test]
    fn a_register_is_told_once_in_each_life() {
        let two = picture(&[(1, 5, Ready), (2, 7, Ready)]);
        assert_eq!(lost(&two, &two), 0);
        assert_eq!(lost(&two, &picture(&[(1, 5, Ready), (2, 7, Down)])), 0, "nobody to tell");
        let again = lost(&two, &picture(&[(1, 5, Ready), (2, 8, Ready)]));
        assert!((400..600).contains(&again), "its users and no others: {again}");
    }

    #[test]
    fn users_that_change_hands_are_told_to_the_new_owner() {
        let two = picture(&[(1, 5, Ready), (2, 7, Ready)]);
        let three = picture(&[(1, 5, Ready), (2, 7, Ready), (3, 1, Ready)]);
        let to_third = lost(&two, &three);
        assert!((250..420).contains(&to_third), "a third of them: {to_third}");
        let back = lost(&three, &two);
        assert_eq!(back, to_third);
    }
}
