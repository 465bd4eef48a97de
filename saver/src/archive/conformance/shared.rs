//! What every archive must do for an inbox store that several savers share.

use super::*;

/// `n`s with what has become of them, for user `a`; with the payloads of all.
fn landing(list: &[(u64, State)]) -> Landing {
    Landing {
        deliveries: list.iter().map(|(n, state)| (unicast(*n, "a", *n), *state)).collect(),
        bodies: list.iter().map(|(n, _)| body(*n)).collect(),
        now_ms: NOW,
        ..Landing::default()
    }
}

async fn stored<A: Archive>(archive: &A, uid: &str) -> Vec<MessageId> {
    archive.surviving(&[key(uid)]).await.unwrap()[0].iter().map(|s| s.id).collect()
}

pub(crate) async fn lands_what_became_of_it<A: Archive>(archive: A) {
    let list: Vec<_> = (2..=6).zip(State::FINAL).chain([(1, State::Stored), (7, State::Stored)]).collect();
    let mut first = landing(&list);
    // What finished in the same part of the journal.
    first.finished = vec![(Row::unicast(id(7)), State::Acked)];
    archive.land(&first).await.unwrap();
    for (n, state) in (2..=6).zip(State::FINAL).chain([(1, State::Stored), (7, State::Acked)]) {
        assert_eq!(state_of(&archive, n).await, [state], "{n}");
    }
    // Only what is still in its inbox, and the dead letter, have a payload.
    assert_eq!(payloads(&archive, &[1, 2, 3, 4, 5, 6, 7]).await, 2);
    assert_eq!(payloads(&archive, &[1, 5]).await, 2);
    let survivor = archive.surviving(&[key("a")]).await.unwrap().remove(0).remove(0);
    assert_eq!((survivor.id, survivor.birth, survivor.payload_bytes), (id(1), at(5, 1), 1));
    assert_eq!((survivor.accepted_ms, survivor.expires_ms), (NOW, LATER));
    // Later parts finish what was landed before.
    let rest = Landing { finished: vec![(Row::unicast(id(1)), State::Expired)], ..Landing::default() };
    archive.land(&rest).await.unwrap();
    assert_eq!((state_of(&archive, 1).await, payloads(&archive, &[1]).await), (vec![State::Expired], 0));
    assert_eq!(stored(&archive, "a").await, []);
    archive.land(&Landing::default()).await.unwrap();
    // A delivery that a part names twice: what finished it counts.
    archive.land(&landing(&[(8, State::Stored), (8, State::Recalled), (8, State::Stored)])).await.unwrap();
    assert_eq!((state_of(&archive, 8).await, payloads(&archive, &[8]).await), (vec![State::Recalled], 0));
}

/// A lander that comes late, or twice, changes nothing that is final, and brings no payload back.
pub(crate) async fn landing_again_changes_nothing<A: Archive>(archive: A) {
    let old = landing(&[(1, State::Stored), (2, State::Stored), (3, State::Stored)]);
    archive.land(&old).await.unwrap();
    archive.commit(&finish(&[(Row::unicast(id(1)), State::Acked)])).await.unwrap();
    let newer = [(1, State::Stored), (2, State::Recalled), (3, State::Stored), (4, State::Stored)];
    archive.land(&landing(&newer)).await.unwrap();
    for _ in 0..2 {
        archive.land(&old).await.unwrap();
        assert_eq!(state_of(&archive, 1).await, [State::Acked]);
        assert_eq!(state_of(&archive, 2).await, [State::Recalled]);
        assert_eq!(stored(&archive, "a").await, [id(3), id(4)]);
        assert_eq!(payloads(&archive, &[1, 2, 3, 4]).await, 2);
        archive.land(&landing(&newer)).await.unwrap();
    }
    // The row that is there is kept, whatever the landing says of it.
    let mut other = landing(&[(3, State::Stored)]);
    other.deliveries[0].0 = NewDelivery { position: at(9, 9), ..unicast(3, "z", 3) };
    archive.land(&other).await.unwrap();
    assert_eq!((stored(&archive, "z").await, stored(&archive, "a").await), (vec![], vec![id(3), id(4)]));
}

/// What was committed before it is landed, as of the class that waits for the archive.
pub(crate) async fn lands_after_a_commit<A: Archive>(archive: A) {
    archive.commit(&group((1..=3).map(|n| unicast(n, "a", n)).collect())).await.unwrap();
    let list: Vec<_> =
        [(1, State::Acked), (2, State::Stored), (3, State::MaxLoads), (4, State::Acked)].into();
    archive.land(&landing(&list)).await.unwrap();
    for (n, state) in list {
        assert_eq!(state_of(&archive, n).await, [state], "{n}");
    }
    assert_eq!(stored(&archive, "a").await, [id(2)]);
    assert_eq!((payloads(&archive, &[2, 3]).await, payloads(&archive, &[1, 4]).await), (2, 0));
    // And the other way: a commit of what is landed is a conflict, which the saver resolves.
    let again = archive.commit(&group(vec![unicast(4, "a", 4)])).await;
    assert!(matches!(again, Err(ArchiveError::Conflict(_))));
}

