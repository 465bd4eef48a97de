//! Collapse keys, the users of a message, pushes for later, and offsets from UTC.

use proto::internal::ScheduledPush;

use super::*;

/// A key lives as long as the message is stored.
pub(crate) async fn collapse_keys_survive<A: Archive>(archive: A) {
    let keyed = |n, collapse: &str| NewDelivery { collapse: Some(collapse.into()), ..unicast(n, "a", n) };
    archive.commit(&group(vec![keyed(1, "k"), unicast(2, "a", 2), keyed(3, "ü")])).await.unwrap();
    let first = archive.row_block().await.unwrap();
    let many = NewDelivery { collapse: Some("m".into()), ..delivery(first, 4, "a", 4) };
    archive.commit(&group(vec![many])).await.unwrap();
    let keys = archive.surviving(&[key("a")]).await.unwrap().remove(0);
    let keys: Vec<_> = keys.iter().map(|s| s.collapse.as_deref()).collect();
    assert_eq!(keys, [Some("k"), None, Some("ü"), Some("m")]);
    // In one group: the new one, and the end of what it replaces.
    let mut replacing = group(vec![keyed(5, "k")]);
    replacing.finished.push((Row::unicast(id(1)), State::Replaced));
    archive.commit(&replacing).await.unwrap();
    assert_eq!(state_of(&archive, 1).await, [State::Replaced]);
    let left = archive.surviving(&[key("a")]).await.unwrap().remove(0);
    assert_eq!(left.iter().map(|s| s.id).collect::<Vec<_>>(), [2, 3, 4, 5].map(id));
    assert_eq!(payloads(&archive, &[1, 5]).await, 1);
}

/// As a journal tells it: the new one, and the end of what it replaces, in any parts.
pub(crate) async fn lands_collapse_keys<A: Archive>(archive: A) {
    let keyed = |n| NewDelivery { collapse: Some("k".into()), ..unicast(n, "a", n) };
    let landing = |list: Vec<(NewDelivery, State)>, finished| Landing {
        bodies: list.iter().map(|(d, _)| Body { id: d.id, payload: Bytes::from_static(b"x") }).collect(),
        deliveries: list,
        finished,
        now_ms: NOW,
        ..Landing::default()
    };
    archive.land(&landing(vec![(keyed(1), State::Stored)], vec![])).await.unwrap();
    let over = vec![(Row::unicast(id(1)), State::Replaced)];
    let second = landing(vec![(keyed(2), State::Replaced), (keyed(3), State::Stored)], over);
    for _ in 0..2 {
        archive.land(&second).await.unwrap();
        let left = archive.surviving(&[key("a")]).await.unwrap().remove(0);
        assert_eq!((left.len(), left[0].id, left[0].collapse.as_deref()), (1, id(3), Some("k")));
        assert_eq!(state_of(&archive, 1).await, [State::Replaced]);
        assert_eq!(state_of(&archive, 2).await, [State::Replaced]);
    }
    // What was landed first as stored comes once more: it stays replaced.
    archive.land(&landing(vec![(keyed(1), State::Stored)], vec![])).await.unwrap();
    assert_eq!(archive.surviving(&[key("a")]).await.unwrap()[0].len(), 1);
}

/// Users of a message by name, page by page; a name that others had before is passed.
pub(crate) async fn pages_the_users_of_a_message<A: Archive>(archive: A) {
    let names = ["B", "a", "aa", "b", "ü", "\u{1F600}"];
    let rows = multicast(&archive, 1, &names, 1).await;
    multicast(&archive, 2, &["a", "z"], 2).await;
    archive.commit(&finish(&[(rows[2], State::Acked), (rows[3], State::Replaced)])).await.unwrap();
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = archive.targets(APP, id(1), &after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 2);
        after = last.uid.as_str().to_owned();
        seen.extend(page.into_iter().map(|r| (r.uid.as_str().to_owned(), r.state)));
    }
    let states = [State::Stored, State::Stored, State::Acked, State::Replaced, State::Stored, State::Stored];
    assert_eq!(seen, names.map(str::to_owned).into_iter().zip(states).collect::<Vec<_>>());
    assert!(archive.targets(AppId(2), id(1), "", 9).await.unwrap().is_empty());
    // Of a message to one user too.
    archive.commit(&group(vec![unicast(3, "one", 1)])).await.unwrap();
    assert_eq!(archive.targets(APP, id(3), "", 9).await.unwrap()[0].uid.as_str(), "one");
    assert!(archive.targets(APP, id(3), "one", 9).await.unwrap().is_empty());
    assert!(archive.targets(APP, id(9), "", 9).await.unwrap().is_empty());
}

