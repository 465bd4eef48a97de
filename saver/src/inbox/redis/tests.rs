//! The store on a real Redis: what every store does, and its own.

use super::*;
use crate::{
    inbox::{
        Record,
        conformance::{self, Bench, at, key, staging},
    },
    model::Staging,
};

mod walk;
mod words;

const NOW: u64 = 1_000_000;

/// A store on a server of its own.
struct Rig {
    store: RedisInboxes,
    servers: Servers,
    told: tokio::sync::Mutex<()>,
}

enum Servers {
    Single(stores::Redis),
    Cluster(stores::RedisCluster),
}

fn settings(nodes: Vec<String>, cluster: bool) -> RedisSettings {
    RedisSettings {
        nodes,
        cluster,
        name: "test".to_owned(),
        wait_replicas: 0,
        partitions: 4,
        journal_records: 100_000,
        journal_bytes: 64 << 20,
        ids: 4_000,
        words: 4_000,
        filter_bytes: 1 << 20,
        idle: Duration::from_secs(60),
        timeout: Duration::from_secs(2),
    }
}

impl Rig {
    async fn on(servers: Servers, change: impl FnOnce(&mut RedisSettings)) -> Self {
        let mut settings = match &servers {
            Servers::Single(redis) => settings(vec![redis.url()], false),
            Servers::Cluster(cluster) => settings(cluster.urls(), true),
        };
        change(&mut settings);
        let rig = Self {
            store: RedisInboxes::new(settings, Arc::new(|_| true)),
            servers,
            told: tokio::sync::Mutex::default(),
        };
        rig.store.stand_alone(Epoch(5), 0).await;
        rig
    }

    async fn single(change: impl FnOnce(&mut RedisSettings)) -> Self {
        Self::on(Servers::Single(stores::Redis::start().await.unwrap()), change).await
    }

    async fn place(&self, items: Vec<Staging>) -> Vec<InboxResult<Placed>> {
        let entries = items.into_iter().map(|staging| Entry { staging, multicast: false, checked: false });
        self.store.append(&entries.collect::<Vec<_>>(), NOW).await
    }

    fn all(&self) -> Vec<u32> {
        (0..self.store.partitions()).collect()
    }

    /// Takes all that the journals hold.
    async fn land(&self) -> Vec<Record> {
        let mut records = Vec::new();
        loop {
            let parts = self.store.journal(&self.all()).await.unwrap();
            if parts.is_empty() {
                return records;
            }
            let marks: Vec<_> = parts.iter().map(|p| (p.partition, p.mark.clone())).collect();
            records.extend(parts.into_iter().flat_map(|p| p.records));
            self.store.landed(&marks).await.unwrap();
        }
    }
}

impl Bench for Rig {
    type Store = RedisInboxes;

    fn store(&self) -> &RedisInboxes {
        &self.store
    }

    async fn append(&self, items: Vec<Staging>) -> Vec<Position> {
        let placed = self.place(items).await.into_iter().map(|p| match p.unwrap() {
            Placed::New(position) => position,
            other => panic!("{other:?}"),
        });
        placed.collect()
    }

    async fn left(&self, told: Vec<Finished>) -> Vec<(Row, State)> {
        let _one = self.told.lock().await;
        assert!(told.iter().all(|t| t.state == State::Recalled), "the journal tells of all else");
        let finished = self.land().await.into_iter().filter_map(|r| match r {
            Record::Finished(row, state) => Some((row, state)),
            Record::Appended(..) | Record::Reserved(_) => None,
        });
        finished.collect()
    }

    fn follows(&self, last: u64) -> u64 {
        last.max(life::first_of(Epoch(5))) + 1
    }

    async fn restart(&self, epoch: Epoch) {
        self.store.stand_alone(epoch, 0).await;
        self.land().await;
    }
}

mod single {
    use super::*;

    async fn make(_: Epoch) -> Rig {
        Rig::single(|_| {}).await
    }

    conformance::suite!(make);
}

mod clustered {
    use super::*;

    async fn make(_: Epoch) -> Rig {
        Rig::on(Servers::Cluster(stores::RedisCluster::start(3).await.unwrap()), |_| {}).await
    }

    conformance::suite!(make);
}

