use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::{RoomLife, shard::Displaced};

fn life(room: u32, incarnation: u64) -> RoomLife {
    RoomLife { room, incarnation }
}

fn bind(room: u32, incarnation: u64, conn: u64) -> Bind {
    Bind { life: life(room, incarnation), conn, since_ms: conn * 10 }
}

#[test]
fn late_unbind_does_not_remove_a_newer_session() {
    let store = Store::new(3);
    let first = store.bind(1, "alice", bind(1, 1, 10)).unwrap();
    let second = store.bind(1, "alice", bind(2, 1, 20)).unwrap();
    assert_eq!(second.displaced, Some(Displaced { life: life(1, 1), fence: first.fence }));
    assert!(second.fence > first.fence && first.fence > 3 << 32);
    assert!(!store.unbind(1, "alice", first.fence));
    assert_eq!(store.look_up(1, "alice").unwrap().conn, 20);
    assert!(store.unbind(1, "alice", second.fence));
    assert!(!store.unbind(1, "alice", second.fence), "a second unbind has removed nothing");
    assert!(store.is_empty());
}

/// A bind whose answer was lost is sent again. If that kicked, the connection would end itself.
#[test]
fn a_repeated_bind_of_one_connection_displaces_nobody() {
    let store = Store::new(1);
    let first = store.bind(1, "alice", bind(1, 1, 10)).unwrap();
    let again = store.bind(1, "alice", bind(1, 1, 10)).unwrap();
    assert!(again.fence > first.fence);
    assert_eq!(again.displaced, None);
}

/// After a restart of the register the rooms tell again what they have. An old session that comes late must not
/// throw out the user's new one; the old one is the one to be kicked.
#[test]
fn a_session_told_again_loses_to_a_newer_one() {
    let store = Store::new(2);
    let old_fence = 1 << 32 | 9;
    let newer = store.bind(1, "alice", bind(2, 1, 20)).unwrap();
    let told = store.restore(1, "alice", bind(1, 1, 10), old_fence).unwrap();
    assert_eq!((told.lost, told.displaced), (true, None));
    let now = store.look_up(1, "alice").unwrap();
    assert_eq!((now.conn, now.fence), (20, newer.fence));
}

/// Two rooms held a session of one user, because the kick of the older was lost with the register. The one that was told
/// first got a new fence and so won, old or not.
#[test]
fn of_two_that_are_told_the_newer_stays_in_whichever_order() {
    let (old, new) = (5 << 32 | 1, 5 << 32 | 2);
    let store = Store::new(9);
    assert!(!store.restore(1, "alice", bind(1, 1, 10), old).unwrap().lost);
    let newer = store.restore(1, "alice", bind(2, 1, 20), new).unwrap();
    assert_eq!(newer.displaced, Some(Displaced { life: life(1, 1), fence: old }));
    assert!(!newer.lost);
    assert_eq!(store.restore(1, "bob", bind(2, 1, 20), new).unwrap().displaced, None);
    assert!(store.restore(1, "bob", bind(1, 1, 10), old).unwrap().lost);
    for user in ["alice", "bob"] {
        let now = store.look_up(1, user).unwrap();
        assert_eq!((now.conn, now.fence), (20, new), "a fence is kept from one register to the next");
        assert!(store.unbind(1, user, new));
    }
}

#[test]
fn telling_twice_changes_nothing_and_hurts_no_newer_session_of_the_connection() {
    let store = Store::new(9);
    for _ in 0..2 {
        let told = store.restore(1, "alice", bind(1, 1, 10), 7).unwrap();
        assert_eq!((told.lost, told.displaced), (false, None));
    }
    let anew = store.bind(1, "alice", bind(1, 1, 10)).unwrap();
    assert!(!store.restore(1, "alice", bind(1, 1, 10), 7).unwrap().lost);
    assert_eq!(store.look_up(1, "alice").unwrap().fence, anew.fence);
    assert_eq!(store.len(), 1);
}

/// A register that lost its folder starts again at life 1, below the fences that are out there.
#[test]
fn fences_stay_above_those_a_session_had() {
    let store = Store::new(1);
    store.restore(1, "alice", bind(1, 1, 10), 9 << 32).unwrap();
    let next = store.bind(1, "alice", bind(2, 1, 20)).unwrap();
    assert!(next.fence > 9 << 32);
    assert_eq!(next.displaced, Some(Displaced { life: life(1, 1), fence: 9 << 32 }));
}

/// The register that had the user before had been started later than this one, so its fences were higher: the user's new
/// session here looked older than the old one there.
#[test]
fn who_takes_users_over_draws_above_the_owner_before() {
    let (owner, heir) = (Store::new(1_000), Store::new(900));
    let old = owner.bind(1, "alice", bind(1, 1, 10)).unwrap();
    heir.raise(1_007);
    let new = heir.bind(1, "alice", bind(2, 1, 20)).unwrap();
    assert!(new.fence > old.fence);
    assert!(heir.restore(1, "alice", bind(1, 1, 10), old.fence).unwrap().lost);
    heir.raise(5);
    assert!(heir.bind(1, "alice", bind(2, 1, 21)).unwrap().fence > new.fence, "a horizon never sinks");
}

