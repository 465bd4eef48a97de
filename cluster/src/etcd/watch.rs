//! Follows a range of keys: a list, then every change from its revision on. After a break it goes on from where it
//! was; only what etcd has compacted or lost costs a new list.

use std::time::Duration;

use etcd_client::{
    Event, EventType, GetOptions, KeyValue, Txn, TxnOp, TxnOpResponse, WatchOptions, WatchStream,
};
use tokio::time::{Instant, sleep, timeout};

use super::{EtcdError, backoff::Backoff, link::Link};

/// First pause after a break: a member that restarts is away for longer, a lost connection is not.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause. A thousand nodes then ask a recovering etcd a few hundred times a second.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// A key and its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
    pub(crate) revision: i64,
}

/// What has become of a key.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Put(Entry),
    Deleted { key: String, revision: i64 },
}

/// Who wants to know.
pub(crate) trait Follower: Send {
    /// etcd is followed again after it was not for so long; `lost` = it does not have what it had.
    fn back(&mut self, away: Duration, lost: bool);
    /// All keys, as they are at this revision.
    fn list(&mut self, revision: i64, entries: Vec<Entry>);
    /// What has changed since.
    fn changes(&mut self, changes: Vec<Change>);
    /// etcd is not followed for now.
    fn away(&mut self, reason: &EtcdError);
}

/// How far we have come, and in which life of etcd's data.
struct Place {
    birth: Vec<u8>,
    revision: i64,
    /// What comes next has been compacted: it must be listed.
    compacted: bool,
}

/// Follows the keys that begin with `prefix`, for ever.
pub(crate) async fn follow(link: Link, prefix: String, follower: &mut impl Follower) {
    let mut place = None;
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut away = Instant::now();
    loop {
        let mut followed = false;
        let once = follow_once(&link, &prefix, &mut place, follower, away, &mut followed);
        let ended = Box::pin(once).await;
        if followed {
            backoff.reset();
            away = Instant::now();
            link.metrics().watch_restarts.inc();
        }
        if let Ended::Failed(error) = ended {
            if followed {
                follower.away(&error);
            }
            tracing::debug!(%error, prefix, "etcd is not followed");
            sleep(backoff.next()).await;
        }
    }
}

enum Ended {
    /// The place is older than what etcd keeps.
    Compacted,
    Failed(EtcdError),
}

/// Follows until that fails.
async fn follow_once(
    link: &Link,
    prefix: &str,
    place: &mut Option<Place>,
    follower: &mut impl Follower,
    away: Instant,
    followed: &mut bool,
) -> Ended {
    match begin(link, prefix, place, follower, away).await {
        Err(error) => Ended::Failed(error),
        Ok((stream, generation)) => {
            *followed = true;
            let ended = tokio::select! {
                ended = read(stream, place, follower) => ended,
                () = link.broken(generation) => {
                    Ended::Failed(EtcdError::Away("the connection has failed".to_owned()))
                }
            };
            if matches!(ended, Ended::Failed(_)) {
                link.give_up(generation);
            }
            ended
        }
    }
}

/// Lists if it must, and opens the stream of changes.
async fn begin(
    link: &Link,
    prefix: &str,
    place: &mut Option<Place>,
    follower: &mut impl Follower,
    away: Instant,
) -> Result<(WatchStream, u64), EtcdError> {
    let birth_key = link.keys().birth();
    let head = link.call(async |mut client| client.get(birth_key.clone(), None).await).await?;
    let birth = head.kvs().first().map(|kv| kv.value().to_vec()).unwrap_or_default();
    let revision = head.header().map_or(0, |h| h.revision());
    // An etcd that came back with other data may have a smaller revision, or by now a greater one.
    let other = |p: &Place| !p.birth.is_empty() && p.birth != birth;
    let lost = place.as_ref().is_some_and(|p| other(p) || p.revision > revision);
    // Before the first node has entered there is no word to know the data by.
    let resume = !lost && !birth.is_empty();
    match place {
        Some(p) if resume && !p.compacted => follower.back(away.elapsed(), false),
        _ => {
            let (birth, revision, entries) = list(link, prefix).await?;
            follower.back(away.elapsed(), lost);
            follower.list(revision, entries);
            *place = Some(Place { birth, revision, compacted: false });
        }
    }
    let next = place.as_ref().map_or(0, |p| p.revision + 1);
    let connection = link.connection().await?;
    let options = WatchOptions::new().with_prefix().with_progress_notify().with_start_revision(next);
    let mut client = connection.client;
    let opened = timeout(link.options().patience(), client.watch(prefix, Some(options))).await;
    let opened = opened.map_err(|_| EtcdError::Away("no answer in time".to_owned())).and_then(|o| Ok(o?));
    if opened.is_err() {
        link.give_up(connection.generation);
    }
    Ok((opened?, connection.generation))
}

/// All keys below `prefix`, with the word by which the data is known.
async fn list(link: &Link, prefix: &str) -> Result<(Vec<u8>, i64, Vec<Entry>), EtcdError> {
    let everything = Txn::new().and_then([
        TxnOp::get(link.keys().birth(), None),
        TxnOp::get(prefix, Some(GetOptions::new().with_prefix())),
    ]);
    let answer = link.call(async |mut client| client.txn(everything.clone()).await).await?;
    let revision = answer.header().map_or(0, |h| h.revision());
    let mut parts = answer.op_responses().into_iter().map(|part| match part {
        TxnOpResponse::Get(mut got) => got.take_kvs(),
        _ => Vec::new(),
    });
    let birth = parts.next().unwrap_or_default().first().map(|kv| kv.value().to_vec()).unwrap_or_default();
    Ok((birth, revision, parts.next().unwrap_or_default().iter().filter_map(entry).collect()))
}

/// Keys are ours; one that is not UTF-8 is none.
fn entry(kv: &KeyValue) -> Option<Entry> {
    let key = kv.key_str().ok()?.to_owned();
    Some(Entry { key, value: kv.value().to_vec(), revision: kv.mod_revision() })
}

async fn read(mut stream: WatchStream, place: &mut Option<Place>, follower: &mut impl Follower) -> Ended {
    loop {
        let message = match stream.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return Ended::Failed(EtcdError::Away("the stream has ended".to_owned())),
            Err(error) => return Ended::Failed(error.into()),
        };
        if message.compact_revision() > 0 {
            tracing::info!(
                revision = message.compact_revision(),
                "etcd has compacted what came next: listing"
            );
            if let Some(place) = place {
                place.compacted = true;
            }
            return Ended::Compacted;
        }
        if message.canceled() {
            return Ended::Failed(EtcdError::Away(format!("cancelled: {}", message.cancel_reason())));
        }
        let changes: Vec<_> = message.events().iter().filter_map(change).collect();
        // Only the events themselves, or a message that says so without any, tell how far we are.
        let reached = match changes.last() {
            Some(Change::Put(Entry { revision, .. }) | Change::Deleted { revision, .. }) => Some(*revision),
            None if !message.created() => message.header().map(|h| h.revision()),
            None => None,
        };
        if let (Some(place), Some(reached)) = (place.as_mut(), reached) {
            place.revision = place.revision.max(reached);
        }
        if !changes.is_empty() {
            follower.changes(changes);
        }
    }
}

fn change(event: &Event) -> Option<Change> {
    let entry = entry(event.kv()?)?;
    Some(match event.event_type() {
        EventType::Put => Change::Put(entry),
        EventType::Delete => Change::Deleted { key: entry.key, revision: entry.revision },
    })
}
