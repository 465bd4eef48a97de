//! One payload to a list of users that comes bit by bit, of up to a million.
//!
//! Users are gathered into chunks; some chunks are under way at a time, and who brings more waits until one is done. So what
//! is held does not depend on the length of the list. The first chunk takes its users off the app's rate or is refused, before
//! anything is stored; those after it wait for the rate. A user that is listed twice gets the message once: within a chunk it
//! is dropped, and of two appends of one message to one user the saver does one.

use std::{sync::Arc, time::Duration};

use hashbrown::HashSet;
use proto::{internal::App, v1};
use rand::RngExt as _;
use tokio::{task::JoinSet, time::sleep};
use wire::id::Uid;

use super::{
    Caller, Ops,
    idempotency::Fingerprint,
    letter::{Draft, Letter},
    multicast::{NAMED, Stored, USER_BYTES, failure, wish},
    schedule::PART_UIDS,
};
use crate::{
    auth::Scope,
    delivery::Crowd,
    error::{Error, Result, Stopped},
    limits::Held,
    under_way::Share,
};

/// Users of a chunk: enough that a call to each of several savers has hundreds, little enough that four are a few megabytes.
pub(crate) const CHUNK_USERS: usize = 2_000;
/// A scheduled chunk is so many parts.
const CHUNK_PARTS: u32 = CHUNK_USERS.div_ceil(PART_UIDS) as u32;

/// Chunks of one list under way at a time: while one is committed the next are on their way.
const WINDOW: usize = 4;

/// Users that may fail before the list is not read on: a saver is away, and the same list will do better later.
const FAILURES_MAX: u64 = 10_000;

/// Pauses before a chunk is tried again for those of its users for whom a store did not answer in time. Meanwhile its place is taken,
/// so a list slows down to what the stores can take.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// Longest pause between two looks at the app's rate; an app whose rate was raised goes on at that.
const RATE_PAUSE: Duration = Duration::from_secs(1);

/// A list on its way.
pub(crate) struct Upload {
    ops: Arc<Ops>,
    app: Arc<App>,
    /// Until the first chunk is complete.
    draft: Option<Draft>,
    letter: Option<Arc<Letter>>,
    /// Since there is a letter.
    listed: Option<Share>,
    chunk: Vec<Uid>,
    seen: HashSet<Uid, foldhash::fast::FixedState>,
    /// Users that have come, without those that were dropped.
    users: usize,
    chunks: u32,
    under_way: JoinSet<Chunk>,
    answer: v1::MulticastResponse,
    /// Why users failed, of the last that did.
    failed: Option<Error>,
    _caller: Arc<Caller>,
    _held: Held,
}

/// What became of a chunk.
struct Chunk {
    accepted: u64,
    failed: Vec<(Uid, Error)>,
}

impl Upload {
    /// Begins with what the list's message is. Its users come later: none is read from `head`.
    pub(crate) async fn begin(
        ops: Arc<Ops>,
        caller: Arc<Caller>,
        head: v1::MulticastRequest,
    ) -> Result<Upload> {
        let app = ops.app(&caller, Scope::Push, &head.app).await?;
        let held = ops.bodies.take((WINDOW + 1) * CHUNK_USERS * USER_BYTES + head.payload.len())?;
        let draft = ops.draft(&app, wish(head))?;
        Ok(Upload {
            app,
            draft: Some(draft),
            letter: None,
            listed: None,
            chunk: Vec::with_capacity(CHUNK_USERS),
            seen: HashSet::with_capacity_and_hasher(CHUNK_USERS, foldhash::fast::FixedState::default()),
            users: 0,
            chunks: 0,
            under_way: JoinSet::new(),
            answer: v1::MulticastResponse::default(),
            failed: None,
            ops,
            _caller: caller,
            _held: held,
        })
    }

    /// Takes one user more; waits when enough of them are under way.
    ///
    /// # Errors
    /// The list is not to be read on: see [`Upload::stop`].
    pub(crate) async fn add(&mut self, uid: Uid) -> Result<()> {
        if !self.seen.insert(uid.clone()) {
            return Ok(());
        }
        self.users += 1;
        let most = self.ops.config().multicast_stream_max_uids;
        if self.users > most {
            return Err(Error::invalid(
                "uids",
                format!("has more than {most} users, and not more are taken"),
            ));
        }
        self.chunk.push(uid);
        if self.chunk.len() == CHUNK_USERS { self.send().await } else { Ok(()) }
    }

    /// The list is complete.
    pub(crate) async fn finish(mut self) -> Result<v1::MulticastResponse> {
        if self.users == 0 {
            return Err(Error::invalid("uids", "there are none"));
        }
        let sent = match self.chunk.is_empty() {
            true => Ok(()),
            false => self.send().await,
        };
        if let Err(error) = sent {
            return Err(self.stop(error).await);
        }
        self.settle().await;
        // When it reached nobody, the call has failed, and its caller should see that without reading lists.
        match self.failed.take() {
            Some(error) if self.answer.accepted == 0 => Err(error),
            _ => {
                self.ops.metrics.multicast.inc();
                Ok(self.answer)
            }
        }
    }

    /// The list broke off: waits for what is under way and says how far it came. If nothing was stored, the error is as it is.
    pub(crate) async fn stop(mut self, why: Error) -> Error {
        self.settle().await;
        match &self.letter {
            None => why,
            Some(letter) => {
                self.ops.metrics.multicast_stopped.inc();
                let (targets, accepted) = (self.answer.targets, self.answer.accepted);
                Error::Stopped(Box::new(Stopped { id: letter.id, targets, accepted, why }))
            }
        }
    }

