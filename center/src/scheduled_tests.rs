use cluster::NodeState;
use http::HeaderValue;
use proto::v1;

use super::*;
use crate::{
    config::Config,
    error::Error,
    ops::{Caller, Sent},
    testing::{DEMO_KEY, TestCenter},
    when,
};

const HOUR: u64 = 3_600_000;

async fn caller(center: &TestCenter) -> Caller {
    let key = HeaderValue::from_str(&format!("Bearer {DEMO_KEY}")).unwrap();
    center.ops.authenticate(Some(&key)).await.unwrap()
}

async fn keep(center: &TestCenter, uids: &[&str], when: v1::When, transient: bool) -> u64 {
    let request = v1::MulticastRequest {
        uids: uids.iter().map(|&uid| uid.to_owned()).collect(),
        payload: "hello".into(),
        ttl_s: Some(600),
        transient,
        when: Some(when),
        ..Default::default()
    };
    let done = center.ops.multicast(&caller(center).await, request).await.unwrap();
    assert!(done.scheduled);
    done.id
}

fn at(at_ms: u64) -> v1::When {
    v1::When { at_ms, ..Default::default() }
}

/// Sends all that is due at that time; answers what was done with each part.
async fn send_all(center: &TestCenter, now_ms: u64) -> Vec<Result<Sent, Error>> {
    let mut done = Vec::new();
    for push in center.ops.due_of(NodeId(2), now_ms, 100).await.unwrap() {
        done.push(center.ops.send_due(&push, now_ms).await);
    }
    done
}

fn stored(center: &TestCenter) -> Vec<String> {
    let state = center.fakes.state();
    state.inboxes.iter().filter(|(_, inbox)| !inbox.is_empty()).map(|(uid, _)| uid.clone()).collect()
}

fn parts(center: &TestCenter) -> Vec<ScheduledPush> {
    center.fakes.state().schedule.parts.values().cloned().collect()
}

#[tokio::test]
async fn what_is_due_is_sent_with_its_id_and_removed() {
    let center = TestCenter::start(Config::default()).await;
    let due = cluster::now_ms() + HOUR;
    let id = keep(&center, &["a", "b"], at(due), false).await;
    assert!(send_all(&center, due - 1).await.is_empty());
    center.fakes.state().online.push("a".to_owned());
    assert_eq!(send_all(&center, due).await.len(), 1);
    assert_eq!((stored(&center), parts(&center).len()), (vec!["a".to_owned(), "b".to_owned()], 0));
    while center.fakes.state().delivered.is_empty() {
        tokio::task::yield_now().await;
    }
    let state = center.fakes.state();
    assert_eq!((state.delivered[0].0.id, state.delivered[0].0.uid.as_str()), (id, "a"));
    let append = &state.appended[0];
    assert_eq!((append.id, append.multicast), (id, true));
    assert_eq!((append.expires_ms, append.accepted_ms), (due + 600_000, cluster::accepted_ms_of(id)));
}

/// Two centers that both think it is theirs, or one that died before it could remove it: each user has it once.
#[tokio::test]
async fn what_is_sent_twice_is_there_once() {
    let center = TestCenter::start(Config::default()).await;
    let due = cluster::now_ms() + HOUR;
    let id = keep(&center, &["a", "b"], at(due), false).await;
    let push = parts(&center).remove(0);
    let (one, other) = tokio::join!(center.ops.send_due(&push, due), center.ops.send_due(&push, due + 400));
    assert!(one.is_ok() && other.is_ok());
    let state = center.fakes.state();
    assert!(state.inboxes.values().all(|inbox| *inbox == [id]));
    assert!(state.appended.iter().all(|append| append.expires_ms == due + 600_000), "both say the same");
}

#[tokio::test]
async fn what_cannot_be_stored_stays() {
    let center = TestCenter::start(Config::default()).await;
    let due = cluster::now_ms() + HOUR;
    keep(&center, &["a", "b"], at(due), false).await;
    let busy = proto::internal::Refusal { code: "busy".into(), message: "m".into(), retry_after_ms: 10 };
    center.fakes.state().refuse = Some(busy);
    assert!(send_all(&center, due).await.remove(0).unwrap_err().is_transient());
    assert_eq!(parts(&center).len(), 1);
    center.fakes.state().refuse = None;
    assert!(send_all(&center, due).await.remove(0).is_ok());
    assert_eq!((stored(&center).len(), parts(&center).len()), (2, 0));
}

