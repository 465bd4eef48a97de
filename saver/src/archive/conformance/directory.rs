//! Idempotency keys, apps and API keys.

use bytes::Bytes;
use proto::internal::App;
use wire::id::AppId;

use super::*;

pub(crate) fn tied(word: &str, n: u64, expires_ms: u64) -> Reservation {
    let fingerprint = Bytes::from(format!("print {n}"));
    Reservation { app: APP, word: word.to_owned(), id: id(n), fingerprint, expires_ms }
}

pub(crate) async fn reservations_tie_a_word<A: Archive>(archive: A) {
    let reserve = |n: u64, print: &'static [u8], now_ms: u64| Group {
        reservations: vec![Reservation {
            app: APP,
            word: "order-7".to_owned(),
            id: id(n),
            fingerprint: Bytes::from_static(print),
            expires_ms: NOW + 10,
        }],
        now_ms,
        ..Group::default()
    };
    let mut answers = Vec::new();
    for group in
        [reserve(1, b"x", NOW), reserve(2, b"x", NOW), reserve(3, b"y", NOW + 9), reserve(4, b"y", NOW + 10)]
    {
        let one = archive.commit(&group).await.unwrap().reservations.remove(0);
        answers.push((one.id, one.repeated, one.mismatch));
    }
    let expected = [(id(1), false, false), (id(1), true, false), (id(1), true, true), (id(4), false, false)];
    assert_eq!(answers, expected);
}

pub(crate) async fn keeps_the_directory<A: Archive>(archive: A) {
    let put = |app: App| Group { apps: vec![app], ..Group::default() };
    let demo =
        App { key: "demo".into(), inbox_cap: 7, token_secret: Bytes::from_static(b"s"), ..App::default() };
    let stored = archive.commit(&put(demo.clone())).await.unwrap().apps.remove(0).unwrap();
    assert_eq!(stored, App { id: stored.id, revision: 1, ..demo.clone() });
    assert_eq!(archive.commit(&put(demo.clone())).await.unwrap().apps, [Err(AppRefused::KeyTaken)]);
    let other = App { key: "other".into(), ..App::default() };
    let other = archive.commit(&put(other)).await.unwrap().apps.remove(0).unwrap();
    let unknown = App { id: 77, key: "x".into(), ..App::default() };
    assert_eq!(archive.commit(&put(unknown)).await.unwrap().apps, [Err(AppRefused::Unknown)]);
    let changed = App { state_url: "http://x".into(), ..stored.clone() };
    let changed = archive.commit(&put(changed)).await.unwrap().apps.remove(0).unwrap();
    // Made from a revision that is not there any more: it would undo what was changed since.
    let late = App { inbox_cap: 9, ..stored.clone() };
    assert_eq!(archive.commit(&put(late)).await.unwrap().apps, [Err(AppRefused::Changed)]);
    let renamed = App { key: "other".into(), ..changed.clone() };
    assert_eq!(archive.commit(&put(renamed)).await.unwrap().apps, [Err(AppRefused::KeyTaken)]);
    let (apps, revision) = archive.apps(0).await.unwrap();
    assert_eq!((apps, revision), (vec![other, changed.clone()], changed.revision));
    assert_eq!(archive.apps(revision).await.unwrap(), (vec![], revision));

    let key = |app| ApiKey {
        hash: Bytes::from_static(b"hash"),
        app: AppId(app),
        scopes: vec!["push".into(), "read".into()],
        created_ms: NOW,
    };
    let put = |key: ApiKey| Group { keys: vec![key], ..Group::default() };
    assert_eq!(archive.commit(&put(key(77))).await.unwrap().keys, [false]);
    assert_eq!(archive.commit(&put(key(stored.id))).await.unwrap().keys, [true]);
    assert_eq!(archive.find_key(b"hash").await.unwrap(), Some(key(stored.id)));
    assert_eq!(archive.find_key(b"hush").await.unwrap(), None);
}