    /// Sends the chunk, when the rate and those under way leave room for it.
    async fn send(&mut self) -> Result<()> {
        let letter = self.pace().await?;
        while self.under_way.len() >= WINDOW {
            self.settle_one().await;
        }
        let part = self.ops.part_of(&letter)?;
        if let Some(error) = self.failed.clone().filter(|_| self.answer.failures > FAILURES_MAX) {
            return Err(error);
        }
        let uids = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_USERS));
        self.seen.clear();
        self.answer.targets += uids.len() as u64;
        let number = self.chunks.saturating_mul(CHUNK_PARTS);
        self.chunks += 1;
        let ops = Arc::clone(&self.ops);
        self.under_way.spawn(async move { ops.send_patiently(&letter, part, number, uids).await });
        Ok(())
    }

    /// Takes the chunk off the app's rate. The first chunk then gets the message its id.
    async fn pace(&mut self) -> Result<Arc<Letter>> {
        let count = self.chunk.len();
        if let Some(letter) = &self.letter {
            while let Err(error) = self.ops.take_rate(&self.app, count) {
                let Error::TooFast { retry_after } = error else { return Err(error) };
                sleep(retry_after.min(RATE_PAUSE)).await;
            }
            return Ok(Arc::clone(letter));
        }
        self.ops.take_rate(&self.app, count)?;
        let draft = self.draft.take().ok_or(Error::Internal("a list was begun twice"))?;
        let letter = self.ops.seal(&self.app, draft, Fingerprint::of("multicast_stream")).await?;
        self.answer.id = letter.id;
        self.answer.repeated = letter.repeated;
        self.answer.scheduled = letter.later().is_some();
        self.listed = Some(self.ops.under_way.list(self.app.id, letter.id));
        if letter.repeated {
            self.ops.refuse_recalled(&letter).await?;
        }
        let letter = Arc::new(letter.into_multicast());
        self.letter = Some(Arc::clone(&letter));
        Ok(letter)
    }

    /// Waits for all that is under way.
    async fn settle(&mut self) {
        while !self.under_way.is_empty() {
            self.settle_one().await;
        }
    }

    async fn settle_one(&mut self) {
        // A chunk that panicked took its users with it: they are neither accepted nor named, and the numbers say so.
        let Some(Ok(Chunk { accepted, failed })) = self.under_way.join_next().await else { return };
        self.answer.accepted += accepted;
        self.answer.failures += failed.len() as u64;
        let room = NAMED.saturating_sub(self.answer.failed.len());
        self.answer.failed.extend(failed.iter().take(room).map(|(uid, error)| failure(uid, error)));
        if let Some((_, error)) = failed.into_iter().next_back() {
            self.failed = Some(error);
        }
    }
}

impl Ops {
    /// Sends a message to one chunk, and again to those of its users for whom a store had no time. Nothing is stored twice; what is
    /// transient might come twice, so it is tried once.
    async fn send_patiently(&self, letter: &Letter, part: Share, number: u32, uids: Vec<Uid>) -> Chunk {
        let mut chunk = self.send_chunk(letter, number, uids).await;
        drop(part);
        for pause in PAUSES.iter().filter(|_| !letter.transient) {
            if !chunk.failed.iter().any(|(_, error)| error.is_transient()) {
                break;
            }
            let pause = pause.mul_f64(rand::rng().random_range(0.5..1.5));
            sleep(pause).await;
            // Whoever takes the message back does not wait for pauses.
            let Ok(_part) = self.part_of(letter) else { break };
            let (again, mut failed): (Vec<_>, Vec<_>) =
                chunk.failed.into_iter().partition(|(_, error)| error.is_transient());
            let again =
                self.send_chunk(letter, number, again.into_iter().map(|(uid, _)| uid).collect()).await;
            failed.extend(again.failed);
            chunk = Chunk { accepted: chunk.accepted + again.accepted, failed };
        }
        chunk
    }

    /// Sends a message to one chunk of its users, or keeps it for them.
    async fn send_chunk(&self, letter: &Letter, part: u32, uids: Vec<Uid>) -> Chunk {
        let users = uids.len() as u64;
        if let Some(due) = letter.later() {
            return match self.keep(letter, due, part, uids.clone()).await {
                Ok(()) => Chunk { accepted: users, failed: Vec::new() },
                Err(error) => Chunk { accepted: 0, failed: all_failed(uids, &error) },
            };
        }
        if letter.transient {
            let mut answer = v1::MulticastResponse { targets: users, ..Default::default() };
            let failed = self.send_transients(letter, uids, &mut answer).await;
            return Chunk { accepted: answer.accepted, failed };
        }
        let Stored { placed, failed, accepted } = self.store_list(letter, letter.lifetime(), uids).await;
        self.deliver_to_all(letter, placed).await;
        Chunk { accepted, failed }
    }

    /// Lets a stored message be delivered to many users.
    pub(super) async fn deliver_to_all(&self, letter: &Letter, users: Vec<(Uid, proto::internal::Position)>) {
        if users.is_empty() {
            return;
        }
        let crowd = Crowd {
            app: letter.app.id,
            id: letter.id,
            accepted_ms: cluster::accepted_ms_of(letter.id),
            payload: letter.payload.clone(),
            collapse_key: letter.collapse_key.as_str().into(),
            urgent: letter.urgent,
            users,
        };
        self.delivery.gather(crowd).await;
    }
}

fn all_failed(uids: Vec<Uid>, error: &Error) -> Vec<(Uid, Error)> {
    uids.into_iter().map(|uid| (uid, error.clone())).collect()
}
