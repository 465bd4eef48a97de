//! The embedded archive: what every archive does, and what a file can suffer.

use super::*;
use crate::archive::{Archive as _, Body, Group, conformance};
use wire::id::MessageId;

pub(crate) fn settings(folder: &tempfile::TempDir) -> SqliteSettings {
    SqliteSettings {
        path: folder.path().join("archive.db"),
        cache_bytes: 1 << 20,
        busy_timeout: Duration::from_millis(200),
    }
}

async fn make() -> (SqliteArchive, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    // None of the cases waits for a lock; a machine with much else to do may stand still for longer than 200 ms.
    let settings = SqliteSettings { busy_timeout: Duration::from_secs(10), ..settings(&folder) };
    (SqliteArchive::open(&settings).await.unwrap(), folder)
}

conformance::suite!(make);

fn bodies(n: u64, bytes: usize) -> Group {
    let body = |n| Body { id: MessageId(n), payload: vec![1; bytes].into() };
    Group { bodies: (n..n + 10).map(body).collect(), ..Group::default() }
}

#[tokio::test]
async fn state_survives_a_close_and_two_may_open() {
    let folder = tempfile::tempdir().unwrap();
    let first = SqliteArchive::open(&settings(&folder)).await.unwrap();
    let epoch = first.begin_epoch().await.unwrap();
    first.commit(&bodies(1, 10)).await.unwrap();
    let second = SqliteArchive::open(&settings(&folder)).await.unwrap();
    assert!(second.begin_epoch().await.unwrap() > epoch);
    assert_eq!(second.payloads(&[MessageId(3)]).await.unwrap().len(), 1);
    first.close().await;
    second.close().await;
    let third = SqliteArchive::open(&settings(&folder)).await.unwrap();
    assert_eq!(third.begin_epoch().await.unwrap().0, epoch.0 + 2);
}

/// Two savers that started together on a new file: one of them ended with "locked by another process", because
/// SQLite does not wait for the lock that a change of the journal mode takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_new_file_may_be_opened_by_many_at_once() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let slow = SqliteSettings { busy_timeout: Duration::from_secs(20), ..settings(&folder) };
        let open = || {
            let slow = slow.clone();
            tokio::spawn(
                async move { SqliteArchive::open(&slow).await.unwrap().begin_epoch().await.unwrap() },
            )
        };
        let (a, b, c) = tokio::join!(open(), open(), open());
        let (a, b, c) = (a.unwrap(), b.unwrap(), c.unwrap());
        assert!(a != b && b != c && a != c);
    }
}

#[tokio::test]
async fn a_lock_that_another_holds_is_told() {
    let (archive, folder) = make().await;
    let other = SqliteArchive::open(&settings(&folder)).await.unwrap();
    let held = other.transaction(async |c| {
        sqlx::query("UPDATE counter SET value = value").execute(&mut *c).await?;
        assert_eq!(archive.commit(&bodies(1, 10)).await.unwrap_err(), ArchiveError::Locked);
        // Readers do not mind.
        assert_eq!(archive.payloads(&[MessageId(1)]).await.unwrap().len(), 0);
        Ok(())
    });
    held.await.unwrap();
    archive.commit(&bodies(1, 10)).await.unwrap();
}

/// A full disk is told as such, nothing of the group stays, and it goes on when there is room again.
#[tokio::test]
async fn a_full_disk_is_told_and_survived() {
    let (archive, _folder) = make().await;
    archive.commit(&bodies(1, 100)).await.unwrap();
    archive.limit_pages(Some(40)).await;
    assert_eq!(archive.commit(&bodies(100, 100_000)).await.unwrap_err(), ArchiveError::DiskFull);
    assert_eq!(archive.payloads(&[MessageId(100)]).await.unwrap().len(), 0);
    assert_eq!(archive.payloads(&[MessageId(1)]).await.unwrap().len(), 1);
    archive.limit_pages(None).await;
    archive.commit(&bodies(100, 100_000)).await.unwrap();
    assert_eq!(archive.payloads(&[MessageId(100)]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_file_that_is_no_archive_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(settings(&folder).path, vec![b'x'; 10_000]).unwrap();
    let error = SqliteArchive::open(&settings(&folder)).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Corrupt(_)), "{error}");
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let (archive, folder) = make().await;
    archive
        .transaction(async |c| sqlx::query("PRAGMA user_version = 99").execute(&mut *c).await.map(drop))
        .await
        .unwrap();
    archive.close().await;
    let error = SqliteArchive::open(&settings(&folder)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the archive is damaged: its version is 99, and this program knows up to 3"
    );
}

/// A page that was overwritten is told as damage when it is read, and the process goes on.
#[tokio::test]
async fn a_damaged_page_is_told() {
    let (archive, folder) = make().await;
    for n in 0..40 {
        archive.commit(&bodies(1 + n * 10, 2000)).await.unwrap();
    }
    archive.close().await;
    let path = settings(&folder).path;
    let mut bytes = std::fs::read(&path).unwrap();
    let from = bytes.len() / 2;
    bytes[from..].fill(0xEE);
    std::fs::write(&path, bytes).unwrap();
    let archive = SqliteArchive::open(&settings(&folder)).await.unwrap();
    let ids: Vec<MessageId> = (1..400).map(MessageId).collect();
    assert!(matches!(archive.payloads(&ids).await, Err(ArchiveError::Corrupt(_))));
    assert!(archive.begin_epoch().await.is_ok());
}