pub(crate) async fn lands_multicasts<A: Archive>(archive: A) {
    let block = archive.row_block().await.unwrap();
    let one = |n, i: i64, uid, state| (delivery(Row(block.0 - i), n, uid, 1), state);
    let part = Landing {
        deliveries: vec![
            one(1, 0, "a", State::Acked),
            one(1, 1, "b", State::Stored),
            one(2, 2, "a", State::Acked),
            (unicast(3, "b", 2), State::Stored),
        ],
        bodies: vec![body(1), body(2), body(3)],
        now_ms: NOW,
        ..Landing::default()
    };
    archive.land(&part).await.unwrap();
    archive.land(&part).await.unwrap();
    let (list, multicast) = archive.deliveries_of(APP, id(1)).await.unwrap();
    assert_eq!((list.len(), multicast), (2, true));
    assert_eq!(stored(&archive, "b").await, [id(1), id(3)]);
    // Nobody will ask for the second's payload.
    assert_eq!((payloads(&archive, &[1, 3]).await, payloads(&archive, &[2]).await), (2, 0));
    let wanted = Wanted { id: id(2), key: key("a"), multicast: true };
    assert_eq!(archive.recorded(&[wanted]).await.unwrap()[0].as_ref().unwrap().state, State::Acked);
    let (old, _) = archive.old_multicasts(MessageId(0), NOW + 1000, 9).await.unwrap();
    assert_eq!(old, [id(1), id(2)]);
}

/// A lander that slept for longer than finished rows are kept is told, and does nothing.
pub(crate) async fn what_was_forgotten_stays_so<A: Archive>(archive: A) {
    let forgets = archive.forgets().await.unwrap();
    let old = Landing { forgets, ..landing(&[(1, State::Stored), (2, State::Stored)]) };
    archive.land(&old).await.unwrap();
    archive.commit(&finish(&[(Row::unicast(id(1)), State::Acked)])).await.unwrap();
    let forget = Forget { unicast: vec![Row::unicast(id(1))], ..Forget::default() };
    let group = Group { forget, ..Group::default() };
    assert_eq!(archive.commit(&group).await.unwrap().forgotten, 1);
    assert_ne!(archive.forgets().await.unwrap(), forgets);

    let mut zombie = old.clone();
    zombie.finished.push((Row::unicast(id(2)), State::Acked));
    assert!(matches!(archive.land(&zombie).await, Err(ArchiveError::Conflict(_))));
    assert_eq!((state_of(&archive, 1).await, payloads(&archive, &[1]).await), (vec![], 0));
    assert_eq!(state_of(&archive, 2).await, [State::Stored]);
    // All of these are there or younger than what was forgotten: the lander need not know.
    let young = Landing { forgets, ..landing(&[(2, State::Acked), (3, State::Stored)]) };
    archive.land(&young).await.unwrap();
    assert_eq!(
        (state_of(&archive, 2).await, state_of(&archive, 3).await),
        (vec![State::Acked], vec![State::Stored])
    );
    // What only waited in the journal for long is not lost.
    let late = Landing { forgets: archive.forgets().await.unwrap(), ..landing(&[(0, State::Stored)]) };
    archive.land(&late).await.unwrap();
    assert_eq!(stored(&archive, "a").await, [id(0), id(3)]);
}

/// Several landers of the same parts at once, and acks meanwhile.
pub(crate) async fn many_may_land_at_once<A: Archive>(archive: A) {
    let part = |from: u64| {
        let state = |n: u64| if n.is_multiple_of(3) { State::Acked } else { State::Stored };
        landing(&(from..from + 60).map(|n| (n, state(n))).collect::<Vec<_>>())
    };
    for round in 0..4u64 {
        let from = round * 60;
        let landings: Vec<Landing> = (0..4).map(|k| part((from + k * 20).saturating_sub(60))).collect();
        let acked: Vec<_> =
            (from..from + 60).step_by(2).map(|n| (Row::unicast(id(n)), State::Expired)).collect();
        let ends = [finish(&acked), finish(&acked)];
        let (landed, ended) = futures::join!(
            futures::future::join_all(landings.iter().map(|l| archive.land(l))),
            futures::future::join_all(ends.iter().map(|g| archive.commit(g))),
        );
        assert!(landed.into_iter().all(|r| r.is_ok()) && ended.into_iter().all(|r| r.is_ok()));
    }
    let ids: Vec<u64> = (0..240).collect();
    let wanted: Vec<Wanted> =
        ids.iter().map(|n| Wanted { id: id(*n), key: key("a"), multicast: false }).collect();
    let stored_rows = archive.recorded(&wanted).await.unwrap();
    let stored_rows = stored_rows.iter().flatten().filter(|r| r.state == State::Stored).count();
    assert_eq!(stored(&archive, "a").await.len(), stored_rows);
    assert_eq!(payloads(&archive, &ids).await, stored_rows);
}

