//! What class `fast` does without MySQL, and what neither store may forget: idempotency keys, and binds.

#![allow(clippy::unwrap_used, reason = "a failure ends the run")]

mod shared;

use saver::{
    archive::{Credit, CreditKind, NewBroadcast, Reservation, Reserved},
    engine::{AckItem, Append, Durability, Durability::Fast, Durability::Safe, LoadItem, LoadedInbox},
    error::Refused,
    inbox::InboxStore as _,
    model::Read,
};
use shared::{APP, NOW, Saver, Servers, append, eventually, id, key};
use stores::Data;
use wire::id::{Bseq, Cursor, MessageId, Position, Seq};

const DAY: u64 = 86_400_000;

impl Saver {
    /// Ties a key; tells the id that it is tied to.
    async fn tie(&self, word: &str, n: u64, class: Durability) -> Result<u64, Refused> {
        let wanted = Reservation {
            app: APP,
            word: word.to_owned(),
            id: MessageId(id(n)),
            fingerprint: word.to_owned().into(),
            expires_ms: NOW + DAY,
        };
        let Reserved { id: tied, repeated, mismatch } = self.engine.reserve(wanted, Some(class)).await?;
        assert!(!mismatch && (repeated || tied == MessageId(id(n))));
        Ok(tied.0 - id(0))
    }

