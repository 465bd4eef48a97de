//! An archive of an older version is brought up to date with all that it holds.

use sqlx::{ConnectOptions as _, sqlite::SqliteConnectOptions};
use wire::id::{AppId, Bseq, Cursor, Epoch, MessageId, Uid};

use super::{tests::settings, *};
use crate::{
    archive::{Archive as _, Counts, Credit, CreditKind, Group, Passed},
    model::InboxKey,
};

const VERSION_2: [&str; 2] = [
    include_str!("../../../migrations/0001_archive.sql"),
    include_str!("../../../migrations/0002_shared_stores.sql"),
];
const HELD: &str = "INSERT INTO broadcast_log VALUES (1, 7, 3); \
     INSERT INTO broadcast (id, app, bseq, accepted, expires, recalled, audience, payload) VALUES \
     (11, 1, 1, 5, 1000, 0, 'ios', x'6f6e65'), (12, 1, 2, 5, 1000, 1, '', x'74776f'), (13, 1, 3, 5, 2000, 0, '', x''); \
     INSERT INTO cursor VALUES (1, 'a', 7, 1); \
     INSERT INTO message VALUES (21, x'6f6e65'); \
     INSERT INTO delivery (id, message, app, uid, seq, epoch, state, accepted, expires, bytes) VALUES \
     (21, NULL, 1, 'a', 1, 6, 0, 5, 1000, 3); \
     PRAGMA user_version = 2;";

#[tokio::test]
async fn an_archive_of_version_2_keeps_what_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteConnectOptions::new().filename(settings(&folder).path).create_if_missing(true);
    let mut old = options.connect().await.unwrap();
    for sql in VERSION_2.into_iter().chain([HELD]) {
        sqlx::raw_sql(sql).execute(&mut old).await.unwrap();
    }
    old.close().await.unwrap();

    let archive = SqliteArchive::open(&settings(&folder)).await.unwrap();
    let (app, id) = (AppId(1), MessageId);
    let place = |bseq| Cursor { epoch: Epoch(7), bseq: Bseq(bseq) };
    let page = archive.broadcasts(app, Bseq(0), 9, 99, 10).await.unwrap();
    let read: Vec<_> =
        page.broadcasts.iter().map(|b| (b.place, b.id, &*b.audience, &*b.payload, b.recalled)).collect();
    let expected = [
        (place(1), id(11), "ios", &b"one"[..], false),
        (place(2), id(12), "", b"", true),
        (place(3), id(13), "", b"", false),
    ];
    assert_eq!(read, expected);
    assert!(page.broadcasts.iter().all(|b| b.filter.is_none()) && page.head == place(3));
    assert_eq!(archive.greatest_id().await.unwrap(), id(21));
    let key = InboxKey::new(app, Uid::new("a").unwrap());
    assert_eq!(archive.surviving(std::slice::from_ref(&key)).await.unwrap()[0].len(), 1);
    // Old broadcasts are counted from here on.
    let credit = |n| Credit { bseq: Bseq(n), id: id(10 + n), kind: CreditKind::Acked };
    let passed = Passed { key, cursor: place(3), credits: vec![credit(1), credit(3)] };
    archive.commit(&Group { passed: vec![passed], ..Group::default() }).await.unwrap();
    let counts = archive.broadcast_counts(app, &[id(11), id(13)]).await.unwrap();
    let acked = |acked| Some(Counts { acked, ..Counts::default() });
    assert_eq!(counts, [acked(0), acked(1)]);
    // It is not done again.
    archive.close().await;
    let archive = SqliteArchive::open(&settings(&folder)).await.unwrap();
    assert_eq!(archive.broadcasts(app, Bseq(0), 9, 99, 10).await.unwrap().broadcasts.len(), 3);
}