/// The answer to a bind was lost and the device gave up: the user looked online until somebody bound again.
#[test]
fn a_bind_whose_answer_was_lost_is_taken_back() {
    let store = Store::new(1);
    let lost = bind(1, 1, 10);
    store.bind(1, "alice", lost).unwrap();
    assert!(!store.take_back(1, "alice", Bind { since_ms: 101, ..lost }), "the device has bound anew");
    assert!(!store.take_back(1, "alice", bind(2, 1, 10)), "or elsewhere");
    assert!(store.take_back(1, "alice", lost));
    assert!(store.is_empty());
}

#[tokio::test]
async fn a_lapse_forgets_sessions_and_lives_but_no_fence() {
    let store = Store::new(3);
    let before = store.bind(1, "alice", bind(1, 7, 10)).unwrap();
    store.purge(&[Fate::Before(life(1, 7))]).await;
    assert_eq!(store.clear(), 1);
    assert!(store.look_up(1, "alice").is_none() && store.is_empty());
    assert!(store.bind(1, "alice", bind(1, 7, 10)).unwrap().fence > before.fence);
    assert_eq!(store.retain(|app, uid| app == 1 && uid != b"alice").await, 1);
    assert!(store.is_empty());
}

#[tokio::test]
async fn a_new_life_of_a_room_ends_the_sessions_of_the_old_one() {
    let store = Store::new(1);
    for user in 0..2000 {
        store.bind(1, &format!("u{user}"), bind(1, 7, user)).unwrap();
    }
    store.bind(1, "other", bind(2, 1, 1)).unwrap();
    assert!(store.bind(1, "u0", bind(1, 8, 1)).unwrap().new_life);
    assert_eq!(store.purge(&[Fate::Before(life(1, 8))]).await, 1999);
    assert_eq!(store.len(), 2);
    store.bind(1, "u1", bind(1, 7, 1)).unwrap();
    assert!(store.look_up(1, "u1").is_none(), "a bind from a life that ended comes to nothing");
    assert_eq!(store.purge(&[Fate::Gone(life(2, 1))]).await, 1);
    let returned = store.bind(1, "other", bind(2, 1, 1)).unwrap();
    assert_eq!(
        returned.displaced, None,
        "a room that was thought gone and is not may tell its sessions again"
    );
    assert!(store.look_up(1, "other").is_some());
}

/// A room that answered three polls too late was taken for dead and its sessions were freed. It never knew, so it never
/// told them again: its users were connected, and offline to everybody else, until they bound anew.
#[tokio::test]
async fn a_room_that_was_only_slow_has_its_sessions_back() {
    let store = Store::new(1);
    let mut fences = Vec::new();
    for user in ["alice", "bob", "carol"] {
        fences.push(store.bind(1, user, bind(1, 7, 10)).unwrap().fence);
    }
    assert_eq!(store.purge(&[Fate::Away(life(1, 7))]).await, 0);
    assert!(store.look_up(1, "alice").is_none(), "as long as it does not answer nobody is sent there");
    let now = Instant::now();
    assert!(store.is_unsure(1, "alice", now), "but what is stored for her meanwhile is to be offered again");
    assert!(!store.is_unsure(1, "alice", now + Duration::from_secs(61)), "by then it is dead");
    assert!(!store.is_unsure(1, "nobody", now));
    let elsewhere = store.bind(1, "bob", bind(2, 1, 20)).unwrap();
    assert_eq!(elsewhere.displaced, None, "a room that does not answer cannot be told");
    assert!(store.unbind(1, "carol", fences[2]), "it is there: it says who has gone");
    store.purge(&[Fate::Back(life(1, 7))]).await;
    assert_eq!(store.look_up(1, "alice").map(|found| found.fence), Some(fences[0]));
    assert!(!store.is_unsure(1, "alice", now));
    assert_eq!(store.look_up(1, "bob").map(|found| found.fence), Some(elsewhere.fence));
    assert!(store.look_up(1, "carol").is_none());

    store.purge(&[Fate::Away(life(1, 7))]).await;
    store.bind(1, "dave", bind(1, 7, 11)).unwrap();
    assert!(store.look_up(1, "dave").is_some(), "who binds is there");
    store.purge(&[Fate::Away(life(1, 7))]).await;
    assert_eq!(store.purge(&[Fate::Before(life(1, 8))]).await, 2, "alice and dave");
}

#[test]
fn cost_of_a_session() {
    let store = Store::new(1);
    let users = 200_000;
    for user in 0..users {
        // 36 bytes, as a UUID has.
        store.bind(1, &format!("{user:036}"), bind(user % 50 + 1, 1, u64::from(user))).unwrap();
    }
    let cost = store.allocated_bytes() / users as usize;
    assert!(cost <= 90, "{cost} bytes a session");
}