/// An append needs nobody but Redis; what the archive had comes before it, once it is asked.
#[tokio::test]
async fn an_absent_inbox_takes_appends() {
    let rig = Rig::single(|_| {}).await;
    let placed = rig.place(vec![staging("a", 5)]).await.remove(0).unwrap();
    let Placed::New(place) = placed else { panic!("{placed:?}") };
    let absent = rig.store.absent(&[key("a")]).await.unwrap();
    assert_eq!(absent.len(), 1, "it is there in part");
    // What is there of it can be acked.
    rig.place(vec![staging("a", 6)]).await.remove(0).unwrap();
    let acked = rig.store.ack(&[(key("a"), place)], NOW).await.unwrap();
    assert_eq!(acked, [Err(InboxError::Absent)]);
    assert_eq!(rig.left(vec![]).await, [(Row(5), State::Acked)]);
    let row = |id: u64, birth| Surviving {
        row: Row(id.cast_signed()),
        id: MessageId(id),
        birth,
        accepted_ms: NOW,
        expires_ms: 2 * NOW,
        payload_bytes: 3,
        collapse: None,
    };
    // Of the part itself, of the epoch to come, and over.
    let over = Surviving { expires_ms: NOW, ..row(3, at(4, 3)) };
    let rows = vec![row(1, at(2, 1)), row(2, at(4, 2)), over, row(5, place), row(9, at(9, 9 << 36))];
    rig.store.rebuild(&absent[0], rows, NOW).await.unwrap();
    let all = Read { after: None, acknowledges: false, max_messages: 99, max_bytes: 1 << 20 };
    let loaded = rig.store.load(&key("a"), all, 9, NOW).await.unwrap();
    assert_eq!(loaded.messages.iter().map(|m| m.id.0).collect::<Vec<_>>(), [1, 2, 6]);
    assert_eq!(loaded.start, at(5, 0));
}

/// Repeats are known, for as long as the archive cannot be asked for them.
#[tokio::test]
async fn repeats() {
    let rig = Rig::single(|s| (s.partitions, s.ids) = (1, 4)).await;
    let push = async |id: u64| rig.place(vec![staging("a", id)]).await.remove(0).unwrap();
    let Placed::New(first) = push(10).await else { panic!("new") };
    assert_eq!(push(10).await, Placed::Repeat(first));
    let twice = rig.place(vec![staging("a", 11), staging("a", 11)]).await;
    let Ok(Placed::New(second)) = twice[0] else { panic!("new") };
    assert_eq!(twice[1], Ok(Placed::Repeat(second)));
    rig.store.ack(&[(key("a"), first)], NOW).await.unwrap();
    assert_eq!(push(10).await, Placed::Repeat(Position { seq: Seq(0), ..first }));
    // Not landed: nothing is forgotten, however many there are.
    for id in 20..40 {
        assert!(matches!(push(id).await, Placed::New(_)));
    }
    assert!(matches!(push(11).await, Placed::Repeat(_)));
    rig.land().await;
    for id in 40..50 {
        assert!(matches!(push(id).await, Placed::New(_)));
        rig.land().await;
    }
    assert_eq!(push(11).await, Placed::Ask);
    let checked = Entry { staging: staging("a", 5), multicast: false, checked: true };
    let placed = rig.store.append(&[checked], NOW).await.remove(0).unwrap();
    assert!(matches!(placed, Placed::New(_)));
    // Many receivers of one message.
    let many = |uid: &str| Entry { staging: staging(uid, 60), multicast: true, checked: false };
    let placed = rig.store.append(&[many("a"), many("b")], NOW).await;
    assert!(placed.iter().all(|p| matches!(p, Ok(Placed::New(_)))));
    let placed = rig.store.append(&[many("b"), many("c")], NOW).await;
    assert!(matches!((&placed[0], &placed[1]), (Ok(Placed::Repeat(_)), Ok(Placed::New(_)))));
}

/// One payload of a multicast is enough for all lines of an entry.
#[tokio::test]
async fn the_journal_has_a_payload_once() {
    let rig = Rig::single(|s| s.partitions = 1).await;
    let many = |uid: &str| Entry { staging: staging(uid, 60), multicast: true, checked: false };
    rig.store.append(&[many("a"), many("b"), many("c")], NOW).await;
    let records = rig.land().await;
    let payloads = records.iter().filter(|r| matches!(r, Record::Appended(_, Some(p)) if p == "payload 60"));
    assert_eq!((records.len(), payloads.count()), (3, 1));
    assert_eq!(rig.store.lag(&rig.all()).await.unwrap(), Lag::default());
}

/// A full journal refuses appends, and acks later; landing opens it again.
#[tokio::test]
async fn a_full_journal_refuses() {
    let rig = Rig::single(|s| (s.partitions, s.journal_records) = (1, 10)).await;
    bring(&rig, "a").await;
    for id in 1..=10 {
        rig.place(vec![staging("a", id)]).await.remove(0).unwrap();
    }
    assert_eq!(rig.place(vec![staging("a", 11)]).await, [Err(InboxError::Behind)]);
    let base = life::first_of(Epoch(5));
    let ack = async |n| rig.store.ack(&[(key("a"), at(5, base + n))], NOW).await.unwrap().remove(0);
    assert_eq!(ack(10).await, Ok(vec![]));
    assert_eq!(ack(10).await, Err(InboxError::Behind));
    assert_eq!(rig.land().await.len(), 20);
    assert!(rig.place(vec![staging("a", 11)]).await[0].is_ok());
}