/// A transient message is sent only by who removed it.
#[tokio::test]
async fn a_transient_message_is_sent_at_most_once() {
    let center = TestCenter::start(Config::default()).await;
    center.fakes.state().online.push("a".to_owned());
    let due = cluster::now_ms() + HOUR;
    keep(&center, &["a", "b"], at(due), true).await;
    let push = parts(&center).remove(0);
    for _ in 0..2 {
        center.ops.send_due(&push, due).await.unwrap();
    }
    let state = center.fakes.state();
    assert_eq!((state.delivered.len(), state.appended.len()), (1, 0));
}

/// 09:00 on the device: each user gets it when its own clock shows that, one who has travelled east an hour later at most.
#[tokio::test]
async fn a_local_time_comes_to_each_user_by_its_own_clock() {
    let center = TestCenter::start(Config::default()).await;
    let offset = |uid: &str, minutes| {
        center.fakes.state().schedule.offsets.insert(uid.to_owned(), minutes);
    };
    offset("tokyo", 540);
    offset("berlin", 60);
    offset("lima", -300);
    let clock = v1::When { local_time: "09:00".into(), time_zone: "device".into(), ..Default::default() };
    let id = keep(&center, &["tokyo", "berlin", "nobody", "lima"], clock, false).await;
    let minutes = parts(&center)[0].local_minutes.unwrap();
    let nine = |offset| when::local_due_ms(minutes, offset);
    assert_eq!(parts(&center)[0].due_ms, when::first_due_ms(minutes));

    // Nobody is there yet: it is looked at again.
    send_all(&center, when::first_due_ms(minutes)).await;
    let mut now = when::first_due_ms(minutes);
    assert!(stored(&center).is_empty());
    let mut came = Vec::new();
    while !parts(&center).is_empty() {
        let next = parts(&center)[0].due_ms;
        assert!(next > now && next <= now + HOUR, "it is looked at again within an hour");
        now = next;
        let before = stored(&center);
        send_all(&center, now).await;
        for uid in stored(&center).into_iter().filter(|uid| !before.contains(uid)) {
            came.push((uid, now));
        }
        if now == nine(0) {
            offset("lima", -60);
        }
    }
    let expected = [("tokyo", nine(540)), ("berlin", nine(60)), ("nobody", nine(0)), ("lima", nine(-60))];
    assert_eq!(came, expected.map(|(uid, ms)| (uid.to_owned(), ms)));
    let state = center.fakes.state();
    assert!(state.inboxes.values().all(|inbox| *inbox == [id]));
    assert!(state.appended.iter().all(|append| append.multicast && append.id == id));
}

/// The center died after it had sent a part's first users and kept the others, and before it could remove the part.
#[tokio::test]
async fn a_part_that_was_half_done_is_done_again_without_harm() {
    let center = TestCenter::start(Config::default()).await;
    center.fakes.state().schedule.offsets.insert("tokyo".to_owned(), 540);
    let clock = v1::When { local_time: "09:00".into(), time_zone: "device".into(), ..Default::default() };
    let id = keep(&center, &["tokyo", "london"], clock, false).await;
    let minutes = parts(&center)[0].local_minutes.unwrap();
    let now = when::local_due_ms(minutes, 540);
    center.fakes.state().schedule.stuck = true;
    assert!(send_all(&center, now).await.remove(0).is_err());
    assert_eq!((stored(&center), parts(&center).len()), (vec!["tokyo".to_owned()], 2));
    center.fakes.state().schedule.stuck = false;
    for step in 0..20 {
        send_all(&center, now + step * HOUR).await;
    }
    assert_eq!((stored(&center).len(), parts(&center).len()), (2, 0));
    assert!(center.fakes.state().inboxes.values().all(|inbox| *inbox == [id]), "each once");
}

