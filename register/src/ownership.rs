//! Which users are this register's, and whether it knows them all.
//!
//! The register's own view may be wrong: its process may have been stopped for longer than its lease, and another has its
//! users. As long as it has to assume that, it says of nobody that he is online, or offline.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cluster::{Cluster, NodeId, Picture, Role, rendezvous};
use proto::internal::SettleRequest;
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{horizon::Horizon, metrics::RegisterMetrics, rebuild::Rebuild, store::Store};

/// How often the register feels its own pulse.
const PULSE: Duration = Duration::from_millis(500);
/// A pulse that stays out for so long: a lease of five seconds may be about to end.
const STOPPED: Duration = Duration::from_secs(3);
/// After that discovery needs so long to say whether the lease is there still.
const DOUBT: Duration = Duration::from_secs(2);
/// Sessions of users whom another register has come to own are kept for so long: callers whose pictures lag ask here.
const LEFTOVERS: Duration = Duration::from_secs(30);

/// What the register knows of its place in the cluster.
pub(crate) struct Ownership {
    cluster: Cluster,
    rebuild: Rebuild,
    store: Arc<Store>,
    metrics: RegisterMetrics,
    lapses: watch::Receiver<u64>,
    pulse: Mutex<Pulse>,
    /// The last picture that was taken into account, in full.
    taken: watch::Sender<Arc<Picture>>,
    /// It was in the picture and is no more.
    outside: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
struct Pulse {
    last: Instant,
    doubt_until: Option<Instant>,
    /// Lapses of the registration that were dealt with.
    lapses: u64,
}

/// Whose users are whose, at one moment.
pub(crate) struct Users {
    picture: Arc<Picture>,
    me: Option<NodeId>,
}

impl Users {
    fn new(picture: Arc<Picture>, me: NodeId) -> Users {
        // Before it is in the picture itself a register cannot tell.
        let me = picture.node(Role::Register, me).map(|node| node.id);
        Users { picture, me }
    }

    pub(crate) fn own(&self, app: u32, uid: &str) -> bool {
        let Some(me) = self.me else { return true };
        let owner = self.picture.owner(Role::Register, rendezvous::user_key(app, uid));
        owner.is_none_or(|owner| owner.id == me)
    }
}

impl Ownership {
    pub(crate) fn new(
        cluster: Cluster,
        rebuild: Rebuild,
        store: Arc<Store>,
        metrics: RegisterMetrics,
    ) -> Ownership {
        let lapses = cluster.lapses();
        let pulse = Pulse { last: Instant::now(), doubt_until: None, lapses: *lapses.borrow() };
        Ownership {
            cluster,
            rebuild,
            store,
            metrics,
            lapses,
            pulse: Mutex::new(pulse),
            taken: watch::Sender::default(),
            outside: AtomicBool::new(false),
        }
    }

    /// Who owns whom now.
    pub(crate) fn users(&self) -> Users {
        Users::new(self.taken.borrow().clone(), self.cluster.me().id())
    }

    /// Whether nothing that the register knows can be relied upon.
    pub(crate) fn is_doubtful(&self, now: Instant) -> bool {
        let pulse = *self.pulse.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_duration_since(pulse.last) >= STOPPED
            || pulse.doubt_until.is_some_and(|until| now < until)
            || pulse.lapses != *self.lapses.borrow()
            || self.outside.load(Ordering::Relaxed)
    }

    /// Whether a user who is not found may be online all the same.
    pub(crate) fn is_rebuilding(&self, now: Instant) -> bool {
        self.rebuild.is_on(now)
    }

    pub(crate) fn round(&self) -> u64 {
        self.rebuild.round()
    }

    pub(crate) fn settled(&self, request: &SettleRequest) -> bool {
        self.rebuild.settled(request)
    }

    /// Follows the cluster until `cancel`.
    pub(crate) async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let mut pictures = self.cluster.picture();
        let mut lapses = self.lapses.clone();
        let mut pulse = tokio::time::interval(PULSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut frozen, mut unleased) = (false, false);
        let mut before = pictures.borrow_and_update().clone();
        let mut horizon = Horizon::default();
        self.take(&before, &before, &mut horizon).await;
        // When sessions of others' users are to be freed.
        let mut leftovers: Option<tokio::time::Instant> = None;
        loop {
            let due = leftovers.unwrap_or_else(tokio::time::Instant::now);
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                changed = lapses.changed(), if !unleased => {
                    unleased = changed.is_err();
                    if !unleased {
                        let count = *lapses.borrow_and_update();
                        self.lapse(count);
                    }
                }
                // Discovery may go away: the last picture stays.
                changed = pictures.changed(), if !frozen => {
                    frozen = changed.is_err();
                    let picture = pictures.borrow_and_update().clone();
                    if peers::membership(&picture) != peers::membership(&before) {
                        leftovers = Some(tokio::time::Instant::now() + LEFTOVERS);
                    }
                    self.take(&picture, &before, &mut horizon).await;
                    before = picture;
                }
                () = tokio::time::sleep_until(due), if leftovers.is_some() => {
                    leftovers = None;
                    self.free_others(&before).await;
                }
                _ = pulse.tick() => self.beat(Instant::now()),
            }
        }
    }

    /// Takes a picture into account.
    async fn take(&self, picture: &Arc<Picture>, before: &Arc<Picture>, horizon: &mut Horizon) {
        let me = self.cluster.me().id();
        let there = |picture: &Picture| picture.node(Role::Register, me).is_some();
        if there(picture) {
            self.outside.store(false, Ordering::Relaxed);
        } else if there(before) {
            self.outside.store(true, Ordering::Relaxed);
        }
        // Before anybody is told that the users of others are this register's.
        if let Some(horizon) = horizon.follow(picture) {
            self.store.raise(horizon);
        }
        if self.rebuild.follow(picture, Instant::now()) {
            // What is known of users who were another's until now is from an earlier time, when they were this one's.
            self.free_others(before).await;
            self.rebuild.next_round();
            self.metrics.rebuilds.inc();
            tracing::info!(sessions = self.store.len(), "took over users of a register that is gone");
        }
        // Only now may they bind here.
        self.taken.send_replace(Arc::clone(picture));
    }

    /// Frees the sessions of users that are not this register's in a picture.
    async fn free_others(&self, picture: &Arc<Picture>) {
        let users = Users::new(Arc::clone(picture), self.cluster.me().id());
        let own = |app, uid: &[u8]| std::str::from_utf8(uid).is_ok_and(|uid| users.own(app, uid));
        let freed = self.store.retain(own).await;
        self.metrics.moved.inc_by(freed as u64);
    }

    /// The lease had ended: others have told their sessions elsewhere, and some of those here are over.
    fn lapse(&self, count: u64) {
        self.rebuild.begin(&self.cluster.now(), Instant::now());
        let sessions = self.store.clear();
        // Once more: what came in between counts no more than what came before.
        self.rebuild.next_round();
        self.metrics.rebuilds.inc();
        self.pulse.lock().unwrap_or_else(PoisonError::into_inner).lapses = count;
        tracing::warn!(sessions, "the lease had ended: all sessions are forgotten and told again");
    }

    fn beat(&self, now: Instant) {
        let mut pulse = self.pulse.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(pulse.last) >= STOPPED {
            pulse.doubt_until = Some(now + DOUBT);
        }
        pulse.last = now;
    }
}