/// What has not landed stays; numbers go on after what was let go.
#[tokio::test]
async fn idle_inboxes_are_let_go_once_they_have_landed() {
    let rig = Rig::single(|_| {}).await;
    bring(&rig, "a").await;
    let last = rig.append(vec![staging("a", 1), staging("a", 2)]).await[1];
    let later = NOW + 120_000;
    assert_eq!(rig.store.upkeep(later).await.unwrap().evicted, 0);
    rig.land().await;
    assert_eq!(rig.store.upkeep(later + 120_000).await.unwrap().evicted, 1);
    let stale = rig.store.absent(&[key("a")]).await.unwrap();
    let next = rig.append(vec![staging("a", 3)]).await[0];
    assert!(next.seq > last.seq);
    rig.land().await;
    assert_eq!(rig.store.upkeep(later + 240_000).await.unwrap().evicted, 1);
    // A rebuild that read the archive before 3 was there would lose it.
    rig.store.rebuild(&stale[0], vec![], NOW).await.unwrap();
    assert_eq!(rig.store.absent(&[key("a")]).await.unwrap().len(), 1);
}

/// `maxmemory` refuses whole batches; what has landed makes room.
#[tokio::test]
async fn a_full_redis_refuses_and_lets_go() {
    let redis = stores::Redis::start_with(&["--maxmemory", "8mb", "--maxmemory-policy", "noeviction"]).await;
    let rig = Rig::on(Servers::Single(redis.unwrap()), |_| {}).await;
    let big = |id: u64| Staging { payload: vec![7; 50_000].into(), ..staging(&format!("u{id}"), id) };
    let mut stored = 0;
    let refused = loop {
        match rig.place(vec![big(stored + 1)]).await.remove(0) {
            Ok(_) => stored += 1,
            Err(e) => break e,
        }
    };
    assert_eq!(refused, InboxError::Full);
    assert!((10..200).contains(&stored), "{stored}");
    assert_eq!(rig.land().await.len() as u64, stored);
    assert!(rig.store.upkeep(NOW + 5_000_000).await.unwrap().evicted > 0);
    assert!(rig.place(vec![big(1_000)]).await[0].is_ok());
}

/// Scripts that the server has forgotten are sent again.
#[tokio::test]
async fn forgotten_scripts_are_sent_again() {
    let redis = stores::Redis::start().await.unwrap();
    let rig = Rig::on(Servers::Single(redis), |_| {}).await;
    rig.append(vec![staging("a", 1)]).await;
    let Servers::Single(redis) = &rig.servers else { unreachable!() };
    redis.call(&["SCRIPT", "FLUSH"]).await.unwrap();
    rig.append(vec![staging("a", 2), staging("b", 3), staging("c", 4)]).await;
}

async fn bring(rig: &Rig, uid: &str) {
    let absent = rig.store.absent(&[key(uid)]).await.unwrap();
    rig.store.rebuild(&absent[0], vec![], NOW).await.unwrap();
}

