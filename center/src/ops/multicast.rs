//! One payload to a list of users.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use cluster::{Role, rendezvous};
use futures::{
    StreamExt as _,
    stream::{self, FuturesUnordered},
};
use hashbrown::HashSet;
use proto::{
    internal::{App, Append},
    v1,
};
use wire::id::Uid;

use super::{
    Caller, Ops,
    fields::Lifetime,
    idempotency::{self, Fingerprint, Reserved},
};
use crate::{
    auth::Scope,
    delivery::Parcel,
    error::{Error, Result},
};

/// Users of one transient list that are looked up at once: enough to fill the registers' batches, little enough to
/// leave room in their queues for others.
const AT_ONCE: usize = 512;

/// What a user of a list holds besides the name's bytes until the list is answered: four strings and structs of the name on its
/// way to the saver, a place in the answer, and, of a transient list, its share of those under way.
pub(crate) const USER_BYTES: usize = 512;

/// Users of one append: with the longest names 128 KiB, so it shares batches with others.
const APPEND_UIDS: usize = 1_000;

impl Ops {
    /// Stores one message for a list of users and lets it be delivered; or, if it is transient, delivers it.
    pub async fn multicast(
        &self,
        caller: &Caller,
        request: v1::MulticastRequest,
    ) -> Result<v1::MulticastResponse> {
        self.check_targets(&request.uids)?;
        let _in_hand = self.bodies.take(request.uids.len().saturating_mul(USER_BYTES))?;
        let app = self.app(caller, Scope::Push, &request.app).await?;
        let uids = self.targets(&request.uids)?;
        self.check_payload(&request.payload)?;
        let ttl = self.ttl(request.ttl_s, app.default_ttl_s)?;
        if request.transient {
            idempotency::refuse_for_transient(&request.idempotency_key)?;
            self.take_rate(&app, uids.len())?;
            return self.multicast_transient(&app, uids, &request).await;
        }
        self.take_rate(&app, uids.len())?;
        let Reserved { id, repeated } = if request.idempotency_key.is_empty() {
            Reserved { id: self.ids.next(), repeated: false }
        } else {
            self.reserve_multicast(&app, &request).await?
        };
        let lifetime = Lifetime::of(id, ttl);
        let mut answer = v1::MulticastResponse {
            id,
            targets: uids.len() as u64,
            repeated,
            ..v1::MulticastResponse::default()
        };
        let failed = self.store(&app, id, lifetime, &uids, &request, &mut answer).await;
        // When it reached nobody, the call has failed, and its caller should see that without reading lists.
        if let Some(error) = failed.filter(|_| answer.accepted == 0) {
            return Err(error);
        }
        self.metrics.multicast.inc();
        Ok(answer)
    }

    /// Refuses a list that is too long, before anything is waited for.
    fn check_targets(&self, uids: &[String]) -> Result<()> {
        let most = self.config().multicast_max_uids;
        if uids.is_empty() || uids.len() > most {
            return Err(Error::invalid(
                "uids",
                format!("has {} users; it must have 1 to {most}", uids.len()),
            ));
        }
        Ok(())
    }

    /// The users of the list, each once.
    fn targets(&self, uids: &[String]) -> Result<Vec<Uid>> {
        let mut seen = HashSet::with_capacity(uids.len());
        let mut targets = Vec::with_capacity(uids.len());
        for (index, uid) in uids.iter().enumerate() {
            let uid_or = Uid::new(uid).map_err(|e| Error::invalid(format!("uids[{index}]"), e.to_string()));
            if seen.insert(uid.as_str()) {
                targets.push(uid_or?);
            }
        }
        Ok(targets)
    }

    async fn reserve_multicast(&self, app: &App, request: &v1::MulticastRequest) -> Result<Reserved> {
        let asked = Fingerprint::of("multicast").and(&request.payload).and_ttl(request.ttl_s);
        let asked = request.uids.iter().fold(asked, |asked, uid| asked.and(uid.as_bytes()));
        self.reserve(app, request.idempotency_key.clone(), asked).await
    }

