//! The archive on MariaDB: what every archive does, and what a server can suffer.

use super::*;
use crate::{
    archive::{Archive as _, Body, Group, Landing, NewDelivery, conformance},
    model::{InboxKey, Row, State},
};
use wire::id::{AppId, Epoch, MessageId, Position, Seq, Uid};

mod meets;
mod migration;
mod place;
mod plans;
mod server;

use place::Place;

const NOW: u64 = MessageId::EPOCH_MS + 1_000_000;

async fn make() -> (MySqlArchive, Place) {
    let place = Place::new().await;
    (MySqlArchive::open(&place.settings()).await.unwrap(), place)
}

conformance::suite!(make);

fn id(n: u64) -> MessageId {
    MessageId(MessageId::from_parts(NOW, 1, 0).0 + n)
}

fn row(n: u64) -> Row {
    Row::unicast(id(n))
}

fn delivery(n: u64) -> NewDelivery {
    NewDelivery {
        row: row(n),
        id: id(n),
        key: InboxKey::new(AppId(1), Uid::new(format!("u{}", n % 10)).unwrap()),
        position: Position { epoch: Epoch(1), seq: Seq(n) },
        accepted_ms: NOW,
        expires_ms: NOW + 1000,
        payload_bytes: 100,
        collapse: None,
    }
}

/// So many deliveries from `n` on, each with a payload of so many bytes.
fn group(n: u64, many: u64, bytes: usize) -> Group {
    let body = |n| Body { id: id(n), payload: vec![1; bytes].into() };
    Group {
        bodies: (n..n + many).map(body).collect(),
        deliveries: (n..n + many).map(delivery).collect(),
        now_ms: NOW,
        ..Group::default()
    }
}

fn landing(n: u64, many: u64, state: State) -> Landing {
    let Group { bodies, deliveries, .. } = group(n, many, 100);
    let deliveries = deliveries.into_iter().map(|d| (d, state)).collect();
    Landing { deliveries, bodies, now_ms: NOW, ..Landing::default() }
}

/// How many of so many messages from `n` on have a row in the ledger, and how many a payload.
async fn there(archive: &MySqlArchive, n: u64, many: u64) -> (usize, usize) {
    let wanted = |n| super::super::Wanted { id: id(n), key: delivery(n).key, multicast: false };
    let rows = archive.recorded(&(n..n + many).map(wanted).collect::<Vec<_>>()).await.unwrap();
    let payloads = archive.payloads(&(n..n + many).map(id).collect::<Vec<_>>()).await.unwrap();
    (rows.iter().flatten().count(), payloads.len())
}

/// Statements are cut by the bytes of their rows; and a row that the server does not take is told as such.
#[tokio::test]
async fn large_payloads_are_cut_into_statements() {
    let (archive, _place) = make().await;
    archive.commit(&group(0, 60, 100_000)).await.unwrap();
    archive.commit(&group(100, 2, 5 << 20)).await.unwrap();
    assert_eq!((there(&archive, 0, 60).await, there(&archive, 100, 2).await), ((60, 60), (2, 2)));
    let error = archive.commit(&group(200, 1, 17 << 20)).await.unwrap_err();
    assert!(matches!(error, ArchiveError::Io(_)), "{error}");
    assert_eq!(there(&archive, 200, 1).await, (0, 0));
}

#[test]
fn urls_are_checked_and_not_shown() {
    let check = |url: &str| MySqlSettings::new(url).check();
    assert_eq!(check("mysql://u:p@h:3306/longwire?ssl-mode=VERIFY_CA&ssl-ca=ca.pem"), Ok(()));
    assert_eq!(check("postgres://h/longwire").unwrap_err(), "must begin with mysql://");
    assert_eq!(check("mysql://h").unwrap_err(), "must end with the name of a database");
    assert!(check("mysql://u:secret@h/x?ssl-mode=bad").is_err_and(|e| !e.contains("secret")));
    let settings = MySqlSettings::new("mysql://u:secret@h:33/longwire");
    assert_eq!(settings.name(), "h:33/longwire");
    assert!(!format!("{settings:?}").contains("secret"));
}
