//! Broadcast logs, and where users stand in them.

use bytes::Bytes;
use wire::id::{AppId, Bseq, Cursor, Epoch, Uid};

use super::*;

pub(crate) async fn cursors_move_forward<A: Archive>(archive: A) {
    let place = |bseq| Cursor { epoch: Epoch(3), bseq: Bseq(bseq) };
    let moved = |uid, bseq| Group { cursors: vec![(key(uid), place(bseq))], ..Group::default() };
    assert_eq!(archive.cursors(&[key("a")]).await.unwrap(), [None]);
    archive.commit(&moved("a", 5)).await.unwrap();
    archive.commit(&moved("a", 4)).await.unwrap();
    archive.commit(&moved("b", 1)).await.unwrap();
    let found = archive.cursors(&[key("b"), key("x"), key("a")]).await.unwrap();
    assert_eq!(found, [Some(place(1)), None, Some(place(5))]);
}

pub(super) fn broadcast(n: u64, expires_ms: u64) -> NewBroadcast {
    NewBroadcast {
        app: APP,
        id: id(n),
        payload: Bytes::from_static(b"0123456789"),
        audience: "ios".to_owned(),
        filter: None,
        accepted_ms: NOW,
        expires_ms,
    }
}

/// Those with payloads: they are alive.
pub(super) fn bseqs(page: &BroadcastPage) -> Vec<u64> {
    page.broadcasts.iter().filter(|b| !b.payload.is_empty()).map(|b| b.place.bseq.0).collect()
}