    /// Appends the message for all users, each shard's by itself: a saver that is away costs only its own users.
    /// Answers the last error, if there was one.
    async fn store(
        &self,
        app: &Arc<App>,
        id: u64,
        lifetime: Lifetime,
        uids: &[Uid],
        request: &v1::MulticastRequest,
        answer: &mut v1::MulticastResponse,
    ) -> Option<Error> {
        let mut failed = None;
        let begun = Instant::now();
        // Its share of the payload: all parcels have the same bytes.
        let share = request.payload.len().div_ceil(uids.len().max(1));
        let mut appends: FuturesUnordered<_> = self
            .shards(app, uids)
            .into_iter()
            .map(|part| async move {
                let append = Append {
                    id,
                    app: app.id,
                    uids: part.iter().map(|uid| uid.as_str().to_owned()).collect(),
                    payload: request.payload.clone(),
                    accepted_ms: lifetime.accepted_ms,
                    expires_ms: lifetime.expires_ms,
                    durability: app.durability,
                    inbox_cap: app.inbox_cap,
                    multicast: true,
                    ..Default::default()
                };
                (part, self.peers.savers.append(append).await)
            })
            .collect();
        while let Some((part, result)) = appends.next().await {
            let positions = match result {
                Ok(result) => result.positions,
                Err(error) => {
                    let error = Error::from(error);
                    answer.failed.extend(part.iter().map(|uid| failure(uid, &error)));
                    failed = Some(error);
                    continue;
                }
            };
            answer.accepted += part.len() as u64;
            for (uid, place) in part.into_iter().zip(positions).filter(|(_, place)| place.seq != 0) {
                let parcel = Parcel {
                    app: app.id,
                    uid: uid.clone(),
                    epoch: place.epoch,
                    seq: place.seq,
                    id,
                    accepted_ms: lifetime.accepted_ms,
                    payload: request.payload.clone(),
                };
                self.delivery.offer_share(parcel, share);
            }
        }
        self.metrics.stored_after(begun.elapsed());
        failed
    }

    /// The users by the saver that owns them, in parts that fit into a batch.
    fn shards<'a>(&self, app: &App, uids: &'a [Uid]) -> Vec<Vec<&'a Uid>> {
        let picture = self.cluster.now();
        let mut shards = BTreeMap::<_, Vec<_>>::new();
        for uid in uids {
            let owner = picture.owner(Role::Saver, rendezvous::user_key(app.id, uid));
            shards.entry(owner.map(|node| node.id)).or_default().push(uid);
        }
        let parts = shards.values().flat_map(|shard| shard.chunks(APPEND_UIDS));
        parts.map(<[_]>::to_vec).collect()
    }

    async fn multicast_transient(
        &self,
        app: &Arc<App>,
        uids: Vec<Uid>,
        request: &v1::MulticastRequest,
    ) -> Result<v1::MulticastResponse> {
        let id = self.ids.next();
        let targets = uids.len() as u64;
        let (mut accepted, mut failed) = (0, Vec::new());
        let mut sent = stream::iter(uids)
            .map(|uid| async {
                let outcome = self.send_transient(app.id, &uid, id, &request.payload).await;
                (uid, outcome)
            })
            .buffered(AT_ONCE);
        while let Some((uid, outcome)) = sent.next().await {
            match outcome {
                Ok(v1::Outcome::Sent) => accepted += 1,
                Ok(_) => {}
                Err(error) => failed.push(failure(&uid, &error)),
            }
        }
        self.metrics.transient.inc_by(targets);
        let failures = failed.len() as u64;
        Ok(v1::MulticastResponse { id, targets, accepted, failed, repeated: false, failures })
    }
}

fn failure(uid: &Uid, error: &Error) -> v1::UserFailure {
    v1::UserFailure { uid: uid.as_str().to_owned(), error: Some(error.to_failure()) }
}
