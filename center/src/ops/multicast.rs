//! One payload to a list of users.

use std::time::Instant;

use futures::{StreamExt as _, stream};
use hashbrown::HashSet;
use proto::{internal::Position, v1};
use wire::id::Uid;

use super::{
    Caller, Ops,
    fields::Lifetime,
    idempotency::Fingerprint,
    letter::{Letter, Wish},
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

/// Users that an answer names as failed; of more it tells the number.
pub(super) const NAMED: usize = 1_000;

/// What became of a list.
#[derive(Default)]
pub(super) struct Stored {
    /// Where it stands in the inboxes that have it now.
    pub(super) placed: Vec<(Uid, Position)>,
    pub(super) failed: Vec<(Uid, Error)>,
    pub(super) accepted: u64,
}

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
        let asked = Fingerprint::of("multicast");
        let asked = request.uids.iter().fold(asked, |asked, uid| asked.and(uid.as_bytes()));
        let draft = self.draft(&app, wish(request))?;
        self.take_rate(&app, uids.len())?;
        let letter = self.seal(&app, draft, asked).await?.into_multicast();
        if letter.repeated {
            self.refuse_recalled(&letter).await?;
        }
        let _part = self.part_of(&letter)?;
        let mut answer = v1::MulticastResponse {
            id: letter.id,
            targets: uids.len() as u64,
            repeated: letter.repeated,
            ..v1::MulticastResponse::default()
        };
        if let Some(due) = letter.later() {
            self.keep(&letter, due, 0, uids).await?;
            answer.accepted = answer.targets;
            answer.scheduled = true;
            return Ok(answer);
        }
        if letter.transient {
            let failed = self.send_transients(&letter, uids, &mut answer).await;
            tell_failed(&mut answer, &failed);
            return Ok(answer);
        }
        let share = letter.payload.len().div_ceil(uids.len().max(1));
        let stored = self.store_list(&letter, letter.lifetime(), uids).await;
        // When it reached nobody, the call has failed, and its caller should see that without reading lists.
        if let Some((_, error)) = stored.failed.last().filter(|_| stored.accepted == 0) {
            return Err(error.clone());
        }
        answer.accepted = stored.accepted;
        tell_failed(&mut answer, &stored.failed);
        for (uid, place) in stored.placed {
            let parcel = Parcel {
                app: app.id,
                uid,
                epoch: place.epoch,
                seq: place.seq,
                id: letter.id,
                accepted_ms: cluster::accepted_ms_of(letter.id),
                payload: letter.payload.clone(),
                collapse_key: letter.collapse_key.as_str().into(),
                urgent: letter.urgent,
            };
            // Its share of the payload: all parcels have the same bytes.
            self.delivery.offer_share(parcel, share);
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

    /// Appends the message for all users.
    pub(super) async fn store_list(&self, letter: &Letter, lifetime: Lifetime, uids: Vec<Uid>) -> Stored {
        let mut stored = Stored { placed: Vec::with_capacity(uids.len()), ..Stored::default() };
        let begun = Instant::now();
        let results = self.peers.savers.append_list(letter.append(Vec::new(), lifetime), &uids).await;
        for (uid, result) in uids.into_iter().zip(results) {
            match result {
                Ok(place) => {
                    stored.accepted += 1;
                    // A repeat that finds the message gone from an inbox has nothing to deliver.
                    if place.seq != 0 {
                        stored.placed.push((uid, place));
                    }
                }
                Err(error) => stored.failed.push((uid, error.into())),
            }
        }
        self.metrics.stored_after(begun.elapsed());
        stored
    }

    /// Delivers a transient message to who is online, and counts in the answer; those that failed are answered.
    pub(super) async fn send_transients(
        &self,
        letter: &Letter,
        uids: Vec<Uid>,
        answer: &mut v1::MulticastResponse,
    ) -> Vec<(Uid, Error)> {
        let mut failed = Vec::new();
        let mut sent = stream::iter(uids)
            .map(|uid| async {
                let outcome = self.send_transient(letter, &uid).await;
                (uid, outcome)
            })
            .buffered(AT_ONCE);
        while let Some((uid, outcome)) = sent.next().await {
            match outcome {
                Ok(v1::Outcome::Sent) => answer.accepted += 1,
                Ok(_) => {}
                Err(error) => failed.push((uid, error)),
            }
        }
        self.metrics.transient.inc_by(answer.targets);
        failed
    }
}

/// What a multicast says of its message.
pub(super) fn wish(request: v1::MulticastRequest) -> Wish {
    let v1::MulticastRequest {
        payload, ttl_s, transient, idempotency_key, collapse_key, priority, when, ..
    } = request;
    Wish { payload, ttl_s, transient, idempotency_key, collapse_key, priority, when }
}

fn tell_failed(answer: &mut v1::MulticastResponse, failed: &[(Uid, Error)]) {
    answer.failures = failed.len() as u64;
    answer.failed = failed.iter().take(NAMED).map(|(uid, error)| failure(uid, error)).collect();
}

pub(super) fn failure(uid: &Uid, error: &Error) -> v1::UserFailure {
    v1::UserFailure { uid: uid.as_str().to_owned(), error: Some(error.to_failure()) }
}
