//! The gRPC service: translation, and nothing else.

mod jobs;
mod translate;

use std::collections::HashMap;

use bytes::Bytes;
use proto::internal::{self as rpc, saver_server::Saver};
use tonic::{Request, Response, Status, metadata::MetadataValue};
use wire::id::{AppId, Bseq, Uid};

use crate::{
    archive::{ApiKey, Archive, NewBroadcast, Reservation},
    engine::{AckItem, Append, Engine, LoadItem},
    error::Refused,
    inbox::InboxStore,
    model::{InboxKey, Read},
};
use translate::{
    append_result, collapse_key, cursor, durability, key, load_result, message_id, offset, position, stored,
    word,
};

/// Times, ids and numbers are stored as signed 64-bit integers.
const GREATEST: u64 = i64::MAX as u64;

/// Longest idempotency key; callers allow 128.
const MAX_WORD_BYTES: usize = 256;

/// The saver, as the other services call it.
pub struct Rpc<I, A>(pub Engine<I, A>);

type Answer<T> = Result<Response<T>, Status>;

impl<I: InboxStore, A: Archive> Rpc<I, A> {
    fn owned(&self, app: u32, uid: &str) -> Result<InboxKey, Refused> {
        let key = key(app, uid)?;
        if self.0.owns(&key) { Ok(key) } else { Err(Refused::NotOwner) }
    }

    fn append_of(&self, item: &rpc::Append) -> Result<Append, Refused> {
        if item.uids.is_empty() {
            return Err(Refused::bad("no_users", "a message needs a receiver"));
        }
        Ok(Append {
            id: message_id(item.id)?,
            keys: item.uids.iter().map(|uid| self.owned(item.app, uid)).collect::<Result<_, _>>()?,
            // A slice of the request would keep all of the request in memory.
            payload: Bytes::copy_from_slice(&item.payload),
            accepted_ms: item.accepted_ms.min(GREATEST),
            expires_ms: item.expires_ms.min(GREATEST),
            inbox_cap: (item.inbox_cap > 0).then_some(item.inbox_cap as usize),
            multicast: item.multicast,
            durability: durability(item.durability()),
            collapse: collapse_key(&item.collapse_key)?,
        })
    }

    fn load_of(&self, item: &rpc::LoadItem) -> Result<LoadItem, Refused> {
        Ok(LoadItem {
            key: self.owned(item.app, &item.uid)?,
            read: Read {
                after: item.after.map(position),
                acknowledges: item.acknowledges,
                max_messages: item.max_messages as usize,
                max_bytes: item.max_bytes as usize,
            },
            bind: item.bind,
            own_cursor: item.own_cursor.map(cursor),
            utc_offset_min: item.utc_offset_min.filter(|_| item.bind).map(offset),
        })
    }
}

/// Does the good items of a batch and puts the answers and refusals in the order of the items.
async fn each<T, R, F: Future<Output = Vec<Result<R, Refused>>>>(
    items: Vec<Result<T, Refused>>,
    work: impl FnOnce(Vec<T>) -> F,
) -> Vec<Result<R, Refused>> {
    let mut bad = Vec::with_capacity(items.len());
    let mut good = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Ok(item) => {
                good.push(item);
                bad.push(None);
            }
            Err(e) => bad.push(Some(e)),
        }
    }
    let mut done = if good.is_empty() { Vec::new() } else { work(good).await }.into_iter();
    bad.into_iter().map(|bad| bad.map_or_else(|| done.next().unwrap_or(Err(Refused::Ending)), Err)).collect()
}

#[tonic::async_trait]
impl<I: InboxStore, A: Archive> Saver for Rpc<I, A> {
    async fn put_job(&self, request: Request<rpc::PutJobRequest>) -> Answer<rpc::JobResponse> {
        Ok(Response::new(jobs::put(&self.0, request.into_inner()).await))
    }

    async fn find_job(&self, request: Request<rpc::FindJobRequest>) -> Answer<rpc::JobResponse> {
        Ok(Response::new(jobs::find(&self.0, request.into_inner()).await))
    }

    async fn active_jobs(&self, _: Request<rpc::ActiveJobsRequest>) -> Answer<rpc::JobsResponse> {
        let jobs = self.0.active_jobs().await?;
        Ok(Response::new(rpc::JobsResponse { jobs, counts: Vec::new() }))
    }

    async fn list_jobs(&self, request: Request<rpc::ListJobsRequest>) -> Answer<rpc::JobsResponse> {
        Ok(Response::new(jobs::list(&self.0, request.into_inner()).await?))
    }

