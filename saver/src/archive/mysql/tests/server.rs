//! Servers that die, hang, and take no writes.

use std::time::{Duration, Instant};

use super::*;

/// Groups and landings in flight, four at a time, when the server is killed: what was answered is there, and of the
/// others all or nothing. The archive finds the server again by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_keeps_what_was_answered() {
    let place = Place::alone().await;
    let server = place.server.as_ref().unwrap();
    let archive = std::sync::Arc::new(MySqlArchive::open(&place.settings()).await.unwrap());
    for round in 0..3u64 {
        // The server is killed some time after each worker has had an answer.
        let begun = std::sync::Arc::new(tokio::sync::Barrier::new(5));
        let workers: Vec<_> = (0..4u64)
            .map(|worker| {
                let (archive, begun) = (archive.clone(), begun.clone());
                tokio::spawn(async move {
                    let mut answered = Vec::new();
                    for n in 0.. {
                        let first = ((round * 4 + worker) * 1000 + n) * 100;
                        let done = if n % 2 == 0 {
                            archive.commit(&group(first, 20, 200)).await.map(drop)
                        } else {
                            archive.land(&landing(first, 20, State::Stored)).await
                        };
                        match done {
                            Ok(()) => answered.push(first),
                            Err(e) => return (answered, first, e),
                        }
                        if n == 0 {
                            begun.wait().await;
                        }
                    }
                    unreachable!()
                })
            })
            .collect();
        tokio::time::timeout(Duration::from_secs(30), begun.wait()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(150 + round * 77)).await;
        server.kill().await.unwrap();
        let mut ends = Vec::new();
        for worker in workers {
            ends.push(worker.await.unwrap());
        }
        let asked = Instant::now();
        let away = archive.commit(&group(99_999_000, 1, 10)).await.unwrap_err();
        assert!(away.to_string().contains("cannot connect: does the server run"), "{away}");
        assert!(asked.elapsed() < Duration::from_secs(2));

        server.start_again().await.unwrap();
        for (answered, unknown, error) in ends {
            assert!(matches!(error, ArchiveError::Io(_)), "{error}");
            assert!(!answered.is_empty());
            for first in answered {
                assert_eq!(there(&archive, first, 20).await, (20, 20));
            }
            let rest = there(&archive, unknown, 20).await;
            assert!(rest == (20, 20) || rest == (0, 0), "{rest:?}");
            archive.land(&landing(unknown, 20, State::Stored)).await.unwrap();
            assert_eq!(there(&archive, unknown, 20).await, (20, 20));
        }
    }
}

/// A server that hangs costs a caller a bounded time, and is used again when it wakes.
#[tokio::test]
async fn a_server_that_hangs_is_told() {
    let place = Place::alone().await;
    let quick = MySqlSettings {
        patience: Duration::from_millis(200),
        timeout: Duration::from_millis(300),
        ..place.settings()
    };
    let archive = MySqlArchive::open(&quick).await.unwrap();
    archive.commit(&group(0, 10, 10)).await.unwrap();
    let server = place.server.as_ref().unwrap().server();
    server.pause().unwrap();
    for n in 1..4 {
        let asked = Instant::now();
        let error = archive.commit(&group(n * 100, 10, 10)).await.unwrap_err();
        assert!(matches!(&error, ArchiveError::Io(text) if text.contains("answer")), "{error}");
        assert!(archive.payloads(&[id(0)]).await.is_err());
        assert!(asked.elapsed() < Duration::from_secs(2));
    }
    server.resume().unwrap();
    // What hung may or may not be there now: landing it settles that.
    for n in 0..4 {
        archive.land(&landing(n * 100, 10, State::Stored)).await.unwrap();
        assert_eq!(there(&archive, n * 100, 10).await, (10, 10));
    }
}

/// A primary that became a replica: told as such, and the connection is not kept, for the name may lead elsewhere.
#[tokio::test]
async fn a_server_that_takes_no_writes_is_told() {
    let place = Place::alone().await;
    let server = place.server.as_ref().unwrap();
    // Who has every right may write all the same.
    server
        .sql("CREATE USER app@'127.0.0.1' IDENTIFIED BY 'x'; GRANT ALL ON longwire.* TO app@'127.0.0.1'")
        .await
        .unwrap();
    let settings = MySqlSettings::new(format!("mysql://app:x@{}/longwire", server.addr()));
    let archive = MySqlArchive::open(&settings).await.unwrap();
    server.sql("SET GLOBAL read_only = 1").await.unwrap();
    let error = archive.commit(&group(0, 10, 10)).await.unwrap_err();
    assert!(error.to_string().contains("must lead to the primary"), "{error}");
    assert_eq!(there(&archive, 0, 10).await, (0, 0));
    server.sql("SET GLOBAL read_only = 0").await.unwrap();
    archive.commit(&group(0, 10, 10)).await.unwrap();
}

/// What an operator reads when the URL is wrong.
#[tokio::test]
async fn a_wrong_url_is_one_clear_line() {
    let place = Place::new().await;
    let wrong =
        async |url: String| MySqlArchive::open(&MySqlSettings::new(url)).await.unwrap_err().to_string();
    // The database may be named like its user.
    let (server, database) = place.url.rsplit_once('/').unwrap();
    assert!(wrong(format!("{server}/nowhere")).await.contains("create the database"));
    assert!(wrong(place.url.replace(":longwire@", ":wrong@")).await.contains("lacks a right"));
    let address = place.url.split(['@', '/']).nth(3).unwrap();
    let nobody = place.url.replace(address, "127.0.0.1:1");
    assert!(wrong(nobody).await.contains("cannot connect: does the server run"));
    assert!(wrong(format!("{server}/{database}?ssl-mode=REQUIRED")).await.contains("TLS failed"));
}
