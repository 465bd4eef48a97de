//! To one user.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use futures::future::join_all;
use hashbrown::HashMap;
use proto::{
    internal::{App, AppendResult, DeliverItem, Delivery as Outcome, LookUpResult, Position, Presence},
    v1,
};
use wire::id::Uid;

use super::{
    Caller, Ops, fields,
    fields::Lifetime,
    idempotency::Fingerprint,
    letter::{Letter, Wish},
};
use crate::{
    auth::Scope,
    delivery::Parcel,
    error::{Error, Result},
};

/// What a push of a batch holds besides its bytes until it is answered: where it stands, what was encoded for its saver, its
/// answer.
pub(crate) const PUSH_BYTES: usize = 4 << 10;

/// A transient message is looked up so often: the second time its user had just moved to another room.
const LOOK_UPS: usize = 2;

impl Ops {
    /// Stores a message and lets it be delivered; or, if it is transient, delivers it.
    pub async fn push(&self, caller: &Caller, request: v1::PushRequest) -> Result<v1::PushResponse> {
        let app = self.app(caller, Scope::Push, &request.app).await?;
        self.push_in(&app, request).await
    }

    /// Many pushes at once, with results in their order. They are under way together, in one task. Pushes to one user are
    /// numbered in the order of the list as long as they share a batch to the saver; several batches may overtake each
    /// other.
    pub async fn push_batch(
        &self,
        caller: &Caller,
        pushes: Vec<v1::PushRequest>,
    ) -> Result<Vec<Result<v1::PushResponse>>> {
        let most = self.config().batch_max_pushes;
        if pushes.len() > most {
            let message = format!("has {} pushes; at most {most} are taken in one call", pushes.len());
            return Err(Error::invalid("pushes", message));
        }
        let _in_hand = self.bodies.take(pushes.len().saturating_mul(PUSH_BYTES))?;
        // Found before the pushes set out: waiting for it, they would lose their order. Almost always there is one.
        let mut names: Vec<&str> = Vec::new();
        for push in &pushes {
            if !names.contains(&push.app.as_str()) {
                names.push(&push.app);
            }
        }
        let find = names.into_iter().map(|name| async move {
            // As text, because the pushes are about to be moved away.
            (name.to_owned(), self.app(caller, Scope::Push, name).await)
        });
        let apps: HashMap<String, Result<Arc<App>>> = join_all(find).await.into_iter().collect();
        let each = pushes.into_iter().map(async |mut push| {
            let app = apps[&push.app].as_ref().map_err(Error::clone)?;
            // As decoded it shares the buffer of the whole batch, which a message waiting for delivery would keep.
            push.payload = Bytes::copy_from_slice(&push.payload);
            self.push_in(app, push).await
        });
        Ok(join_all(each).await)
    }

    async fn push_in(&self, app: &Arc<App>, request: v1::PushRequest) -> Result<v1::PushResponse> {
        let uid = fields::uid(&request.uid)?;
        let v1::PushRequest {
            payload, ttl_s, transient, idempotency_key, collapse_key, priority, when, ..
        } = request;
        let wish = Wish { payload, ttl_s, transient, idempotency_key, collapse_key, priority, when };
        let draft = self.draft(app, wish)?;
        self.take_rate(app, 1)?;
        let letter = self.seal(app, draft, Fingerprint::of("push").and(uid.as_bytes())).await?;
        let (id, repeated) = (letter.id, letter.repeated);
        if let Some(due) = letter.later() {
            // Boxed: few pushes are for later.
            Box::pin(self.keep(&letter, due, 0, vec![uid])).await?;
            return Ok(v1::PushResponse { id, outcome: v1::Outcome::Scheduled.into(), seq: 0, repeated });
        }
        if letter.transient {
            let outcome = self.send_transient(&letter, &uid).await?;
            self.metrics.transient.inc();
            return Ok(v1::PushResponse { id, outcome: outcome.into(), seq: 0, repeated: false });
        }
        let lifetime = letter.lifetime();
        let place = self.store_one(letter, lifetime, uid).await?;
        Ok(v1::PushResponse { id, outcome: v1::Outcome::Stored.into(), seq: place.seq, repeated })
    }

    /// Stores a message for one user and lets it be delivered. Answers its place; seq 0 if a repeat finds it gone.
    pub(super) async fn store_one(&self, letter: Letter, lifetime: Lifetime, uid: Uid) -> Result<Position> {
        let append = letter.append(vec![uid.as_str().to_owned()], lifetime);
        let begun = Instant::now();
        let AppendResult { positions, .. } = self.peers.savers.append(append).await?;
        self.metrics.stored_after(begun.elapsed());
        self.metrics.unicast.inc();
        let place = positions.first().copied().unwrap_or_default();
        if place.seq != 0 {
            self.delivery.offer(Parcel {
                app: letter.app.id,
                uid,
                epoch: place.epoch,
                seq: place.seq,
                id: letter.id,
                accepted_ms: lifetime.accepted_ms,
                payload: letter.payload,
                collapse_key: letter.collapse_key.into_boxed_str(),
                urgent: letter.urgent,
            });
        }
        Ok(place)
    }

    /// Hands a transient message to the user's room.
    pub(super) async fn send_transient(&self, letter: &Letter, uid: &Uid) -> Result<v1::Outcome> {
        let app = letter.app.id;
        for _ in 0..LOOK_UPS {
            let registers = &self.peers.registers;
            let LookUpResult { presence, room, fence, .. } = match letter.urgent {
                true => registers.look_up_urgent(app, uid).await?,
                false => registers.look_up(app, uid).await?,
            };
            if presence != i32::from(Presence::Online) {
                return Ok(v1::Outcome::Offline);
            }
            let item = DeliverItem {
                app,
                uid: uid.as_str().to_owned(),
                fence,
                epoch: 0,
                seq: 0,
                id: letter.id,
                payload: None,
                accepted_ms: cluster::accepted_ms_of(letter.id),
                collapse_key: String::new(),
                urgent: letter.urgent,
            };
            match self.peers.rooms.deliver(cluster::NodeId(room), item, letter.payload.clone()).await? {
                Outcome::Sent => return Ok(v1::Outcome::Sent),
                Outcome::Shed => return Err(Error::Full("bytes queued for the user's connection")),
                // As far as anybody can tell, the device is gone; that it may come back helps no transient message.
                Outcome::Away => return Ok(v1::Outcome::Offline),
                Outcome::NotHere => {}
            }
        }
        Ok(v1::Outcome::Offline)
    }
}