    async fn change_job(&self, request: Request<rpc::ChangeJobRequest>) -> Answer<rpc::JobResponse> {
        Ok(Response::new(jobs::change(&self.0, request.into_inner()).await))
    }

    async fn release_job(&self, request: Request<rpc::ReleaseJobRequest>) -> Answer<rpc::ReleaseJobResponse> {
        Ok(Response::new(jobs::release(&self.0, request.into_inner()).await))
    }

    async fn put_parts(&self, request: Request<rpc::PutPartsRequest>) -> Answer<rpc::PutPartsResponse> {
        jobs::put_parts(&self.0, request.into_inner()).await?;
        Ok(Response::new(rpc::PutPartsResponse {}))
    }

    async fn targets(&self, request: Request<rpc::TargetsRequest>) -> Answer<rpc::TargetsResponse> {
        let r = request.into_inner();
        let Ok(id) = message_id(r.id) else { return Ok(Response::new(rpc::TargetsResponse::default())) };
        let page = self.0.targets(AppId(r.app), id, &r.after_uid, r.limit as usize).await?;
        let targets =
            page.targets.into_iter().map(|t| rpc::TargetState { uid: t.uid.into(), state: word(t.state) });
        Ok(Response::new(rpc::TargetsResponse { targets: targets.collect(), more: page.more }))
    }

    async fn put_scheduled(
        &self,
        request: Request<rpc::PutScheduledRequest>,
    ) -> Answer<rpc::PutScheduledResponse> {
        let mut push = request.into_inner().push.unwrap_or_default();
        push.due_ms = push.due_ms.min(GREATEST);
        let first = push.uids.first().map_or("", String::as_str);
        let checked = message_id(push.id).and_then(|_| self.owned(push.app, first));
        let result = match checked {
            Ok(key) => self.0.put_scheduled(&key, push).await,
            Err(e) => Err(e),
        };
        Ok(Response::new(match result {
            Ok(repeated) => rpc::PutScheduledResponse { repeated, refusal: None },
            Err(e) => rpc::PutScheduledResponse { repeated: false, refusal: Some((&e).into()) },
        }))
    }

    async fn due_scheduled(
        &self,
        request: Request<rpc::DueScheduledRequest>,
    ) -> Answer<rpc::ScheduledResponse> {
        let r = request.into_inner();
        let pushes = self.0.due_scheduled(r.now_ms.min(GREATEST), r.limit as usize).await?;
        Ok(Response::new(rpc::ScheduledResponse { pushes }))
    }

    async fn list_scheduled(
        &self,
        request: Request<rpc::ListScheduledRequest>,
    ) -> Answer<rpc::ScheduledResponse> {
        let r = request.into_inner();
        let pushes = self.0.list_scheduled(AppId(r.app), r.limit as usize).await?;
        Ok(Response::new(rpc::ScheduledResponse { pushes }))
    }

    async fn remove_scheduled(
        &self,
        request: Request<rpc::RemoveScheduledRequest>,
    ) -> Answer<rpc::RemoveScheduledResponse> {
        let r = request.into_inner();
        let removed = self.0.remove_scheduled(AppId(r.app), message_id(r.id)?, r.part).await?;
        Ok(Response::new(rpc::RemoveScheduledResponse { removed }))
    }

    async fn utc_offsets(&self, request: Request<rpc::UtcOffsetsRequest>) -> Answer<rpc::UtcOffsetsResponse> {
        let r = request.into_inner();
        let keys: Vec<InboxKey> =
            r.uids.iter().map(|uid| self.owned(r.app, uid)).collect::<Result<_, _>>()?;
        let offsets = self.0.utc_offsets(&keys).await?;
        Ok(Response::new(rpc::UtcOffsetsResponse {
            offsets_min: offsets.into_iter().map(i32::from).collect(),
        }))
    }

    async fn append(&self, request: Request<rpc::AppendRequest>) -> Answer<rpc::AppendResponse> {
        let items = request.get_ref().items.iter().map(|item| self.append_of(item)).collect();
        drop(request);
        let results = each(items, |items| self.0.append(items)).await;
        let results = results.into_iter().map(append_result).collect();
        let mut answer = Response::new(rpc::AppendResponse { results });
        if self.0.is_shared() {
            answer.metadata_mut().insert(peers::SHARED, MetadataValue::from_static("1"));
        }
        Ok(answer)
    }

