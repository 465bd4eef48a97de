//! How the server reads: every walk and look-up goes by an index, and none sorts.

use sqlx::{AssertSqlSafe, Row as _};

use super::{super::walks, *};

/// Index, rows that the server expects to read, and what it says beside, of each table of a statement.
async fn plan(archive: &MySqlArchive, sql: &str, values: &[i64]) -> Vec<(String, i64, String)> {
    let mut lease = archive.readers.take().await.unwrap();
    let mut query = sqlx::query(AssertSqlSafe(format!("EXPLAIN {sql}")));
    for value in values {
        query = query.bind(*value);
    }
    let rows = query.fetch_all(&mut lease.connection).await.unwrap();
    let word = |row: &sqlx::mysql::MySqlRow, column| {
        let bytes: Option<Vec<u8>> = row.try_get(column).unwrap();
        String::from_utf8(bytes.unwrap_or_default()).unwrap()
    };
    let expected = |row: &sqlx::mysql::MySqlRow| word(row, "rows").parse().unwrap_or(0);
    rows.iter().map(|row| (word(row, "key"), expected(row), word(row, "Extra"))).collect()
}

#[tokio::test]
async fn walks_go_by_an_index() {
    let (archive, _place) = make().await;
    for n in 0..4 {
        archive
            .land(&landing(n * 1000, 1000, if n < 2 { State::Acked } else { State::Stored }))
            .await
            .unwrap();
    }
    let last = id(u32::MAX.into()).0.cast_signed();
    let cases = [
        (walks::UNICAST, vec![0, last, 100], "PRIMARY"),
        (walks::RECENT_UNICAST, vec![0, 100], "PRIMARY"),
        (walks::RECENT_MULTICAST, vec![0, 100], "receiver"),
        (walks::NEXT_MULTICAST, vec![0, last], "receiver"),
        (walks::STORED[0], vec![1, 0, 5, 100], "place"),
        (walks::STORED[1], vec![1, 0, 100], "place"),
        (walks::STORED[2], vec![0, 100], "place"),
    ];
    for (sql, values, index) in cases {
        let plan = plan(&archive, sql, &values).await;
        assert_eq!(plan[0].0, index, "{sql}: {plan:?}");
        assert!(!plan[0].2.contains("filesort") && !plan[0].2.contains("temporary"), "{sql}: {plan:?}");
    }
    // The ends of indexes, and not the tables.
    for (key, rows, extra) in plan(&archive, walks::GREATEST_ID, &[]).await {
        assert!(rows <= 1 && key.is_empty(), "{key} {rows} {extra}");
    }
}

#[tokio::test]
async fn lists_are_looked_up_and_not_searched() {
    let (archive, _place) = make().await;
    archive.land(&landing(0, 1000, State::Stored)).await.unwrap();
    let ids: Vec<i64> = (0..16).map(|n| id(n * 3).0.cast_signed()).collect();
    let with = |first: &[i64]| [first, &ids].concat();
    let shapes = [
        (&bulk::UNICAST.states, ids.clone(), "PRIMARY"),
        (&bulk::UNICAST.finish, with(&[1]), "PRIMARY"),
        (&bulk::UNICAST.forget, ids.clone(), "PRIMARY"),
        (&bulk::LEAVE, ids.clone(), "PRIMARY"),
        (&deliveries::OWN_PAYLOADS, ids.clone(), "PRIMARY"),
        (&deliveries::UNICAST, ids.clone(), "PRIMARY"),
    ];
    for (shape, values, index) in shapes {
        let sql = shape.sql(4).0;
        let plan = plan(&archive, &sql, &values).await;
        assert_eq!(plan[0].0, index, "{sql}: {plan:?}");
        assert!(plan[0].1 <= 16 && !plan[0].2.contains("filesort"), "{sql}: {plan:?}");
    }
    // Two of ten users, and in the order of the index.
    let sql = deliveries::SURVIVING.sql(1).0.replace("app = ?", "app = 1").replacen('?', "x'7531'", 1);
    let plan = plan(&archive, &sql.replace('?', "x'7532'"), &[]).await;
    assert_eq!(plan[0].0, "place", "{plan:?}");
    assert!(plan[0].1 <= 200 && !plan[0].2.contains("filesort"), "{plan:?}");
}