/// Deliveries of a message to many share a body, and their payload is kept once; it is read as if each had its own.
#[tokio::test]
async fn a_message_to_many_is_one_body() {
    let rig = Rig::single(|s| s.partitions = 2).await;
    let payload = bytes::Bytes::from(vec![9; 300]);
    let uids: Vec<String> = (0..40).map(|n| format!("user-{n}")).collect();
    let entry = |n: usize, collapse: Option<&str>| Entry {
        staging: Staging {
            row: Row(-(n as i64) - 1),
            payload: payload.clone(),
            collapse: collapse.map(Into::into),
            ..staging(&uids[n], 7)
        },
        multicast: true,
        checked: false,
    };
    let lone = Entry { staging: staging("lone", 8), multicast: false, checked: false };
    let list = |collapse| -> Vec<Entry> {
        let many = (0..40).map(|n| entry(n, collapse));
        // One in between, and one of them twice.
        many.clone().take(20).chain([lone.clone()]).chain(many.clone().skip(20)).chain(many.take(1)).collect()
    };
    let placed: Vec<Placed> =
        rig.store.append(&list(None), NOW).await.into_iter().map(Result::unwrap).collect();
    assert!(placed[..41].iter().all(|p| matches!(p, Placed::New(_))));
    let at = |p: &Placed| match p {
        Placed::New(at) | Placed::Repeat(at) => *at,
        Placed::Ask => panic!("it is new"),
    };
    assert_eq!(placed[41], Placed::Repeat(at(&placed[0])));
    let records = rig.land().await;
    let told =
        records.iter().filter(|r| matches!(r, Record::Appended(d, Some(p)) if d.id.0 == 7 && *p == payload));
    assert!((1..=4).contains(&told.count()));
    let lines = records.iter().filter(|r| matches!(r, Record::Appended(d, _) if d.payload_bytes == 300));
    assert_eq!(lines.count(), 40);
    let all = Read { after: None, acknowledges: false, max_messages: 99, max_bytes: 1 << 20 };
    for uid in uids.iter().map(String::as_str).chain(["lone"]) {
        bring(&rig, uid).await;
        let loaded = rig.store.load(&key(uid), all, 9, NOW).await.unwrap();
        let message = &loaded.messages[0];
        let own = if uid == "lone" { "payload 8".into() } else { payload.clone() };
        assert_eq!((message.payload.as_ref(), loaded.messages.len()), (Some(&own), 1), "{uid}");
    }
    // A repeat finds each, also the one that has left.
    rig.store.ack(&[(key("user-3"), at(&placed[3]))], NOW).await.unwrap();
    let again = rig.store.append(&list(None), NOW).await;
    for (n, (one, first)) in again.into_iter().zip(&placed).enumerate() {
        let Ok(Placed::Repeat(place)) = one else { panic!("{one:?}") };
        assert_eq!(place.seq, if n == 3 { Seq(0) } else { at(first).seq });
    }
    assert!(rig.land().await.iter().all(|r| matches!(r, Record::Finished(Row(-4), State::Acked))));
    // With a key: each replaces its user's own.
    let keyed = |n: u64| {
        list(Some("k")).into_iter().filter(|e| e.multicast).map(move |e| Entry {
            staging: Staging { id: MessageId(n), row: Row(e.staging.row.0 - 1000 * n as i64), ..e.staging },
            ..e
        })
    };
    rig.store.append(&keyed(9).collect::<Vec<_>>(), NOW).await;
    rig.land().await;
    let newer = rig.store.append(&keyed(10).collect::<Vec<_>>(), NOW).await;
    assert!(newer[..40].iter().all(|p| matches!(p, Ok(Placed::New(_)))));
    let ended = rig.land().await.into_iter().filter(|r| matches!(r, Record::Finished(_, State::Replaced)));
    assert_eq!(ended.count(), 40);
    let loaded = rig.store.load(&key("user-5"), all, 9, NOW).await.unwrap();
    let seen: Vec<_> = loaded.messages.iter().map(|m| (m.id.0, m.collapse.as_deref())).collect();
    assert_eq!(seen, [(7, None), (10, Some("k"))]);
    assert!(loaded.messages.iter().all(|m| m.payload.as_ref() == Some(&payload)));
}

/// An append to an inbox of which only a part is there replaces what the archive has of it once that comes, and tells it.
#[tokio::test]
async fn a_rebuild_replaces_what_is_older() {
    let rig = Rig::single(|_| {}).await;
    let keyed = |id: u64, collapse: &str| Staging { collapse: Some(collapse.into()), ..staging("a", id) };
    let absent = rig.store.absent(&[key("a")]).await.unwrap();
    rig.place(vec![keyed(10, "k"), staging("a", 11)]).await;
    rig.land().await;
    let row = |id: u64, seq, collapse: Option<&str>| Surviving {
        row: Row(id.cast_signed()),
        id: MessageId(id),
        birth: at(4, seq),
        accepted_ms: NOW,
        expires_ms: 2 * NOW,
        payload_bytes: 3,
        collapse: collapse.map(Into::into),
    };
    // Of those of "l" the archive was not told that the first was replaced: it was stored while the store was away.
    let rows = vec![row(1, 1, Some("k")), row(2, 2, Some("l")), row(3, 3, None), row(4, 4, Some("l"))];
    rig.store.rebuild(&absent[0], rows, NOW).await.unwrap();
    let mut left = rig.left(vec![]).await;
    left.sort_by_key(|(row, _)| row.0);
    assert_eq!(left, [(Row(1), State::Replaced), (Row(2), State::Replaced)]);
    let all = Read { after: None, acknowledges: false, max_messages: 99, max_bytes: 1 << 20 };
    let ids = |loaded: Loaded| loaded.messages.iter().map(|m| m.id.0).collect::<Vec<_>>();
    assert_eq!(ids(rig.store.load(&key("a"), all, 9, NOW).await.unwrap()), [3, 4, 10, 11]);
    assert_eq!(rig.store.depth(&key("a"), NOW).await.unwrap(), 4);
    rig.place(vec![keyed(12, "l"), keyed(13, "k")]).await;
    assert_eq!(ids(rig.store.load(&key("a"), all, 9, NOW).await.unwrap()), [3, 11, 12, 13]);
}