/// The runner sends what is due on its own, also for centers that are not there; and a part that cannot be sent does not keep it
/// from others.
#[tokio::test(start_paused = true)]
async fn the_runner_sends_what_is_due() {
    let center = TestCenter::start(Config::default()).await;
    let due = cluster::now_ms() + 60_000;
    keep(&center, &["a", "b"], at(due), false).await;
    keep(&center, &["late"], at(due + 86_400_000), false).await;
    let cancel = CancellationToken::new();
    let running = tokio::spawn(run(Arc::clone(&center.ops), cancel.clone()));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(stored(&center).is_empty());
    // The clock on the wall does not move here: what is due is brought forward instead.
    for push in center.fakes.state().schedule.parts.values_mut().filter(|push| push.due_ms == due) {
        push.due_ms = 1;
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(
        (stored(&center).len(), parts(&center).len()),
        (2, 1),
        "the center is not in the picture, and looks all the same"
    );
    center.join().await;
    for push in center.fakes.state().schedule.parts.values_mut() {
        push.due_ms = cluster::now_ms();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((stored(&center).len(), parts(&center).len()), (3, 0), "at once, as it is its own now");
    cancel.cancel();
    running.await.unwrap();
}

#[test]
fn parts_of_the_schedule_are_owned_by_centers_that_serve() {
    use cluster::{NodeInfo, NodeState};
    let picture = |states: [NodeState; 3]| {
        let center = |(id, state)| NodeInfo { state, ..NodeInfo::new(Role::Center, NodeId(id)) };
        Picture::new(1, (1..).zip(states).map(center).collect())
    };
    let up = picture([NodeState::Ready; 3]);
    let owners: Vec<_> = (0..100).map(|shard| owner(&up, NodeId(shard)).unwrap()).collect();
    for id in 1..=3 {
        assert!(owners.iter().filter(|owner| **owner == NodeId(id)).count() > 15);
    }
    let down = picture([NodeState::Ready, NodeState::Down, NodeState::Ready]);
    for (shard, before) in (0..100).zip(owners) {
        let now = owner(&down, NodeId(shard)).unwrap();
        assert!(now == before || before == NodeId(2), "only what was of the one that is down moves");
        assert_ne!(now, NodeId(2));
    }
    assert!(owner(&Picture::default(), NodeId(1)).is_none());
}

/// A center that drains has stopped to look: while it was still taken for the owner, what became due was late by the length of its drain.
#[test]
fn who_drains_owns_nothing() {
    let center = |id, state| cluster::NodeInfo { state, ..cluster::NodeInfo::new(Role::Center, NodeId(id)) };
    for shard in (1..20).map(NodeId) {
        let picture = |state| Picture::new(1, vec![center(1, NodeState::Ready), center(2, state)]);
        assert_eq!(owner(&picture(NodeState::Draining), shard), Some(NodeId(1)));
    }
    assert_eq!(owner(&Picture::new(1, vec![center(1, NodeState::Draining)]), NodeId(7)), None);
}

/// What is due before a look after a rest would find it is sent on time by who took it; and so is what is late already.
#[test]
fn what_is_due_soon_is_waited_for() {
    let soon = Soon::default();
    soon.note(1_000_000 + SOON_MS + 1, 1_000_000);
    assert!(!soon.waits(1_000_000), "its owner will have looked by then");
    soon.note(1_004_000, 1_000_000);
    assert!(soon.waits(1_000_000) && soon.waits(1_004_500) && !soon.waits(1_006_000));
    soon.note(5, 2_000_000);
    assert!(soon.waits(2_000_500) && !soon.waits(2_002_000));
}

/// Twice a second each center asked each saver what was due, for ever.
#[tokio::test(start_paused = true)]
async fn nothing_due_is_asked_about_seldom() {
    let center = TestCenter::start(Config::default()).await;
    center.join().await;
    let cancel = CancellationToken::new();
    let running = tokio::spawn(run(Arc::clone(&center.ops), cancel.clone()));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let asked = center.fakes.state().schedule.asked;
    assert!((10..=14).contains(&asked), "{asked} times in a minute");
    // The clock on the wall does not move here: what was kept as due soon is brought forward.
    keep(&center, &["a"], at(cluster::now_ms() + 5_000), false).await;
    for push in center.fakes.state().schedule.parts.values_mut() {
        push.due_ms = 1;
    }
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    assert_eq!((stored(&center).len(), parts(&center).len()), (1, 0));
    cancel.cancel();
    running.await.unwrap();
}
