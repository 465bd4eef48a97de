//! The bind pipeline.

use std::{collections::HashMap, time::Duration};

use wire::{
    frame::BindCode,
    id::{AppId, AppKey, Bseq, Cursor, Epoch, FenceNumber, Position, Seq, Uid},
};

use super::cluster::{Side, token};
use crate::{event_loop::Order, exchange::KickWhy};

#[tokio::test(start_paused = true)]
async fn token_then_register_then_inbox() {
    let mut side = Side::new();
    side.services.state().head = 8;
    side.services.state().cursor = Some(6);
    let done = side.bind("alice").await;
    assert_eq!((done.fence, done.app), (FenceNumber(1), AppId(7)));
    assert_eq!(done.inbox.start, Position { epoch: Epoch(3), seq: Seq(4) });
    assert_eq!((done.cursor.bseq, done.log.bseq), (Bseq(6), Bseq(8)));
    side.settle().await;
    {
        let state = side.services.state();
        assert_eq!(state.calls[..4], ["app", "bind", "load", "heads"]);
        assert!(state.loads[0].bind && !state.loads[0].acknowledges);
        assert_eq!(state.events, [("alice".to_owned(), true, 1)]);
    }
    side.end().await;
}

#[tokio::test(start_paused = true)]
async fn each_bad_token_has_its_code_and_costs_the_cluster_nothing() {
    let mut side = Side::new();
    for (app, token, code) in [
        ("nobody", token("nobody", "alice"), BindCode::UnknownApp),
        ("demo", token("other", "alice"), BindCode::WrongApp),
        ("demo", token("demo", "bob"), BindCode::WrongUid),
        ("demo", "x".to_owned(), BindCode::BadToken),
    ] {
        let mut ask = side.bind_ask("alice");
        ask.app = AppKey::new(app).unwrap();
        ask.token = token;
        side.asks.binds.send(vec![ask]).await.unwrap();
        assert_eq!(side.bound().await.result.unwrap_err().code, code);
    }
    assert!(!side.services.state().calls.contains(&"bind"));
    side.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_inbox_cannot_be_read_is_given_back() {
    let mut side = Side::new();
    side.services.fail("load", 1);
    let ask = side.bind_ask("alice");
    side.asks.binds.send(vec![ask]).await.unwrap();
    let refusal = side.bound().await.result.unwrap_err();
    assert_eq!(refusal.code, BindCode::Busy);
    assert!(refusal.retry_after_ms > 0);
    assert!(side.services.state().sessions.is_empty());
    assert!(side.services.state().events.is_empty(), "nobody was online");
    side.end().await;
}

/// Were both under way at once, the one that came first could reach the register last and throw the newer out.
#[tokio::test(start_paused = true)]
async fn binds_of_one_user_go_one_after_the_other() {
    let mut side = Side::new();
    side.services.state().bind_takes = Duration::from_millis(500);
    let first = side.bind_ask("alice");
    let second = side.bind_ask("alice");
    let other = side.bind_ask("bob");
    let keys = [first.binding, second.binding];
    side.asks.binds.send(vec![first]).await.unwrap();
    side.asks.binds.send(vec![second, other]).await.unwrap();
    let mut fences = Vec::new();
    while fences.len() < 3 {
        let Order::Bound(answers) = side.order().await else { panic!("no answer") };
        fences.extend(answers.into_iter().map(|answer| (answer.binding, answer.result.unwrap().fence)));
    }
    let fence = |key| fences.iter().find(|(binding, _)| *binding == key).unwrap().1;
    assert!(fence(keys[0]) < fence(keys[1]));
    side.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_during_a_bind_is_not_missed() {
    let mut side = Side::new();
    side.services.state().bind_takes = Duration::from_millis(500);
    let ask = side.bind_ask("alice");
    side.asks.binds.send(vec![ask]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let uid = Uid::new("alice").unwrap();
    assert!(side.backend.pending.note_message(AppId(7), &uid));
    assert!(side.backend.pending.note_kick(AppId(7), &uid, FenceNumber(1), KickWhy::Replaced));
    let done = side.bound().await.result.unwrap();
    assert_eq!((done.kicked, done.reload), (Some(KickWhy::Replaced), true));
    side.settle().await;
    assert!(!side.backend.pending.note_message(AppId(7), &uid), "it is over");
    side.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_older_kick_is_for_an_older_session() {
    let mut side = Side::new();
    side.services.state().fence = 5;
    side.services.state().bind_takes = Duration::from_millis(500);
    let ask = side.bind_ask("alice");
    side.asks.binds.send(vec![ask]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let uid = Uid::new("alice").unwrap();
    side.backend.pending.note_kick(AppId(7), &uid, FenceNumber(5), KickWhy::Replaced);
    assert_eq!(side.bound().await.result.unwrap().kicked, None);
    side.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_devices_own_cursor_wins_if_it_can_be_true() {
    let own = |bseq, epoch| Some(Cursor { epoch: Epoch(epoch), bseq: Bseq(bseq) });
    for (device, cursor, counted, meaning) in [
        (None, 5, 5, "the saver's"),
        (own(7, 1), 7, 7, "it has seen what the saver was not told, and nothing there was meant for it"),
        (own(3, 1), 5, 5, "older than the saver's"),
        (own(99, 1), 5, 5, "ahead of the log"),
        (own(7, 2), 5, 5, "of another log"),
    ] {
        let mut side = Side::new();
        side.services.state().head = 8;
        side.services.state().cursor = Some(5);
        let mut ask = side.bind_ask("alice");
        ask.broadcasts = device;
        ask.inbox = Some(Position { epoch: Epoch(2), seq: Seq(1) });
        side.asks.binds.send(vec![ask]).await.unwrap();
        let done = side.bound().await.result.unwrap();
        assert_eq!((done.cursor.bseq, done.saved_cursor.bseq), (Bseq(cursor), Bseq(counted)), "{meaning}");
        assert!(side.services.state().loads[0].acknowledges, "its place in its inbox is an ack");
        side.end().await;
    }
}

/// Without the archive's word a device goes on where it says that it is, if that is a place of the log.
#[tokio::test(start_paused = true)]
async fn the_devices_own_cursor_serves_while_the_archive_is_away() {
    let own = |bseq, epoch| Some(Cursor { epoch: Epoch(epoch), bseq: Bseq(bseq) });
    for (device, cursor) in [(own(3, 1), Some(3)), (own(99, 1), None), (own(7, 2), None), (None, None)] {
        let mut side = Side::new();
        side.services.state().head = 8;
        side.services.state().cursor_unknown = true;
        let mut ask = side.bind_ask("alice");
        ask.broadcasts = device;
        side.asks.binds.send(vec![ask]).await.unwrap();
        let done = side.bound().await.result;
        assert_eq!(side.services.state().loads[0].own_cursor.is_some(), device.is_some());
        match (done, cursor) {
            (Ok(done), Some(cursor)) => {
                // The log says that nothing up to there was meant for it.
                assert_eq!((done.cursor.bseq, done.saved_cursor.bseq), (Bseq(cursor), Bseq(cursor)));
            }
            (Err(refusal), None) => assert_eq!(refusal.code, BindCode::Busy),
            (done, _) => panic!("{device:?}: {done:?}"),
        }
        side.end().await;
    }
}

/// Who had told an offset and then told UTC kept the old one.
#[tokio::test(start_paused = true)]
async fn the_clock_that_a_device_tells_is_passed_on_also_if_it_shows_utc() {
    let mut side = Side::new();
    for told in [None, Some(0), Some(345)] {
        let mut ask = side.bind_ask("alice");
        ask.device = audience::Device::told(0, told, "");
        side.asks.binds.send(vec![ask]).await.unwrap();
        side.bound().await.result.unwrap();
        assert_eq!(side.services.state().loads.pop().unwrap().utc_offset_min, told);
    }
    side.end().await;
}

/// The device had given up a bind that waited for a register which stood still, and was bound elsewhere. When the register woke up
/// it was asked all the same, so the device's new session was replaced by one that nobody held.
#[tokio::test(start_paused = true)]
async fn a_bind_that_was_given_up_while_it_waited_is_not_made() {
    let mut side = Side::new();
    side.services.state().apps_at_hand = true;
    side.bind("zoe").await;
    side.services.state().bind_takes = Duration::from_secs(5);
    let asks = ["first", "gone", "here"].map(|uid| side.bind_ask(uid));
    let [first, gone, here] = asks.each_ref().map(|ask| ask.binding);
    for ask in asks {
        // The first is under way, and the others wait for the register's next call.
        side.asks.binds.send(vec![ask]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    side.given_up.note(gone);
    let mut answers = HashMap::new();
    while answers.len() < 3 {
        let Order::Bound(some) = side.order().await else { panic!("something else is told") };
        answers.extend(some.into_iter().map(|answer| (answer.binding, answer.result)));
    }
    assert!(answers[&first].is_ok() && answers[&here].is_ok());
    assert_eq!(answers[&gone].as_ref().unwrap_err().code, BindCode::Busy);
    let mut sessions: Vec<_> = side.services.state().sessions.keys().cloned().collect();
    sessions.sort();
    assert_eq!(sessions, ["first", "here", "zoe"]);
    side.end().await;
}

/// The same for one that waited for its turn, behind another bind of its user.
#[tokio::test(start_paused = true)]
async fn a_bind_that_was_given_up_while_another_of_its_user_was_made_is_not_made() {
    let mut side = Side::new();
    side.services.state().bind_takes = Duration::from_secs(5);
    let [first, gone] = ["alice", "alice"].map(|uid| side.bind_ask(uid));
    let binding = gone.binding;
    side.asks.binds.send(vec![first, gone]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    side.given_up.note(binding);
    assert!(side.bound().await.result.is_ok());
    assert_eq!(side.bound().await.result.unwrap_err().code, BindCode::Busy);
    assert_eq!(side.services.state().fence, 1, "the register was asked once");
    side.end().await;
}