    async fn bind(&self, uid: &str, own_cursor: Option<Cursor>) -> Result<LoadedInbox, Refused> {
        let read = Read { after: None, acknowledges: false, max_messages: 9, max_bytes: 1 << 20 };
        self.engine
            .load(vec![LoadItem { key: key(uid), read, bind: true, own_cursor, utc_offset_min: None }])
            .await
            .remove(0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_class_fast_go_on_without_mysql() {
    let servers = Servers::start().await;
    let (saver, other) = (servers.saver(|_| {}).await, servers.saver(|_| {}).await);
    assert_eq!(saver.tie("before", 1, Fast).await, Ok(1));
    assert_eq!(saver.tie("safe", 2, Safe).await, Ok(2));
    servers.mysql.kill().await.unwrap();

    assert_eq!(saver.tie("before", 11, Fast).await, Ok(1));
    assert_eq!(other.tie("before", 12, Fast).await, Ok(1));
    assert_eq!(saver.tie("safe", 13, Fast).await, Ok(2), "the class was changed");
    let all = (20..60).map(|n| {
        let saver = if n % 2 == 0 { &saver } else { &other };
        async move { saver.tie("new", n, Fast).await.unwrap() }
    });
    let all = futures::future::join_all(all).await;
    let new = all[0];
    assert!(all.iter().all(|n| *n == new), "one key has one id: {all:?}");
    for n in 100..200 {
        assert_eq!(saver.tie(&format!("key {n}"), n, Fast).await, Ok(n));
        saver.push(append(n, &["a"])).await.unwrap();
    }
    // Those that share a call with what is refused are not.
    let mixed = [(201, Safe), (202, Fast), (203, Safe), (204, Fast)];
    let mixed = mixed.map(|(n, class)| Append { durability: Some(class), ..append(n, &["a"]) });
    let done: Vec<bool> = saver.engine.append(mixed.into()).await.iter().map(Result::is_ok).collect();
    assert_eq!(done, [false, true, false, true]);
    let refused = saver.tie("safe too", 3, Safe).await.unwrap_err();
    assert_eq!((refused.code(), refused.retry_after_ms()), ("archive_unavailable", Some(2000)));
    let refused = saver.tie("safe too", 3, Fast).await.unwrap_err();
    assert_eq!(refused.code(), "archive_unavailable", "MySQL may have it");

    servers.mysql.start_again().await.unwrap();
    eventually(|| async { saver.tie("safe too", 4, Safe).await.is_ok() }).await;
    let tied = saver.tie("safe too", 5, Fast).await.unwrap();
    assert!([3, 4].contains(&tied), "{tied}");
    saver.engine.flush().await.unwrap();
    // All of it has landed: Redis may lose what it has.
    let epoch = saver.engine.inboxes().epoch();
    servers.redis.kill().await.unwrap();
    servers.redis.start_again(Data::Wipe).await.unwrap();
    for saver in [&saver, &other] {
        saver.later_than(epoch).await;
        // Each saver finds out by itself that MySQL is back.
        eventually(|| async { saver.tie("before", 300, Fast).await.is_ok() }).await;
        assert_eq!(saver.tie("before", 300, Fast).await, Ok(1));
        assert_eq!(saver.tie("new", 301, Fast).await, Ok(new));
        assert_eq!(saver.tie("safe", 302, Fast).await, Ok(2));
        assert_eq!(saver.tie("safe too", 303, Safe).await, Ok(tied));
        for n in [100, 150, 199] {
            assert_eq!(saver.tie(&format!("key {n}"), 304, Fast).await, Ok(n));
        }
    }
    assert_eq!(saver.ledger(150).await.stored, 1);
    saver.stop().await;
    other.stop().await;
}

/// What was tied without Redis is not tied again when it is back with all that it had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_class_safe_go_on_without_redis() {
    let servers = Servers::start().await;
    let saver = servers.saver(|_| {}).await;
    assert_eq!(saver.tie("before", 1, Fast).await, Ok(1));
    assert_eq!(saver.tie("before", 2, Safe).await, Ok(1), "at once, though it has hardly landed");
    let epoch = saver.engine.inboxes().epoch();
    servers.redis.kill().await.unwrap();
    eventually(|| async { !saver.engine.inboxes().is_up() }).await;
    assert_eq!(saver.tie("fast", 3, Fast).await.unwrap_err().code(), "inboxes_unavailable");
    assert_eq!(saver.tie("alone", 4, Safe).await, Ok(4));
    assert_eq!(saver.tie("alone", 5, Safe).await, Ok(4));
    assert_eq!(saver.tie("before", 6, Safe).await, Ok(1));
    servers.redis.start_again(Data::Keep).await.unwrap();
    saver.later_than(epoch).await;
    assert_eq!(saver.tie("alone", 7, Fast).await, Ok(4));
    assert_eq!(saver.tie("before", 8, Fast).await, Ok(1));
    assert_eq!(saver.tie("fast", 9, Fast).await, Ok(9));
    saver.stop().await;
}

/// A device that knows its place in the broadcast log binds if its inbox is in Redis. Of an inbox that is not there nobody
/// knows what it holds, and of a device without a place nobody knows what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_knows_its_places_binds_without_mysql() {
    let servers = Servers::start().await;
    let saver = servers.saver(|_| {}).await;
    let first = saver.bind("a", None).await.unwrap();
    assert!(first.cursor.is_some() && !first.cursor_unknown);
    let own = first.cursor.map(|first| Cursor { bseq: Bseq(0), ..first });
    assert_eq!(saver.bind("a", own).await.unwrap().cursor, first.cursor);
    servers.mysql.kill().await.unwrap();
    saver.push(append(1, &["a"])).await.unwrap();
    saver.push(append(2, &["b"])).await.unwrap();
    let bound = saver.bind("a", own).await.unwrap();
    assert_eq!((bound.cursor, bound.cursor_unknown), (None, true));
    assert_eq!(bound.inbox.messages.len(), 1);
    assert!(bound.inbox.start.seq > Seq(0));
    for (uid, own_cursor) in [("a", None), ("b", own), ("c", own)] {
        let refused = saver.bind(uid, own_cursor).await.unwrap_err();
        assert_eq!((refused.code(), refused.retry_after_ms()), ("archive_unavailable", Some(2000)), "{uid}");
    }
    servers.mysql.start_again().await.unwrap();
    eventually(|| async { saver.bind("b", None).await.is_ok() }).await;
    assert_eq!(saver.bind("b", own).await.unwrap().inbox.messages.len(), 1);
    saver.stop().await;
}

/// Who counts broadcasts without MySQL is told at once that nothing is counted, and tells it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broadcasts_are_counted_when_mysql_is_back() {
    let servers = Servers::start().await;
    let (saver, other) = (servers.saver(|_| {}).await, servers.saver(|_| {}).await);
    let broadcast = NewBroadcast {
        app: APP,
        id: MessageId(id(1)),
        payload: "x".into(),
        audience: String::new(),
        filter: None,
        accepted_ms: NOW,
        expires_ms: NOW + DAY,
    };
    let cursor = saver.engine.append_broadcast(broadcast).await.unwrap().place;
    saver.push(append(2, &["a"])).await.unwrap();
    let start = saver.load("a").await.inbox.messages[0].seq;
    let ack = |uid: &str, inbox| {
        let credits = vec![Credit { bseq: cursor.bseq, id: MessageId(id(1)), kind: CreditKind::Acked }];
        AckItem { key: key(uid), inbox, cursor: Some(cursor), credits }
    };
    // Savers beside each other, and the same users at both.
    let both = [&saver, &other].map(|s| s.engine.ack((0..50).map(|n| ack(&format!("u{n}"), None)).collect()));
    assert!(futures::future::join_all(both).await.iter().all(Result::is_ok));
    servers.mysql.kill().await.unwrap();

    let epoch = saver.engine.inboxes().epoch();
    let mut refused = 0;
    let position = Position { epoch, seq: start };
    for _ in 0..20 {
        let told = saver.engine.ack(vec![ack("a", Some(position)), ack("b", None)]).await;
        assert!(told.is_err(), "it was counted nowhere");
        refused += 1;
    }
    assert_eq!(refused, 20);
    // What leaves an inbox does not depend on it.
    assert!(saver.load("a").await.inbox.messages.is_empty());
    servers.mysql.start_again().await.unwrap();
    eventually(|| async { saver.engine.ack(vec![ack("a", None), ack("b", None)]).await.is_ok() }).await;
    // Each saver finds out by itself that MySQL is back.
    eventually(|| async { other.engine.ack(vec![ack("a", None), ack("u1", None)]).await.is_ok() }).await;
    let ledger = other.engine.ledger(APP, MessageId(id(1))).await.unwrap();
    let counts = ledger.counts.unwrap_or(saver.ledger(1).await.counts.unwrap_or_default());
    assert_eq!(counts.acked, 52);
    saver.stop().await;
    other.stop().await;
}
