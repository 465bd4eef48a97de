//! Takes a node id and a registration number, in one transaction.

use std::{collections::BTreeMap, time::Duration};

use etcd_client::{
    Compare, CompareOp, GetOptions, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse,
};

use tokio::time::sleep;

use super::{
    EtcdError, Holder, Wanted,
    backoff::Backoff,
    ids::{Choice, Taken, after, choose},
    link::Link,
};
use crate::{MAX_NODE_ID, NodeId};

/// After a round that another node won: about what a transaction takes.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Below the shortest lease, which runs meanwhile.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A node id, held under a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) id: NodeId,
    pub(crate) lease: i64,
    /// Number of this registration: greater than that of every earlier one in the cluster.
    pub(crate) number: u64,
    /// Revision of the id's key: as long as it has this one, the id is ours.
    pub(crate) revision: i64,
}

/// Why there is no claim.
#[derive(Debug)]
pub(crate) enum Unclaimed {
    /// Somebody else has the id.
    Taken { id: NodeId, by: Holder },
    /// All ids are taken.
    Exhausted,
    /// etcd did not do it.
    Etcd(EtcdError),
}

impl From<EtcdError> for Unclaimed {
    fn from(error: EtcdError) -> Self {
        Unclaimed::Etcd(error)
    }
}

/// What the claim is decided on.
struct Seen {
    born: bool,
    taken: BTreeMap<NodeId, Taken>,
    number: u64,
    number_revision: i64,
    next: u32,
    next_revision: i64,
}

/// Takes an id under a new lease. The registration's number is greater than `floor` and than every number in etcd.
pub(crate) async fn claim(
    link: &Link,
    wanted: Wanted,
    holder: &Holder,
    floor: u64,
) -> Result<Claim, Unclaimed> {
    let seconds = link.options().lease_seconds();
    let granted = link.call(async move |client| client.lease_client().grant(seconds, None).await).await?;
    let lease = granted.id();
    let claimed = under(link, wanted, holder, floor, lease).await;
    if claimed.is_err() {
        // It would end by itself; this only tidies up.
        let _ = link.call(async move |client| client.lease_client().revoke(lease).await).await;
    }
    claimed
}

async fn under(
    link: &Link,
    wanted: Wanted,
    holder: &Holder,
    floor: u64,
    lease: i64,
) -> Result<Claim, Unclaimed> {
    let keys = link.keys();
    let value = serde_json::to_vec(holder).unwrap_or_default();
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        let seen = look(link).await?;
        let (id, own_revision) = match choose(wanted, &holder.owner, &seen.taken, seen.next) {
            Choice::Free(id) => (id, None),
            Choice::Own { id, revision } => (id, Some(revision)),
            Choice::Refused { id, by } => return Err(Unclaimed::Taken { id, by }),
            Choice::Exhausted => return Err(Unclaimed::Exhausted),
        };
        let number = seen.number.max(floor) + 1;
        let mut when = vec![
            match own_revision {
                None => Compare::create_revision(keys.id(id), CompareOp::Equal, 0),
                Some(revision) => Compare::mod_revision(keys.id(id), CompareOp::Equal, revision),
            },
            Compare::mod_revision(keys.registrations(), CompareOp::Equal, seen.number_revision),
            Compare::mod_revision(keys.next_id(), CompareOp::Equal, seen.next_revision),
        ];
        let mut then = vec![
            TxnOp::put(keys.id(id), value.clone(), Some(PutOptions::new().with_lease(lease))),
            TxnOp::put(keys.registrations(), number.to_string(), None),
        ];
        if own_revision.is_none() {
            then.push(TxnOp::put(keys.next_id(), after(id).to_string(), None));
        }
        if !seen.born {
            when.push(Compare::create_revision(keys.birth(), CompareOp::Equal, 0));
            then.push(TxnOp::put(keys.birth(), super::random_word(), None));
        }
        let txn = Txn::new().when(when).and_then(then);
        let answer = link.call(async move |mut client| client.txn(txn).await).await?;
        if answer.succeeded() {
            let revision = answer.header().map_or(0, |h| h.revision());
            return Ok(Claim { id, lease, number, revision });
        }
        // Another node entered at the same time. One of us was first; the others spread out, so that a thousand nodes
        // that start together do not all try again with each that gets in.
        sleep(backoff.next()).await;
    }
}

async fn look(link: &Link) -> Result<Seen, EtcdError> {
    let keys = link.keys();
    let everything = Txn::new().and_then([
        TxnOp::get(keys.birth(), None),
        TxnOp::get(keys.registrations(), None),
        TxnOp::get(keys.next_id(), None),
        TxnOp::get(keys.ids(), Some(GetOptions::new().with_prefix())),
    ]);
    let answer = link.call(async move |mut client| client.txn(everything).await).await?;
    let [birth, registrations, next, ids] = parts(&answer);
    let (number, number_revision) = number(&keys.registrations(), &registrations)?;
    let (next, next_revision) = number_of_id(&keys.next_id(), &next)?;
    let mut taken = BTreeMap::new();
    for kv in &ids {
        let malformed = |reason: String| EtcdError::Malformed {
            key: String::from_utf8_lossy(kv.key()).into_owned(),
            reason,
        };
        let word = kv.key_str().ok().and_then(|key| key.strip_prefix(&keys.ids()));
        let id = word.and_then(|word| word.parse().ok()).map(NodeId);
        let id = id.ok_or_else(|| malformed("is no node id".to_owned()))?;
        let holder = serde_json::from_slice(kv.value()).map_err(|e| malformed(e.to_string()))?;
        taken.insert(id, Taken { holder, revision: kv.mod_revision() });
    }
    Ok(Seen { born: !birth.is_empty(), taken, number, number_revision, next, next_revision })
}

/// Whether a cluster has ever been entered in this etcd.
pub(crate) async fn is_empty(link: &Link) -> Result<bool, EtcdError> {
    Ok(!look(link).await?.born)
}

fn parts<const N: usize>(answer: &TxnResponse) -> [Vec<KeyValue>; N] {
    let mut all = answer.op_responses().into_iter().map(|part| match part {
        TxnOpResponse::Get(mut got) => got.take_kvs(),
        _ => Vec::new(),
    });
    std::array::from_fn(|_| all.next().unwrap_or_default())
}

/// A number that we keep in etcd and the revision of its key; both 0 where there is none.
fn number(key: &str, kvs: &[KeyValue]) -> Result<(u64, i64), EtcdError> {
    let Some(kv) = kvs.first() else { return Ok((0, 0)) };
    let malformed = || EtcdError::Malformed {
        key: key.to_owned(),
        reason: format!("holds {:?}, which is no number", String::from_utf8_lossy(kv.value())),
    };
    let number = kv.value_str().ok().and_then(|text| text.parse().ok());
    Ok((number.ok_or_else(malformed)?, kv.mod_revision()))
}

fn number_of_id(key: &str, kvs: &[KeyValue]) -> Result<(u32, i64), EtcdError> {
    let (number, revision) = number(key, kvs)?;
    Ok((u32::try_from(number).unwrap_or(MAX_NODE_ID), revision))
}
