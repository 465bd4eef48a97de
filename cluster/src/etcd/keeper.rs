//! Keeps this node registered: one task that owns the lease.

use std::sync::Arc;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Duration, Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use super::{
    EtcdError, Holder, Wanted,
    backoff::Backoff,
    beat::Beat,
    claim::{Claim, Unclaimed, claim},
    link::Link,
    published::{Published, changed},
    registration::{Lost, Registration},
};
use crate::{DiscoveryError, Me, Picture};

/// A lease survives three answers that are lost.
const BEATS_PER_LEASE: u32 = 4;
/// First and greatest pause after a write that failed.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// What the keeper is asked for.
pub(crate) enum Order {
    /// Publish this entry, and all its changes.
    Join(Arc<Me>, oneshot::Sender<Result<(), DiscoveryError>>),
    /// Take the node out and end.
    Leave(oneshot::Sender<()>),
}

/// Owns the lease.
pub(crate) struct Keeper {
    pub(crate) link: Link,
    pub(crate) holder: Holder,
    pub(crate) claim: Claim,
    pub(crate) registration: Arc<Registration>,
    pub(crate) picture: watch::Receiver<Arc<Picture>>,
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) me: Option<Published>,
    pub(crate) beat: Option<Beat>,
}

enum Held {
    Left,
    Over(String),
}

impl Keeper {
    pub(crate) async fn run(mut self) {
        loop {
            match self.hold().await {
                Held::Left => return,
                Held::Over(reason) => {
                    warn!(node = %self.claim.id, reason, "this node's registration has ended; registering again");
                    // Before the node is registered again: until then it answers for nobody.
                    self.registration.lapse(&self.link);
                    match self.enter_again().await {
                        Ok(true) => {}
                        Ok(false) => return,
                        Err(lost) => {
                            self.registration.lost.send_replace(Some(lost));
                            return self.out().await;
                        }
                    }
                }
            }
        }
    }