    async fn load(&self, request: Request<rpc::LoadRequest>) -> Answer<rpc::LoadResponse> {
        let items = request.get_ref().items.iter().map(|item| self.load_of(item)).collect();
        let results = each(items, |items| self.0.load(items)).await;
        Ok(Response::new(rpc::LoadResponse { results: results.into_iter().map(load_result).collect() }))
    }

    async fn ack(&self, request: Request<rpc::AckRequest>) -> Answer<rpc::AckResponse> {
        let mut moved = false;
        let items = request.into_inner().items.into_iter().map(|item| {
            // What another saver owns now, or nobody ever did, is passed over: acks are repeated by themselves. But what
            // would be counted is told again only after an error.
            let credits = jobs::credits(&item.credits);
            let key = self.owned(item.app, &item.uid);
            moved |= !credits.is_empty() && matches!(key, Err(Refused::NotOwner));
            let (inbox, cursor) = (item.inbox.map(position), item.cursor.map(cursor));
            Some(AckItem { key: key.ok()?, inbox, cursor, credits })
        });
        let items = items.collect::<Vec<_>>();
        self.0.ack(items.into_iter().flatten().collect()).await?;
        if moved { Err(Refused::NotOwner.into()) } else { Ok(Response::new(rpc::AckResponse {})) }
    }

    async fn reserve(&self, request: Request<rpc::ReserveRequest>) -> Answer<rpc::ReserveResponse> {
        let r = request.into_inner();
        let durability = durability(r.durability());
        let long = r.key.is_empty() || r.key.len() > MAX_WORD_BYTES;
        let id = message_id(r.id).and_then(|id| match long {
            true => Err(Refused::bad("bad_idempotency_key", "an idempotency key has 1 to 256 bytes")),
            false => Ok(id),
        });
        let reservation = id.map(|id| Reservation {
            app: AppId(r.app),
            word: r.key,
            id,
            fingerprint: r.fingerprint,
            expires_ms: r.expires_ms.min(GREATEST),
        });
        let result = match reservation {
            Ok(reservation) => self.0.reserve(reservation, durability).await,
            Err(e) => Err(e),
        };
        Ok(Response::new(match result {
            Ok(done) => rpc::ReserveResponse {
                id: done.id.0,
                repeated: done.repeated,
                mismatch: done.mismatch,
                refusal: None,
            },
            Err(e) => rpc::ReserveResponse { refusal: Some((&e).into()), ..rpc::ReserveResponse::default() },
        }))
    }

    async fn recall(&self, request: Request<rpc::RecallRequest>) -> Answer<rpc::RecallResponse> {
        let r = request.into_inner();
        let most = if r.max_users == 0 { usize::MAX } else { r.max_users as usize };
        let outcome = self.0.recall(AppId(r.app), message_id(r.id)?, r.after_uid, most).await?;
        let texts = |uids: Vec<Uid>| uids.into_iter().map(String::from).collect();
        Ok(Response::new(rpc::RecallResponse {
            recalled: texts(outcome.recalled),
            delivered: texts(outcome.delivered),
            next_uid: outcome.next,
        }))
    }

    async fn ledger(&self, request: Request<rpc::LedgerRequest>) -> Answer<rpc::LedgerResponse> {
        let r = request.into_inner();
        let Ok(id) = message_id(r.id) else { return Ok(Response::new(rpc::LedgerResponse::default())) };
        let ledger = self.0.ledger(AppId(r.app), id).await?;
        let dropped: HashMap<String, u64> =
            ledger.dropped.into_iter().map(|(reason, n)| (reason.to_owned(), n)).collect();
        Ok(Response::new(rpc::LedgerResponse {
            found: ledger.found,
            accepted_ms: ledger.accepted_ms,
            expires_ms: ledger.expires_ms,
            multicast: ledger.multicast,
            targets: ledger.targets,
            acked: ledger.acked,
            stored: ledger.stored,
            expired: ledger.expired,
            dropped,
            recalled: ledger.recalled,
            broadcast: ledger.broadcast.map(stored),
            counts: ledger.counts.map(jobs::counts),
        }))
    }

    async fn depth(&self, request: Request<rpc::DepthRequest>) -> Answer<rpc::DepthResponse> {
        let r = request.into_inner();
        let depth = self.0.depth(&self.owned(r.app, &r.uid)?).await?;
        Ok(Response::new(rpc::DepthResponse { depth }))
    }