#[derive(Debug, Clone)]
enum Step {
    Bind { user: u8, room: u32, conn: u64, told_again: bool },
    Unbind { user: u8, ago: usize },
    LookUp { user: u8 },
    Restart { room: u32 },
    Leave { room: u32 },
    Away { room: u32 },
    Back { room: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let (user, room) = (0..6_u8, 1..4_u32);
    prop_oneof![
        6 => (user.clone(), room.clone(), 0..4_u64, any::<bool>())
            .prop_map(|(user, room, conn, told_again)| Step::Bind { user, room, conn, told_again }),
        4 => (user.clone(), 0..4_usize).prop_map(|(user, ago)| Step::Unbind { user, ago }),
        3 => user.prop_map(|user| Step::LookUp { user }),
        1 => room.clone().prop_map(|room| Step::Restart { room }),
        1 => room.clone().prop_map(|room| Step::Leave { room }),
        1 => room.clone().prop_map(|room| Step::Away { room }),
        1 => room.prop_map(|room| Step::Back { room }),
    ]
}

proptest! {
    /// The store against the plainest thing that obeys the rules: one map, and the history of each user's fences.
    #[test]
    fn obeys_the_rules_of_fences(steps in prop::collection::vec(step(), 1..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let store = Store::new(5);
        let mut online: HashMap<u8, (RoomLife, u64, u64)> = HashMap::new();
        let mut fences: HashMap<u8, Vec<u64>> = HashMap::new();
        let mut incarnations: HashMap<u32, u64> = HashMap::new();
        // By shard, as the store has it: a bind shows that the room is there, and only its own shard sees it.
        let mut away: HashSet<(u32, usize)> = HashSet::new();
        let shard = |user: u8| (store.key(1, &format!("u{user}")).hash >> 40) as usize % SHARDS;
        for step in steps {
            match step {
                Step::Bind { user, room, conn, told_again } => {
                    let at = life(room, incarnations.get(&room).copied().unwrap_or(1));
                    let history = fences.entry(user).or_default();
                    // Told again with the user's first fence: older than whatever is there.
                    let told = history.first().copied().filter(|_| told_again);
                    let (name, bind) = (format!("u{user}"), Bind { life: at, conn, since_ms: 0 });
                    away.remove(&(room, shard(user)));
                    let before = online.get(&user).copied();
                    let alive = before.is_some_and(|(l, _, _)| !away.contains(&(l.room, shard(user))));
                    let same = before.is_some_and(|(l, c, _)| (l, c) == (at, conn));
                    let kicked = before.filter(|_| alive && !same);
                    if let Some(fence) = told {
                        let restored = store.restore(1, &name, bind, fence).unwrap();
                        let older = before.is_some_and(|(_, _, newest)| fence < newest);
                        let kicked = kicked.filter(|(_, _, other)| *other < fence);
                        prop_assert_eq!(restored.lost, older && !same);
                        prop_assert_eq!(restored.displaced, kicked.map(|(life, _, fence)| Displaced { life, fence }));
                        if !older {
                            online.insert(user, (at, conn, fence));
                        }
                    } else {
                        let bound = store.bind(1, &name, bind).unwrap();
                        prop_assert!(history.iter().all(|old| *old < bound.fence));
                        history.push(bound.fence);
                        prop_assert_eq!(bound.displaced, kicked.map(|(life, _, fence)| Displaced { life, fence }));
                        online.insert(user, (at, conn, bound.fence));
                    }
                }
                Step::Unbind { user, ago } => {
                    let Some(fence) = fences.get(&user).and_then(|h| h.iter().rev().nth(ago)).copied() else {
                        continue;
                    };
                    let expected = online.get(&user).is_some_and(|(_, _, f)| *f == fence);
                    prop_assert_eq!(store.unbind(1, &format!("u{user}"), fence), expected);
                    if expected {
                        online.remove(&user);
                    }
                }
                Step::LookUp { user } => {
                    let found = store.look_up(1, &format!("u{user}"));
                    let expected = online.get(&user).copied().filter(|(l, _, _)| !away.contains(&(l.room, shard(user))));
                    prop_assert_eq!(found.map(|w| (w.life, w.conn, w.fence)), expected);
                }
                Step::Restart { room } => {
                    let ended = *incarnations.entry(room).or_insert(1);
                    incarnations.insert(room, ended + 1);
                    runtime.block_on(store.purge(&[Fate::Before(life(room, ended + 1))]));
                    away.retain(|(r, _)| *r != room);
                    online.retain(|_, (l, _, _)| l.room != room);
                }
                Step::Leave { room } => {
                    let gone = life(room, incarnations.get(&room).copied().unwrap_or(1));
                    runtime.block_on(store.purge(&[Fate::Gone(gone)]));
                    away.retain(|(r, _)| *r != room);
                    online.retain(|_, (l, _, _)| l.room != room);
                }
                Step::Away { room } => {
                    away.extend((0..6).map(|user| (room, shard(user))));
                    let life = life(room, incarnations.get(&room).copied().unwrap_or(1));
                    runtime.block_on(store.purge(&[Fate::Away(life)]));
                }
                Step::Back { room } => {
                    away.retain(|(r, _)| *r != room);
                    let life = life(room, incarnations.get(&room).copied().unwrap_or(1));
                    runtime.block_on(store.purge(&[Fate::Back(life)]));
                }
            }
            prop_assert_eq!(store.len(), online.len());
        }
    }
}
