//! What goes to one saver.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use cluster::{Role, Transport};
use flow::Batcher;
use proto::internal::{self as rpc, saver_client::SaverClient};

use crate::{
    PeerError,
    limits::{LOAD_BATCH_BYTES, MAX_ANSWER_BYTES},
    wire::{Control, Line, Parcels, Wire},
};

/// An item's fields apart from payload and names, encoded; an estimate is good enough for a bound.
const FIELDS: usize = 48;
/// A credit's fields, encoded.
const CREDIT: usize = 24;
/// Metadata of a saver's answers to appends that says that its stores are those of all savers.
pub const SHARED: &str = "longwire-shared";
/// What a load without a bound of its own is taken to answer.
const LOAD_BYTES: usize = 256 << 10;

pub(crate) struct SaverLine {
    append: Batcher<rpc::Append, rpc::AppendResult, PeerError>,
    /// A call is answered as a whole: what is `fast` would wait for the archive with these.
    append_safe: Batcher<rpc::Append, rpc::AppendResult, PeerError>,
    load: Batcher<rpc::LoadItem, rpc::LoadResult, PeerError>,
    /// A device that comes can wait for others that come; who misses a message must not.
    load_bind: Batcher<rpc::LoadItem, rpc::LoadResult, PeerError>,
    /// Devices that come together.
    pub(super) loads: Parcels,
    ack: Batcher<rpc::AckItem, (), PeerError>,
    /// Those with credits are answered when the archive has them: what only leaves an inbox must not wait for that.
    ack_credits: Batcher<rpc::AckItem, (), PeerError>,
    pub(super) reserve: Batcher<rpc::ReserveRequest, rpc::ReserveResponse, PeerError>,
    pub(super) depth: Batcher<rpc::DepthRequest, rpc::DepthResponse, PeerError>,
    pub(super) find_key: Batcher<rpc::FindKeyRequest, rpc::FindKeyResponse, PeerError>,
    pub(super) control: Control,
    client: SaverClient<Transport>,
    /// It has said that its stores are those of all savers.
    shares: Arc<AtomicBool>,
}

impl SaverLine {
    /// What gathers appends of the item's class.
    pub(super) fn append(&self, item: &rpc::Append) -> &Batcher<rpc::Append, rpc::AppendResult, PeerError> {
        match item.durability() {
            rpc::Durability::Safe => &self.append_safe,
            rpc::Durability::Fast | rpc::Durability::Unspecified => &self.append,
        }
    }

    /// What gathers acks of the item's kind.
    pub(super) fn acks(&self, item: &rpc::AckItem) -> &Batcher<rpc::AckItem, (), PeerError> {
        if item.credits.is_empty() { &self.ack } else { &self.ack_credits }
    }

    /// What gathers loads of the item's kind.
    pub(super) fn load(&self, item: &rpc::LoadItem) -> &Batcher<rpc::LoadItem, rpc::LoadResult, PeerError> {
        if item.bind { &self.load_bind } else { &self.load }
    }

    /// A client for a call by [`SaverLine::control`].
    pub(super) fn client(&self) -> SaverClient<Transport> {
        self.client.clone()
    }
}

impl Line for SaverLine {
    const ROLE: Role = Role::Saver;

    fn serves_any(&self) -> bool {
        self.shares.load(Ordering::Relaxed)
    }

    fn open(wire: &mut Wire) -> Self {
        let limits = wire.limits;
        let client = SaverClient::new(wire.transport()).max_decoding_message_size(MAX_ANSWER_BYTES);
        let shares = Arc::<AtomicBool>::default();
        let mut appends = |name| {
            let (c, said) = (client.clone(), shares.clone());
            // What has waited for half of its time would hardly be answered within the rest; its caller had better know now.
            wire.batcher_within(
                name,
                limits.batch(),
                Some(limits.deadline / 2),
                Some((limits.batch_bytes, append_bytes)),
                move |items| {
                    let (mut c, said) = (c.clone(), said.clone());
                    async move {
                        let answer = c.append(rpc::AppendRequest { items }).await?;
                        said.store(answer.metadata().contains_key(SHARED), Ordering::Relaxed);
                        Ok(answer.into_inner().results)
                    }
                },
            )
        };
        let (append, append_safe) = (appends("saver_append"), appends("saver_append_safe"));
        let c = client.clone();
        let loads = move |items| {
            let mut c = c.clone();
            async move { Ok(c.load(rpc::LoadRequest { items }).await?.into_inner().results) }
        };
        let weight = Some((LOAD_BATCH_BYTES, load_bytes as fn(&rpc::LoadItem) -> usize));
        let load = wire.batcher("saver_load", limits.batch(), weight, loads.clone());
        let load_bind = wire.paced("saver_load_bind", limits.batch(), weight, loads);
        let mut acks = |name| {
            let c = client.clone();
            let weigh = (limits.batch_bytes, ack_bytes as fn(&rpc::AckItem) -> usize);
            wire.batcher(name, limits.batch(), Some(weigh), move |items: Vec<rpc::AckItem>| {
                let mut c = c.clone();
                async move {
                    let count = items.len();
                    c.ack(rpc::AckRequest { items }).await?;
                    Ok(vec![(); count])
                }
            })
        };
        let (ack, ack_credits) = (acks("saver_ack"), acks("saver_ack_credits"));
        let c = client.clone();
        let reserve = wire.singles("saver_reserve", limits.control_calls, move |request| {
            let mut c = c.clone();
            async move { c.reserve(request).await }
        });
        let c = client.clone();
        let depth = wire.singles("saver_depth", limits.control_calls, move |request| {
            let mut c = c.clone();
            async move { c.depth(request).await }
        });
        let c = client.clone();
        let find_key = wire.singles("saver_find_key", limits.control_calls, move |request| {
            let mut c = c.clone();
            async move { c.find_key(request).await }
        });
        Self {
            append,
            append_safe,
            load,
            load_bind,
            loads: wire.parcels("saver_load_bind"),
            ack,
            ack_credits,
            reserve,
            depth,
            find_key,
            control: wire.control(),
            client,
            shares,
        }
    }
}

fn append_bytes(item: &rpc::Append) -> usize {
    item.payload.len() + item.uids.iter().map(|uid| uid.len() + 2).sum::<usize>() + FIELDS
}

fn ack_bytes(item: &rpc::AckItem) -> usize {
    item.uid.len() + FIELDS + item.credits.len() * CREDIT
}

/// How many loads like this one share a call.
pub(super) fn loads_of_a_call(item: &rpc::LoadItem) -> usize {
    LOAD_BATCH_BYTES / load_bytes(item).max(1)
}

/// A load is small; what weighs is its answer.
fn load_bytes(item: &rpc::LoadItem) -> usize {
    if item.max_bytes == 0 { LOAD_BYTES } else { item.max_bytes as usize }
}
