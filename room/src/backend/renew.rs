//! Follows the registers. One that starts anew, or had lapsed, knows nobody, and when their number changes, users change
//! hands: the room tells its sessions again to whoever owns them now, with the fences that they have. When the room itself had
//! lapsed, the registers have dropped its sessions: it tells them all.

mod late;
mod telling;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use cluster::{NodeId, NodeInfo, Picture, Role, rendezvous};
use futures::future::join_all;
use peers::membership;
use proto::internal as rpc;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, sleep, timeout},
};

use super::{Backend, Services};
use crate::{event_loop::Thread, exchange::HeldSession};
pub(super) use late::{Late, run as run_late};

/// Changes of the picture that come together are dealt with together; the registers need as long to see them too.
const GATHER: Duration = Duration::from_millis(50);
/// How often the registers are asked whether they miss anything: for what neither of the two has seen in its pictures.
const CHECK: Duration = Duration::from_secs(1);
/// A register that does not answer by then is not waited for.
const ANSWER: Duration = Duration::from_millis(900);
/// A register that wants to be told again may not have seen yet what this room has.
const AGAIN: Duration = Duration::from_millis(200);

/// What one register was told last, in full.
#[derive(Debug, Clone)]
struct Told {
    /// Its life then.
    life: u64,
    /// The room's own.
    mine: u64,
    /// The round of the register.
    round: u64,
    /// Who owned whom.
    picture: Arc<Picture>,
}

/// The registers as they were dealt with.
#[derive(Debug, Default)]
struct Registers {
    told: HashMap<NodeId, Told>,
    /// Those that asked to be told again.
    again: HashSet<NodeId>,
}

/// What is to be told to whom.
struct Plan {
    picture: Arc<Picture>,
    members: u64,
    mine: u64,
    /// The registers to settle with; None: it is to be told all.
    nodes: HashMap<NodeId, Option<Arc<Picture>>>,
}

impl Registers {
    /// What is to be done, given who is there.
    fn plan(&self, picture: &Arc<Picture>, mine: u64) -> Plan {
        let members = membership(picture);
        let mut nodes = HashMap::new();
        for node in serving(picture) {
            let told = self.told.get(&node.id);
            let told = told.filter(|told| told.life == node.life() && told.mine == mine);
            match told.filter(|_| !self.again.contains(&node.id)) {
                None => _ = nodes.insert(node.id, None),
                Some(told) if membership(&told.picture) != members => {
                    nodes.insert(node.id, Some(Arc::clone(&told.picture)));
                }
                Some(_) => {}
            }
        }
        Plan { picture: Arc::clone(picture), members, mine, nodes }
    }
}

impl Plan {
    /// The register that has to be told of this session.
    fn wants(&self, session: &HeldSession) -> Option<NodeId> {
        let key = rendezvous::user_key(session.app.0, &session.uid);
        let owner = self.picture.owner(Role::Register, key)?.id;
        let told = self.nodes.get(&owner)?;
        let knew = told.as_ref().and_then(|before| before.owner(Role::Register, key));
        knew.is_none_or(|before| before.id != owner).then_some(owner)
    }
}

fn serving(picture: &Picture) -> impl Iterator<Item = &NodeInfo> {
    // One that does not answer is told when it does.
    picture.serving(Role::Register)
}

/// Follows the picture until the room ends.
pub(super) async fn run<S: Services>(
    backend: Arc<Backend<S>>,
    threads: Vec<Thread>,
    mut pictures: watch::Receiver<Arc<Picture>>,
) {
    let cancel = backend.cancel.clone();
    let keep = keep(&backend, &threads, &mut pictures);
    let _ = cancel.run_until_cancelled(keep).await;
}

async fn keep<S: Services>(
    backend: &Backend<S>,
    threads: &[Thread],
    pictures: &mut watch::Receiver<Arc<Picture>>,
) {
    let mut registers = Registers::default();
    let mut info = backend.identity.info.clone();
    let mut check = tokio::time::interval(CHECK);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // As long as no device has bound there is nobody to ask the threads for.
    let mut first = true;
    let mut lapsed = false;
    loop {
        let picture = pictures.borrow_and_update().clone();
        let mine = info.borrow_and_update().life();
        let plan = registers.plan(&picture, mine);
        if plan.nodes.is_empty() {
            tokio::select! {
                () = changed(pictures, plan.members) => sleep(GATHER).await,
                () = lives_on(&mut info, mine) => {}
                _ = check.tick() => {
                    let asked = ask(backend, &registers, &plan);
                    tokio::select! {
                        again = asked => registers.again.extend(again),
                        () = changed(pictures, plan.members) => {}
                    }
                }
            }
            continue;
        }
        lapsed |= registers.told.values().any(|told| told.mine != mine);
        let nobody = || threads.iter().all(|thread| thread.status().bindings.load(Ordering::Relaxed) == 0);
        let threads = if first && nobody() { &[] } else { threads };
        let done = tokio::select! {
            done = telling::tell(backend, threads, &plan) => done,
            // What is being told now is told to the wrong ones.
            () = changed(pictures, plan.members) => {
                sleep(GATHER).await;
                continue;
            }
        };
        first = false;
        let all = done.len() == plan.nodes.len();
        for (node, told) in done {
            registers.again.remove(&node);
            if told.again {
                registers.again.insert(node);
            }
            let life = picture.node(Role::Register, node).map_or(0, NodeInfo::life);
            let told = Told { life, mine, round: told.round, picture: Arc::clone(&picture) };
            registers.told.insert(node, told);
        }
        registers.told.retain(|node, _| picture.node(Role::Register, *node).is_some());
        if all && registers.again.is_empty() {
            if std::mem::take(&mut lapsed) {
                // Who asked for these users meanwhile was told that they are offline, and left their messages where they are.
                telling::look_into_inboxes(backend, threads).await;
            }
        } else {
            tokio::select! {
                () = sleep(AGAIN) => {}
                () = changed(pictures, plan.members) => {}
            }
        }
    }
}

/// Ends when the registers are others, or live other lives, or serve that did not.
async fn changed(pictures: &mut watch::Receiver<Arc<Picture>>, members: u64) {
    let before: HashSet<NodeId> = serving(&pictures.borrow()).map(|node| node.id).collect();
    let other = |picture: &Arc<Picture>| {
        membership(picture) != members || !serving(picture).all(|node| before.contains(&node.id))
    };
    if pictures.wait_for(other).await.is_err() {
        // Discovery has gone away: the last picture stays.
        std::future::pending::<()>().await;
    }
}

/// Ends when the room is in another life than `mine`.
async fn lives_on(info: &mut watch::Receiver<NodeInfo>, mine: u64) {
    if info.wait_for(|info| info.life() != mine).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Asks the registers whether they miss anything.
async fn ask<S: Services>(backend: &Backend<S>, registers: &Registers, plan: &Plan) -> Vec<NodeId> {
    let asks = registers.told.iter().map(|(node, told)| async move {
        let answer = backend.services.settle(*node, settle(backend, plan, told.round));
        // One that does not answer is no news.
        matches!(timeout(ANSWER, answer).await, Ok(Ok(true))).then_some(*node)
    });
    join_all(asks).await.into_iter().flatten().collect()
}

fn settle<S>(backend: &Backend<S>, plan: &Plan, round: u64) -> rpc::SettleRequest {
    let room = backend.identity.node;
    rpc::SettleRequest { room, incarnation: plan.mine, members: plan.members, round }
}

#[cfg(test)]
mod tests;