pub(crate) async fn broadcasts_are_numbered<A: Archive>(archive: A) {
    let group = |broadcasts| Group { broadcasts, now_ms: NOW, ..Group::default() };
    let first = (1..=5).map(|n| broadcast(n, if n == 3 { NOW + 1 } else { LATER })).collect();
    let done = archive.commit(&group(first)).await.unwrap().broadcasts;
    let epoch = done[0].place.epoch;
    assert_eq!(done.iter().map(|n| n.place.bseq.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let again =
        archive.commit(&group(vec![broadcast(2, LATER), broadcast(6, LATER)])).await.unwrap().broadcasts;
    let place = |bseq| Cursor { epoch, bseq: Bseq(bseq) };
    assert_eq!(again[0], Numbered { place: place(2), repeated: true });
    assert_eq!(again[1], Numbered { place: place(6), repeated: false });
    let recall =
        Group { broadcast_recalls: vec![(APP, id(4)), (APP, id(99))], now_ms: NOW, ..Group::default() };
    assert_eq!(archive.commit(&recall).await.unwrap().broadcast_recalls, [true, false]);
    assert_eq!(archive.commit(&recall).await.unwrap().broadcast_recalls, [false, false]);

    let read = |after, messages, bytes| archive.broadcasts(APP, Bseq(after), messages, bytes, NOW + 1);
    let page = read(0, 9, 1 << 20).await.unwrap();
    assert_eq!(
        (bseqs(&page), page.through, page.more, page.head),
        (vec![1, 2, 5, 6], Bseq(6), false, place(6))
    );
    // What was taken back or is over is told, so that it can be counted; but its payload is not read.
    let all: Vec<_> = page.broadcasts.iter().map(|b| (b.place.bseq.0, b.recalled, &*b.audience)).collect();
    let dead = |n: u64| n == 4;
    assert_eq!(all, (1..=6).map(|n| (n, dead(n), "ios")).collect::<Vec<_>>());
    let page = read(1, 4, 1 << 20).await.unwrap();
    assert_eq!((bseqs(&page), page.through, page.more), (vec![2, 5], Bseq(5), true));
    let page = read(1, 9, 1).await.unwrap();
    assert_eq!((bseqs(&page), page.through, page.more), (vec![2], Bseq(2), true));
    assert_eq!(archive.broadcasts(AppId(9), Bseq(0), 9, 9, NOW).await.unwrap(), BroadcastPage::default());
    assert!(archive.broadcast(APP, id(4)).await.unwrap().unwrap().recalled);
    assert_eq!(archive.broadcast(AppId(2), id(4)).await.unwrap(), None);
    assert_eq!(archive.heads(&[AppId(9), APP]).await.unwrap(), [(APP, place(6))]);
}

fn newcomer(uid: &str, own: Option<Cursor>) -> Newcomer {
    Newcomer { key: key(uid), own }
}

async fn begin<A: Archive>(archive: &A, newcomers: Vec<Newcomer>) -> Vec<Cursor> {
    archive.commit(&Group { newcomers, now_ms: NOW, ..Group::default() }).await.unwrap().newcomers
}

/// A user of whom no cursor was kept was given the head of the log, although its device named an older place: it missed
/// what lay between, and no ledger knew.
pub(crate) async fn newcomers_begin_where_they_were<A: Archive>(archive: A) {
    let other = AppId(2);
    // The first of an app makes its log.
    let first = begin(&archive, vec![newcomer("first", None)]).await[0];
    assert_eq!((first.bseq, archive.heads(&[APP]).await.unwrap()), (Bseq(0), vec![(APP, first)]));
    let place = |bseq| Cursor { bseq: Bseq(bseq), ..first };
    let broadcasts = (1..=6).map(|n| broadcast(n, LATER)).collect();
    archive.commit(&Group { broadcasts, now_ms: NOW, ..Group::default() }).await.unwrap();
    let of_another = Cursor { epoch: Epoch(first.epoch.0 + 1), bseq: Bseq(2) };
    let list = [
        ("new", None, 6),
        ("was here", Some(place(2)), 2),
        ("was at the head", Some(place(6)), 6),
        ("is ahead of the log", Some(place(7)), 6),
        ("is of another log", Some(of_another), 6),
        ("first", Some(place(5)), 0),
    ];
    let named = |names: &[(&str, Option<Cursor>, u64)]| {
        names.iter().map(|(uid, own, _)| newcomer(uid, *own)).collect::<Vec<_>>()
    };
    let wanted = |names: &[(&str, Option<Cursor>, u64)]| {
        names.iter().map(|(.., bseq)| place(*bseq)).collect::<Vec<_>>()
    };
    // First those who are all new, then some who have a cursor, which stays where it stands.
    assert_eq!(begin(&archive, named(&list[..5])).await, wanted(&list[..5]));
    archive
        .commit(&Group { broadcasts: vec![broadcast(7, LATER)], now_ms: NOW, ..Group::default() })
        .await
        .unwrap();
    assert_eq!(begin(&archive, named(&list)).await, wanted(&list));
    let keys: Vec<InboxKey> = list.iter().map(|(uid, ..)| key(uid)).collect();
    let kept: Vec<_> = wanted(&list).into_iter().map(Some).collect();
    assert_eq!(archive.cursors(&keys).await.unwrap(), kept);
    assert_eq!(
        begin(&archive, vec![newcomer("twice", Some(place(3))), newcomer("twice", None)]).await,
        [place(3); 2]
    );
    // Several apps, one of them without a log, beside something else; and more than a statement takes.
    let mut newcomers = vec![newcomer("a", None)];
    newcomers.extend((0..700).map(|n| newcomer(&format!("u{n}"), (n % 2 == 0).then(|| place(n % 5)))));
    newcomers.push(Newcomer { key: InboxKey::new(other, Uid::new("a").unwrap()), own: Some(place(0)) });
    let cursors = vec![(key("b"), place(1))];
    let group = Group { newcomers, cursors, now_ms: NOW, ..Group::default() };
    let done = archive.commit(&group).await.unwrap().newcomers;
    assert_eq!(done.len(), 702);
    assert_eq!(done[0], place(7));
    for (n, at) in (0..700).zip(&done[1..]) {
        assert_eq!(*at, if n % 2 == 0 { place(n % 5) } else { place(7) }, "u{n}");
    }
    assert_eq!(archive.heads(&[other]).await.unwrap(), [(other, done[701])]);
    assert_eq!(archive.cursors(&[key("b")]).await.unwrap(), [Some(place(1))]);
    let many = (0..600).map(|n| newcomer(&format!("v{n}"), None)).collect();
    assert_eq!(begin(&archive, many).await, vec![place(7); 600]);
    assert_eq!(begin(&archive, Vec::new()).await, []);
}
