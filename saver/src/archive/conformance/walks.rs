//! Walks over what is stored, and what is forgotten.

use bytes::Bytes;
use wire::id::MessageId;

use super::*;

pub(crate) async fn walks_what_is_over<A: Archive>(archive: A) {
    let list = (1..=7).map(|n| NewDelivery {
        expires_ms: if n % 2 == 0 { NOW } else { LATER },
        ..unicast(n, &format!("u{n}"), 1)
    });
    archive.commit(&group(list.collect())).await.unwrap();
    let (mut place, mut over, mut steps) = (None, Vec::new(), 0);
    loop {
        let (rows, next) = archive.expired(place, NOW, 3).await.unwrap();
        over.extend(rows);
        steps += 1;
        place = next;
        if place.is_none() {
            break;
        }
    }
    assert_eq!((over, steps), (vec![Row::unicast(id(2)), Row::unicast(id(4)), Row::unicast(id(6))], 3));
}

pub(crate) async fn forgets_what_finished_long_ago<A: Archive>(archive: A) {
    archive.commit(&group((1..=4).map(|n| unicast(n, "a", n)).collect())).await.unwrap();
    let states = [(Row::unicast(id(1)), State::Acked), (Row::unicast(id(3)), State::MaxLoads)];
    archive.commit(&finish(&states)).await.unwrap();
    let rows = multicast(&archive, 5, &["a", "b", "c"], 9).await;
    archive.commit(&finish(&[(rows[0], State::Acked), (rows[2], State::Expired)])).await.unwrap();

    // Not yet.
    assert_eq!(archive.finished_unicast(Row(0), NOW, 9).await.unwrap(), (vec![], None));
    assert_eq!(archive.old_multicasts(MessageId(0), NOW, 9).await.unwrap(), (vec![], None));
    let then = NOW + 1000;
    let (unicast, next) = archive.finished_unicast(Row(0), then, 3).await.unwrap();
    assert_eq!((unicast.clone(), next), (vec![states[0].0, states[1].0], Some(Row::unicast(id(3)))));
    assert_eq!(archive.finished_unicast(Row::unicast(id(3)), then, 3).await.unwrap(), (vec![], None));
    let (multicast, next) = archive.old_multicasts(MessageId(0), then, 1).await.unwrap();
    assert_eq!((multicast.clone(), next), (vec![id(5)], Some(id(5))));
    assert_eq!(archive.old_multicasts(id(5), then, 1).await.unwrap(), (vec![], None));

    let forget = Forget { unicast, multicast: multicast.clone(), ..Forget::default() };
    let done = archive.commit(&Group { forget, ..Group::default() }).await.unwrap();
    assert_eq!(done.forgotten, 4);
    assert_eq!(state_of(&archive, 1).await, []);
    assert_eq!(state_of(&archive, 2).await, [State::Stored]);
    assert_eq!(state_of(&archive, 5).await, [State::Stored]);
    assert_eq!(payloads(&archive, &[1, 2, 3, 4, 5]).await, 3);
    // The last receiver takes the message with it.
    archive.commit(&finish(&[(rows[1], State::Acked)])).await.unwrap();
    let forget = Forget { multicast, ..Forget::default() };
    archive.commit(&Group { forget, ..Group::default() }).await.unwrap();
    assert_eq!(payloads(&archive, &[5]).await, 0);

    let over = Group {
        broadcasts: vec![broadcast(8, NOW), broadcast(9, LATER)],
        reservations: vec![Reservation {
            app: APP,
            word: "w".into(),
            id: id(1),
            fingerprint: Bytes::new(),
            expires_ms: NOW,
        }],
        forget: Forget {
            broadcasts_before_ms: Some(NOW + 1),
            reservations_before_ms: Some(NOW + 1),
            ..Forget::default()
        },
        ..Group::default()
    };
    assert_eq!(archive.commit(&over).await.unwrap().forgotten, 2);
    assert_eq!(archive.broadcast(APP, id(8)).await.unwrap(), None);
}

pub(crate) async fn finds_what_was_stored_lately<A: Archive>(archive: A) {
    archive.commit(&group((1..=5).map(|n| unicast(n, &format!("u{n}"), 1)).collect())).await.unwrap();
    archive.commit(&finish(&[(Row::unicast(id(4)), State::Acked)])).await.unwrap();
    multicast(&archive, 6, &["a", "b", "c", "d"], 1).await;
    archive.commit(&group(vec![unicast(7, "last", 1)])).await.unwrap();
    let mut found = std::collections::BTreeSet::new();
    let (mut after, mut steps) = (id(1), 0);
    loop {
        let (keys, next) = archive.recently_stored(after, 3).await.unwrap();
        found.extend(keys.iter().map(|k| k.uid().to_string()));
        steps += 1;
        match next {
            Some(next) => after = next,
            None => break,
        }
    }
    // One receiver of the multicast did not fit into a page; the walk goes on all the same.
    assert_eq!(found.iter().filter(|u| u.len() == 1).count(), 3);
    assert!(["u2", "u3", "u5", "last"].iter().all(|u| found.contains(*u)) && steps < 9);
    assert!(!found.contains("u1") && !found.contains("u4"));
}