    /// Keeps the registration alive until it is found to have ended.
    async fn hold(&mut self) -> Held {
        let mut beats = interval(self.link.options().lease / BEATS_PER_LEASE);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        let mut retry: Option<Instant> = None;
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            if self.registration.has_lapsed() {
                return Held::Over("the process stood still for longer than its lease".to_owned());
            }
            let due = [self.me.as_mut().and_then(Published::due), retry].into_iter().flatten().max();
            let done = tokio::select! {
                order = self.orders.recv() => match order {
                    Some(Order::Join(me, joined)) => {
                        self.me = Some(Published::new(me, joined, self.claim.number));
                        Ok(())
                    }
                    Some(Order::Leave(done)) => {
                        self.leave().await;
                        // Whoever asked may have gone.
                        let _ = done.send(());
                        return Held::Left;
                    }
                    None => {
                        self.leave().await;
                        return Held::Left;
                    }
                },
                _ = beats.tick() => self.beat().await,
                () = self.registration.doubt.notified() => self.look().await,
                () = changed(&mut self.me) => Ok(()),
                () = until(due) => {
                    let published = self.publish().await;
                    retry = published.is_err().then(|| Instant::now() + backoff.next());
                    if published.is_ok() {
                        backoff.reset();
                    }
                    published
                }
            };
            match done {
                Ok(()) => failing = false,
                Err(EtcdError::LeaseOver) => return Held::Over("etcd has ended its lease".to_owned()),
                Err(EtcdError::Conflict) => return Held::Over("its keys in etcd are gone".to_owned()),
                Err(error) if failing => debug!(%error, "the registration could not be kept alive"),
                Err(error) => {
                    failing = true;
                    warn!(%error, "the registration cannot be kept alive; service goes on");
                }
            }
        }
    }

    /// Asks for the lease to be prolonged, and waits for the answer.
    async fn beat(&mut self) -> Result<(), EtcdError> {
        let asked = Instant::now();
        let patience = self.link.options().patience();
        let connection = self.link.connection().await?;
        let generation = connection.generation;
        let beaten = match self.beat.take().filter(|beat| beat.generation == generation) {
            Some(beat) => timeout(patience, beat.again()).await,
            None => timeout(patience, Beat::open(connection, self.claim.lease)).await,
        };
        let beaten = beaten.unwrap_or_else(|_| Err(EtcdError::Away("no answer in time".to_owned())));
        if beaten.as_ref().is_err_and(EtcdError::is_away) {
            self.link.give_up(generation);
        }
        self.beat = Some(beaten?);
        self.registration.confirm(asked);
        Ok(())
    }

    /// Whether the keys are still there.
    async fn look(&mut self) -> Result<(), EtcdError> {
        if self.registration.has_lapsed() {
            return Ok(());
        }
        let keys = self.link.keys();
        let key = match &self.me {
            Some(Published { me, last: Some(_), .. }) => keys.node(me.role(), me.id()),
            _ => keys.id(self.claim.id),
        };
        let got = self.link.call(async move |mut client| client.get(key, None).await).await?;
        let ours = got.kvs().first().is_some_and(|kv| kv.lease() == self.claim.lease);
        if ours { Ok(()) } else { Err(EtcdError::Conflict) }
    }

    /// Writes the entry, if it has changed.
    async fn publish(&mut self) -> Result<(), EtcdError> {
        let Some(published) = &mut self.me else { return Ok(()) };
        let info = published.changes.borrow_and_update().clone();
        if published.last.as_ref() != Some(&info) {
            let (keys, lease) = (self.link.keys(), self.claim.lease);
            let value = serde_json::to_vec(&info)
                .map_err(|e| EtcdError::Refused(format!("this node's entry: {e}")))?;
            let txn = Txn::new()
                .when([Compare::mod_revision(keys.id(self.claim.id), CompareOp::Equal, self.claim.revision)])
                .and_then([TxnOp::put(
                    keys.node(info.role, info.id),
                    value,
                    Some(PutOptions::new().with_lease(lease)),
                )]);
            // Until the answer is there nobody knows what etcd has.
            published.last = None;
            let answer = self.link.call(async move |mut client| client.txn(txn).await).await?;
            if !answer.succeeded() {
                return Err(EtcdError::Conflict);
            }
            published.last = Some(info);
            published.at = Instant::now();
        }
        if let Some(joined) = published.joined.take() {
            // Whoever joined may have gone.
            let _ = joined.send(Ok(()));
        }
        Ok(())
    }

    /// Registers again under a new lease, however long that takes. `false`: nobody wants it any more.
    async fn enter_again(&mut self) -> Result<bool, Lost> {
        let old = self.claim.lease;
        self.beat = None;
        let lease = self.link.options().lease;
        let mut backoff = Backoff::new(Duration::from_millis(100), lease / 3);
        let mut told = false;
        loop {
            let asked = Instant::now();
            let wanted = Wanted::Exactly(self.claim.id);
            match self.claim_as_same(wanted).await {
                Ok(claim) => {
                    info!(node = %claim.id, number = claim.number, "registered again");
                    self.registration.renew(asked);
                    if let Some(published) = &mut self.me {
                        published.me.set_joined(claim.number);
                        published.last = None;
                    }
                    self.claim = claim;
                    // What is under the old lease is written again under the new one first.
                    if let Err(error) = self.publish().await {
                        debug!(%error, "the entry is written later");
                    }
                    let _ = self.link.call(async move |c| c.lease_client().revoke(old).await).await;
                    return Ok(true);
                }
                Err(Unclaimed::Taken { id, by }) if by.owner == self.holder.owner => {
                    return Err(Lost::Twin { id, by });
                }
                Err(Unclaimed::Taken { id, by }) => return Err(Lost::Taken { id, by }),
                Err(Unclaimed::Exhausted) => {}
                Err(Unclaimed::Etcd(error)) => {
                    if !std::mem::replace(&mut told, true) {
                        warn!(%error, "cannot register again yet; service goes on");
                    }
                }
            }
            tokio::select! {
                () = sleep(backoff.next()) => {}
                order = self.orders.recv() => match order {
                    Some(Order::Join(me, joined)) => {
                        self.me = Some(Published::new(me, joined, self.claim.number));
                    }
                    Some(Order::Leave(done)) => {
                        let _ = done.send(());
                        return Ok(false);
                    }
                    None => return Ok(false),
                }
            }
        }
    }

    /// Claims the id, but not from a later life of the same owner.
    async fn claim_as_same(&self, wanted: Wanted) -> Result<Claim, Unclaimed> {
        let key = self.link.keys().id(self.claim.id);
        let got = self.link.call(async move |mut client| client.get(key, None).await).await?;
        let by = got.kvs().first().and_then(|kv| serde_json::from_slice::<Holder>(kv.value()).ok());
        if let Some(by) = by.filter(|by| by.owner == self.holder.owner && by.life != self.holder.life) {
            return Err(Unclaimed::Taken { id: self.claim.id, by });
        }
        let known = self.picture.borrow().nodes().iter().map(|n| n.joined.max(n.incarnation.0)).max();
        let floor = known.unwrap_or(0).max(self.claim.number);
        claim(&self.link, wanted, &self.holder, floor).await
    }

    /// Takes the node out.
    async fn leave(&mut self) {
        let lease = self.claim.lease;
        // All keys under the lease go at once. If etcd is away, the lease ends by itself.
        if let Err(error) = self.link.call(async move |c| c.lease_client().revoke(lease).await).await {
            debug!(%error, "the lease ends by itself");
        }
    }

    /// The id is lost: nothing is kept any more, until whoever drains the node says that it leaves.
    async fn out(mut self) {
        while let Some(order) = self.orders.recv().await {
            match order {
                Order::Join(_, joined) => {
                    let _ = joined.send(Err(DiscoveryError::Taken(self.claim.id)));
                }
                Order::Leave(done) => {
                    let _ = done.send(());
                    return;
                }
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