    async fn append_broadcast(
        &self,
        request: Request<rpc::AppendBroadcastRequest>,
    ) -> Answer<rpc::AppendBroadcastResponse> {
        let r = request.into_inner();
        let broadcast = message_id(r.id).map(|id| NewBroadcast {
            app: AppId(r.app),
            id,
            payload: Bytes::copy_from_slice(&r.payload),
            audience: r.audience,
            filter: r.filter,
            accepted_ms: r.accepted_ms.min(GREATEST),
            expires_ms: r.expires_ms.min(GREATEST),
        });
        let result = match broadcast {
            Ok(broadcast) => self.0.append_broadcast(broadcast).await,
            Err(e) => Err(e),
        };
        Ok(Response::new(match result {
            Ok(done) => rpc::AppendBroadcastResponse {
                epoch: done.place.epoch.0,
                bseq: done.place.bseq.0,
                repeated: done.repeated,
                refusal: None,
            },
            Err(e) => rpc::AppendBroadcastResponse { refusal: Some((&e).into()), ..Default::default() },
        }))
    }

    async fn load_broadcasts(
        &self,
        request: Request<rpc::LoadBroadcastsRequest>,
    ) -> Answer<rpc::LoadBroadcastsResponse> {
        let r = request.into_inner();
        let (messages, bytes) = (r.max_messages as usize, r.max_bytes as usize);
        let after = Bseq(r.after_bseq.min(GREATEST));
        Ok(Response::new(match self.0.load_broadcasts(AppId(r.app), after, messages, bytes).await {
            Ok(mut page) => {
                jobs::once(&mut page.broadcasts);
                rpc::LoadBroadcastsResponse {
                    epoch: page.head.epoch.0,
                    broadcasts: page.broadcasts.into_iter().map(stored).collect(),
                    through: page.through.0,
                    more: page.more,
                    head: page.head.bseq.0,
                    refusal: None,
                }
            }
            Err(e) => rpc::LoadBroadcastsResponse { refusal: Some((&e).into()), ..Default::default() },
        }))
    }

    async fn recall_broadcast(
        &self,
        request: Request<rpc::RecallBroadcastRequest>,
    ) -> Answer<rpc::RecallBroadcastResponse> {
        let r = request.into_inner();
        let recalled = self.0.recall_broadcast(AppId(r.app), message_id(r.id)?).await?;
        Ok(Response::new(rpc::RecallBroadcastResponse { recalled }))
    }

    async fn broadcast_heads(
        &self,
        request: Request<rpc::BroadcastHeadsRequest>,
    ) -> Answer<rpc::BroadcastHeadsResponse> {
        let apps: Vec<AppId> = request.into_inner().apps.into_iter().map(AppId).collect();
        let heads = self.0.heads(&apps).await?.into_iter().map(|(app, head)| rpc::BroadcastHead {
            app: app.0,
            epoch: head.epoch.0,
            head: head.bseq.0,
        });
        Ok(Response::new(rpc::BroadcastHeadsResponse { heads: heads.collect() }))
    }

    async fn apps(&self, request: Request<rpc::AppsRequest>) -> Answer<rpc::AppsResponse> {
        let (apps, revision) = self.0.apps(request.into_inner().after_revision.min(GREATEST)).await?;
        Ok(Response::new(rpc::AppsResponse { apps, revision }))
    }

    async fn put_app(&self, request: Request<rpc::PutAppRequest>) -> Answer<rpc::PutAppResponse> {
        let app = request.into_inner().app.unwrap_or_default();
        if app.key.is_empty() {
            let e = Refused::bad("bad_app", "an app needs a key");
            return Ok(Response::new(rpc::PutAppResponse { app: None, refusal: Some((&e).into()) }));
        }
        Ok(Response::new(match self.0.put_app(app).await {
            Ok(app) => rpc::PutAppResponse { app: Some(app), refusal: None },
            Err(e) => rpc::PutAppResponse { app: None, refusal: Some((&e).into()) },
        }))
    }

    async fn put_key(&self, request: Request<rpc::PutKeyRequest>) -> Answer<rpc::PutKeyResponse> {
        let r = request.into_inner();
        let key = ApiKey {
            hash: r.hash,
            app: AppId(r.app),
            scopes: r.scopes,
            created_ms: r.created_ms.min(GREATEST),
        };
        let refusal = self.0.put_key(key).await.err().map(|e| (&e).into());
        Ok(Response::new(rpc::PutKeyResponse { refusal }))
    }

    async fn find_key(&self, request: Request<rpc::FindKeyRequest>) -> Answer<rpc::FindKeyResponse> {
        Ok(Response::new(match self.0.find_key(&request.into_inner().hash).await? {
            Some(key) => rpc::FindKeyResponse { found: true, app: key.app.0, scopes: key.scopes },
            None => rpc::FindKeyResponse::default(),
        }))
    }
}