fn part(n: u64, part: u32, due_ms: u64, uids: &[&str]) -> NewPart {
    let push = ScheduledPush {
        id: id(n).0,
        app: APP.0,
        due_ms,
        part,
        uids: uids.iter().map(|uid| (*uid).to_owned()).collect(),
        payload: Bytes::from(vec![7; 3_000]),
        multicast: uids.len() > 1,
        ..ScheduledPush::default()
    };
    let name = PartName { app: APP, id: id(n), part };
    let due = PartDue { due_ms, name, uid: uids[0].to_owned() };
    NewPart { due, users: uids.len() as u32, body: pack(push) }
}

/// Kept once, given soonest first, and there until they are removed.
pub(crate) async fn keeps_pushes_for_later<A: Archive>(archive: A) {
    let parts = vec![
        part(1, 0, 300, &["a", "b"]),
        part(1, 1, 300, &["c"]),
        part(2, 0, 100, &["d"]),
        part(3, 0, 900, &["e"]),
        part(1, 1, 50, &["x", "y"]),
    ];
    let put = Group { scheduled: parts, now_ms: NOW, ..Group::default() };
    assert_eq!(archive.commit(&put).await.unwrap().scheduled, [false, false, false, false, true]);
    let names =
        |page: &[PartDue]| page.iter().map(|p| (p.name.id.0 - id(0).0, p.name.part)).collect::<Vec<_>>();
    let due = archive.due(300, None, 99).await.unwrap();
    assert_eq!(names(&due), [(2, 0), (1, 0), (1, 1)]);
    let mut walked = Vec::new();
    let mut after: Option<PartDue> = None;
    while let Some(one) = archive.due(1_000, after.as_ref(), 1).await.unwrap().pop() {
        walked.push(one.clone());
        after = Some(one);
    }
    assert_eq!(names(&walked), [(2, 0), (1, 0), (1, 1), (3, 0)]);
    assert!(archive.due(99, None, 9).await.unwrap().is_empty());
    let push = archive.scheduled(due[1].name).await.unwrap().unwrap();
    assert_eq!((push.uids.len(), push.payload.len(), push.due_ms), (2, 3_000, 300));
    let heads = archive.scheduled_of(APP, None, 2).await.unwrap();
    assert_eq!(
        heads.iter().map(|h| (h.push.id - id(0).0, h.push.users)).collect::<Vec<_>>(),
        [(2, 1), (1, 2)]
    );
    assert!(heads.iter().all(|h| h.push.payload.is_empty() && h.push.uids.is_empty()));
    let rest = archive.scheduled_of(APP, Some(&due[1]), 9).await.unwrap();
    assert_eq!(rest.iter().map(|h| (h.push.id - id(0).0, h.push.part)).collect::<Vec<_>>(), [(1, 1), (3, 0)]);
    assert!(archive.scheduled_of(AppId(9), None, 9).await.unwrap().is_empty());
    let remove = |n, part| Group { unscheduled: vec![(APP, id(n), part)], ..Group::default() };
    assert_eq!(archive.commit(&remove(1, Some(1))).await.unwrap().unscheduled, [1]);
    assert_eq!(archive.commit(&remove(1, None)).await.unwrap().unscheduled, [2]);
    assert_eq!(archive.commit(&remove(1, None)).await.unwrap().unscheduled, [0]);
    assert_eq!(archive.scheduled(due[1].name).await.unwrap(), None);
    assert_eq!(names(&archive.due(1_000, None, 9).await.unwrap()), [(2, 0), (3, 0)]);
}

/// The last that a device told counts.
pub(crate) async fn keeps_offsets<A: Archive>(archive: A) {
    let keep = |offsets: &[(&str, i16)]| Group {
        offsets: offsets.iter().map(|(uid, minutes)| (key(uid), *minutes)).collect(),
        now_ms: NOW,
        ..Group::default()
    };
    archive.commit(&keep(&[("a", 60), ("b", -720), ("A", 840)])).await.unwrap();
    archive.commit(&keep(&[("a", 120), ("b", -720)])).await.unwrap();
    let found = archive.offsets(&["b", "nobody", "a", "A", "a"].map(key)).await.unwrap();
    assert_eq!(found, [Some(-720), None, Some(120), Some(840), Some(120)]);
}
