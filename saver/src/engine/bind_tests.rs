//! Where a user stands in the broadcast log when it binds.

use bytes::Bytes;
use wire::id::{Bseq, Cursor, Epoch};

use super::{tests::*, *};
use crate::archive::{ArchiveError, NewBroadcast};

fn broadcast(n: u64) -> NewBroadcast {
    NewBroadcast {
        app: APP,
        id: id(n),
        payload: Bytes::from_static(b"x"),
        audience: String::new(),
        filter: None,
        accepted_ms: NOW,
        expires_ms: NOW + 60_000,
    }
}

fn bind(uid: &str, own_cursor: Option<Cursor>) -> LoadItem {
    LoadItem { key: key(uid), read: ALL, bind: true, own_cursor, utc_offset_min: None }
}

impl Rig {
    async fn bound(&self, uid: &str, own: Option<Cursor>) -> Cursor {
        self.engine.load(vec![bind(uid, own)]).await.remove(0).unwrap().cursor.unwrap()
    }
}

#[tokio::test]
async fn a_new_user_begins_at_the_head_of_the_log() {
    let rig = Rig::new().await;
    rig.engine.append_broadcast(broadcast(1)).await.unwrap();
    let cursors = rig.engine.load(vec![bind("a", None), bind("b", None)]).await;
    let cursor = cursors[0].as_ref().unwrap().cursor.unwrap();
    assert_eq!((cursor.bseq, cursors[1].as_ref().unwrap().cursor), (Bseq(1), Some(cursor)));
    let second = rig.engine.append_broadcast(broadcast(2)).await.unwrap();
    assert!(rig.engine.append_broadcast(broadcast(2)).await.unwrap().repeated);
    assert_eq!(rig.engine.heads(&[APP]).await.unwrap(), [(APP, second.place)]);
    let page = rig.engine.load_broadcasts(APP, cursor.bseq, 9, 99).await.unwrap();
    assert_eq!((page.broadcasts.len(), page.through), (1, Bseq(2)));
    // The cursor stays until the device says more.
    let again = rig.engine.load(vec![bind("a", None)]).await.remove(0).unwrap();
    assert_eq!(again.cursor, Some(cursor));
    let moved = AckItem { key: key("a"), inbox: None, cursor: Some(second.place), credits: Vec::new() };
    rig.engine.ack(vec![moved]).await.unwrap();
    let rig = rig.again().await;
    let again = rig.engine.load(vec![bind("a", None), bind("b", None)]).await;
    assert_eq!(again[0].as_ref().unwrap().cursor, Some(second.place));
    assert_eq!(again[1].as_ref().unwrap().cursor, Some(cursor));
    assert!(rig.engine.recall_broadcast(APP, id(2)).await.unwrap());
    let page = rig.engine.load_broadcasts(APP, Bseq(0), 9, 99).await.unwrap();
    assert_eq!(page.broadcasts.iter().map(|b| b.recalled).collect::<Vec<_>>(), [false, true]);
    let ledger = rig.ledger(2).await;
    assert!(ledger.found && ledger.broadcast.unwrap().recalled);
}

/// Of a user whose cursor is not kept nothing is known but what its device says. It was given the head of the log, and so
/// missed in silence what had come since.
#[tokio::test]
async fn a_device_that_was_here_goes_on_where_it_was() {
    let rig = Rig::new().await;
    let first = rig.engine.append_broadcast(broadcast(1)).await.unwrap().place;
    for n in 2..=4 {
        rig.engine.append_broadcast(broadcast(n)).await.unwrap();
    }
    let at = |bseq| Cursor { bseq: Bseq(bseq), ..first };
    assert_eq!(rig.bound("was here", Some(at(2))).await, at(2));
    assert_eq!(rig.bound("ahead", Some(at(5))).await, at(4));
    assert_eq!(
        rig.bound("elsewhere", Some(Cursor { epoch: Epoch(first.epoch.0 + 1), bseq: Bseq(1) })).await,
        at(4)
    );
    // It is kept now, whatever the device says, and whatever becomes of the saver.
    let rig = rig.killed().await;
    assert_eq!(rig.bound("was here", None).await, at(2));
    assert_eq!(rig.bound("was here", Some(at(1))).await, at(2));
    assert_eq!(rig.bound("ahead", Some(at(1))).await, at(4));
    let page = rig.engine.load_broadcasts(APP, Bseq(2), 9, 99).await.unwrap();
    assert_eq!(page.broadcasts.len(), 2, "what it would have missed");
}

/// Whether the archive has taken a first cursor or not when a saver ends: nobody was told a place that is not kept.
#[tokio::test]
async fn a_place_that_was_told_is_kept() {
    for done in [false, true] {
        let rig = Rig::new().await;
        let first = rig.engine.append_broadcast(broadcast(1)).await.unwrap().place;
        let lost = ArchiveError::Io("the answer is lost".to_owned());
        *rig.fault.lock().unwrap() = Some((done, lost.clone()));
        let refused = rig.engine.load(vec![bind("a", None)]).await.remove(0).unwrap_err();
        assert_eq!(refused, Refused::Archive(lost));
        let second = rig.engine.append_broadcast(broadcast(2)).await.unwrap().place;
        let rig = rig.killed().await;
        let told = rig.bound("a", None).await;
        assert_eq!(told, if done { first } else { second });
        let rig = rig.killed().await;
        rig.engine.append_broadcast(broadcast(3)).await.unwrap();
        assert_eq!(rig.bound("a", None).await, told);
    }
}

/// Two savers of one archive are asked for the same new users at once: both tell the same places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_savers_tell_the_same_place() {
    let rig = Rig::new().await;
    let other = rig.beside().await;
    rig.engine.append_broadcast(broadcast(1)).await.unwrap();
    let items = || (0..100).map(|n| bind(&format!("u{n}"), None)).collect::<Vec<_>>();
    let (ours, theirs, more) = tokio::join!(
        rig.engine.load(items()),
        other.engine.load(items()),
        rig.engine.append_broadcast(broadcast(2)),
    );
    more.unwrap();
    let places = |loads: Vec<Result<LoadedInbox, Refused>>| {
        loads.into_iter().map(|load| load.unwrap().cursor.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(places(ours), places(theirs));
}
