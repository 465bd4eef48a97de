//! A database of an older version is brought up to date with all that it holds.

use sqlx::{ConnectOptions as _, Executor as _};
use wire::id::{Bseq, Cursor};

use super::*;
use crate::archive::{Counts, Credit, CreditKind, Passed};

const HELD: &str = "INSERT INTO broadcast_log VALUES (1, 7, 3); \
     INSERT INTO broadcast (id, app, bseq, accepted, expires, recalled, audience, payload) VALUES \
     (11, 1, 1, 5, 1000, 0, 'ios', 'one'), (12, 1, 2, 5, 1000, 1, '', 'two'), (13, 1, 3, 5, 2000, 0, '', ''); \
     INSERT INTO broadcast_cursor VALUES (1, 'a', 7, 1); \
     INSERT INTO inbox VALUES (21, 21, 1, 'a', 1, 6, 5, 1000, 3, 'one'); \
     INSERT INTO schema_version VALUES (1)";

#[tokio::test]
async fn a_database_of_version_1_keeps_what_it_holds() {
    let place = Place::new().await;
    let mut c = place.settings().options().unwrap().connect().await.unwrap();
    c.execute("CREATE TABLE schema_version (version INT NOT NULL PRIMARY KEY) ENGINE=InnoDB").await.unwrap();
    let first = include_str!("../../../../migrations-mysql/0001_archive.sql");
    for sql in [first, HELD] {
        c.execute(sqlx::raw_sql(sql)).await.unwrap();
    }

    let cursor = |bseq| Cursor { epoch: Epoch(7), bseq: Bseq(bseq) };
    let key = InboxKey::new(AppId(1), Uid::new("a").unwrap());
    for round in 0..2 {
        let archive = MySqlArchive::open(&place.settings()).await.unwrap();
        let page = archive.broadcasts(AppId(1), Bseq(0), 9, 99, 10).await.unwrap();
        let read: Vec<_> = page
            .broadcasts
            .iter()
            .map(|b| (b.place, b.id.0, &*b.audience, &*b.payload, b.recalled))
            .collect();
        let expected = [
            (cursor(1), 11, "ios", &b"one"[..], false),
            (cursor(2), 12, "", b"", true),
            (cursor(3), 13, "", b"", false),
        ];
        assert_eq!(read, expected);
        assert_eq!(archive.surviving(std::slice::from_ref(&key)).await.unwrap()[0].len(), 1);
        let credit = |n| Credit { bseq: Bseq(n), id: MessageId(10 + n), kind: CreditKind::Acked };
        let passed = Passed { key: key.clone(), cursor: cursor(3), credits: vec![credit(1), credit(3)] };
        archive.commit(&Group { passed: vec![passed], ..Group::default() }).await.unwrap();
        let counts = archive.broadcast_counts(AppId(1), &[MessageId(11), MessageId(13)]).await.unwrap();
        let acked = |acked| Some(Counts { acked, ..Counts::default() });
        assert_eq!(counts, [acked(0), acked(1)]);
        archive.close().await;
        // Killed when all was done, before that could be noted: it is done again, and finds its work.
        if round == 0 {
            c.execute("DELETE FROM schema_version WHERE version = 2").await.unwrap();
        }
    }
}