pub(crate) async fn a_shared_store_has_one_life<A: Archive>(archive: A) {
    assert_eq!(archive.shared_life().await.unwrap(), None);
    let lacking = |life: Epoch| Landing { alone: Some(life), ..landing(&[(1, State::Stored)]) };
    let refused = Err(ArchiveError::Conflict(LIFE_CHANGED.to_owned()));
    assert_eq!(archive.land(&lacking(Epoch(0))).await, refused, "there is no life yet");
    let before = archive.begin_epoch().await.unwrap();
    // Of those that begin the first, one does.
    let all = futures::future::join_all((0..4).map(|_| archive.begin_shared_life(None, "store-1", 16))).await;
    let mut begun: Vec<SharedLife> = all.into_iter().filter_map(Result::unwrap).collect();
    let first = begun.remove(0);
    assert_eq!(
        (begun.len(), first.store.as_str(), first.partitions, first.unseen),
        (0, "store-1", 16, false)
    );
    assert!(first.epoch > before);
    assert_eq!(archive.shared_life().await.unwrap(), Some(first.clone()));
    assert_eq!(archive.begin_shared_life(None, "store-2", 8).await.unwrap(), None);

    archive.land(&lacking(first.epoch)).await.unwrap();
    archive.land(&lacking(first.epoch)).await.unwrap();
    assert!(archive.shared_life().await.unwrap().unwrap().unseen);
    let between = archive.begin_epoch().await.unwrap();
    assert_eq!(archive.begin_shared_life(Some(before), "store-2", 8).await.unwrap(), None);
    let second = archive.begin_shared_life(Some(first.epoch), "store-2", 8).await.unwrap().unwrap();
    assert!(second.epoch > between && !second.unseen);
    assert_eq!(archive.shared_life().await.unwrap(), Some(second.clone()));
    assert_eq!(archive.begin_shared_life(Some(first.epoch), "store-3", 8).await.unwrap(), None);
    // What was to be committed beside a life that is over is not: the next has not been told of it.
    assert_eq!(archive.land(&lacking(first.epoch)).await, refused);
    assert!(!archive.shared_life().await.unwrap().unwrap().unseen);
    assert!(archive.begin_epoch().await.unwrap() > second.epoch);
}

/// What the shared store has tied lands twice, late, and after it was tied anew.
pub(crate) async fn lands_tied_words<A: Archive>(archive: A) {
    assert_eq!(archive.reserved_until().await.unwrap(), 0);
    let land = async |reservations: Vec<Reservation>| {
        archive.land(&Landing { reservations, now_ms: NOW, ..Landing::default() }).await.unwrap();
    };
    let ask = async |word: &str, now_ms: u64| {
        let group = Group { reservations: vec![tied(word, 99, LATER)], now_ms, ..Group::default() };
        let one = archive.commit(&group).await.unwrap().reservations.remove(0);
        (one.id, one.repeated, one.mismatch)
    };
    // The key "b" was over and tied anew within this part of the journal.
    let part = vec![tied("b", 2, NOW + 5), tied("a", 1, NOW + 9), tied("b", 3, NOW + 20)];
    land(part.clone()).await;
    assert_eq!(archive.reserved_until().await.unwrap(), NOW + 20);
    land(part).await;
    assert_eq!(ask("a", NOW).await, (id(1), true, true));
    assert_eq!(ask("b", NOW).await, (id(3), true, true));
    // A lander that slept does not bring back what was tied anew since.
    assert_eq!(ask("a", NOW + 9).await, (id(99), false, false));
    land(vec![tied("a", 1, NOW + 9)]).await;
    assert_eq!(ask("a", NOW + 9).await, (id(99), true, false));
    assert_eq!(archive.reserved_until().await.unwrap(), LATER);
    // Case and language of keys count, as everywhere.
    land(vec![tied("A", 5, LATER)]).await;
    assert_eq!(ask("A", NOW).await.0, id(5));
    // What was tied without the store ends its life.
    let life = archive.begin_shared_life(None, "store-1", 4).await.unwrap().unwrap();
    assert_eq!(ask("c", NOW).await, (id(99), false, false));
    assert!(!archive.shared_life().await.unwrap().unwrap().unseen);
    let reservations = vec![tied("d", 7, LATER)];
    archive.commit(&Group { reservations, unseen: true, now_ms: NOW, ..Group::default() }).await.unwrap();
    assert_eq!(archive.shared_life().await.unwrap(), Some(SharedLife { unseen: true, ..life }));
}
