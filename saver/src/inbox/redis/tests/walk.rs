//! A random walk over the scripts, beside a plain model of what they must do.

use std::collections::BTreeMap;

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};

use super::*;
use crate::model::CollapseKey;

const USERS: [&str; 3] = ["a", "b", "c"];
const CAP: usize = 12;
const STEPS: usize = 1_500;

/// What the archive would have, and what each inbox holds.
#[derive(Default)]
struct Model {
    /// Row: state, inbox, birth, end and collapse key, as the journal told.
    archive: BTreeMap<i64, (State, usize, Position, u64, Option<CollapseKey>)>,
    /// Unfinished messages of each inbox in the order of their places: place, id, end, loads.
    inboxes: [Vec<(Position, u64, u64, u32)>; 3],
    /// Each message's inbox and collapse key, if it has one.
    keyed: BTreeMap<u64, (usize, CollapseKey)>,
    /// Every place that was ever given.
    given: BTreeMap<(usize, u64, u64), u64>,
    last_id: u64,
}

impl Model {
    fn land(&mut self, records: Vec<Record>) {
        for record in records {
            match record {
                Record::Appended(d, payload) => {
                    assert_eq!(payload.as_deref(), Some(format!("payload {}", d.id).as_bytes()));
                    let user = USERS.iter().position(|u| *u == d.key.uid().as_str()).unwrap();
                    assert_eq!(d.collapse.as_ref(), self.keyed.get(&d.id.0).map(|(_, key)| key));
                    let row = (State::Stored, user, d.position, d.expires_ms, d.collapse);
                    let before = self.archive.insert(d.row.0, row);
                    assert!(before.is_none(), "a line is told once");
                }
                Record::Reserved(_) => {}
                Record::Finished(row, state) => {
                    let known = self.archive.get_mut(&row.0).expect("appended before it finished");
                    assert_eq!(std::mem::replace(&mut known.0, state), State::Stored, "finished once");
                }
            }
        }
    }

    fn surviving(&self, user: usize) -> Vec<Surviving> {
        let stored = self.archive.iter().filter(|(_, (s, u, ..))| *s == State::Stored && *u == user);
        let mut rows: Vec<Surviving> = stored
            .map(|(row, (_, _, birth, expires_ms, collapse))| Surviving {
                row: Row(*row),
                id: MessageId(row.cast_unsigned()),
                birth: *birth,
                accepted_ms: NOW,
                expires_ms: *expires_ms,
                payload_bytes: 9,
                collapse: collapse.clone(),
            })
            .collect();
        rows.sort_by_key(|s| (s.birth.epoch, s.birth.seq));
        rows
    }
}

struct Walk {
    rig: Rig,
    model: Model,
    random: SmallRng,
    now: u64,
    epoch: u64,
}

impl Walk {
    async fn ensure(&mut self, user: usize) {
        for _ in 0..3 {
            let absent = self.rig.store.absent(&[key(USERS[user])]).await.unwrap();
            let Some(absent) = absent.first() else { return };
            // As after any absence: what the journals of an earlier epoch hold comes first.
            let surviving = self.model.surviving(user);
            match self.rig.store.rebuild(absent, surviving, self.now).await {
                Ok(()) => {
                    self.settle().await;
                    // What was over when it was rebuilt is not brought back; loads begin anew.
                    let now = self.now;
                    let fresh = self.rig.store.epoch();
                    self.model.inboxes[user].retain(|(at, _, end, _)| *end > now || at.epoch == fresh);
                    self.model.inboxes[user].iter_mut().filter(|m| m.0.epoch != fresh).for_each(|m| m.3 = 0);
                }
                Err(InboxError::Changing) => {
                    let records = self.rig.land().await;
                    self.model.land(records);
                }
                Err(e) => panic!("{e}"),
            }
        }
        panic!("it is not rebuilt");
    }

    async fn append(&mut self) {
        let count = self.random.random_range(1..6);
        let mut items = Vec::new();
        for _ in 0..count {
            let user = self.random.random_range(0..3);
            self.model.last_id += 1;
            let ttl = if self.random.random_bool(0.3) { 50 } else { 1_000_000 };
            let key = *[None, None, Some("k"), Some("l")].choose(&mut self.random).unwrap();
            let key = key.map(CollapseKey::from);
            if let Some(key) = &key {
                self.model.keyed.insert(self.model.last_id, (user, key.clone()));
            }
            items.push((user, self.model.last_id, self.now + ttl, key));
        }
        let stagings = items.iter().map(|(user, id, end, collapse)| Staging {
            cap: CAP,
            expires_ms: *end,
            collapse: collapse.clone(),
            ..staging(USERS[*user], *id)
        });
        let entries: Vec<Entry> =
            stagings.map(|staging| Entry { staging, multicast: false, checked: false }).collect();
        let placed = self.rig.store.append(&entries, self.now).await;
        for ((user, id, end, _), place) in items.iter().zip(placed) {
            let Ok(Placed::New(at)) = place else { panic!("{place:?}") };
            assert_eq!(
                self.model.given.insert((*user, at.epoch.0, at.seq.0), *id),
                None,
                "a place is given once"
            );
            let inbox = &mut self.model.inboxes[*user];
            assert!(inbox.last().is_none_or(|(last, ..)| last.seq < at.seq));
            inbox.push((at, *id, *end, 0));
        }
        // A repeat answers the same, or that it has left.
        let again = self.rig.store.append(&entries[..1], self.now).await.remove(0).unwrap();
        assert!(matches!(again, Placed::Repeat(_)), "{again:?}");
    }

    /// The cap counts what is in Redis, so the model asks the journal what was pushed out.
    async fn settle(&mut self) {
        let records = self.rig.land().await;
        self.model.land(records);
        for user in 0..3 {
            let archive = &self.model.archive;
            self.model.inboxes[user].retain(|(_, id, ..)| {
                let state = archive[&id.cast_signed()].0;
                let newer = |key| self.model.keyed.range(id + 1..).any(|(_, other)| other == key);
                let replaced = || self.model.keyed.get(id).is_some_and(newer);
                let ended = match state {
                    State::Stored | State::InboxFull => true,
                    State::Replaced => replaced(),
                    _ => false,
                };
                assert!(ended, "{id} is {state:?}");
                state == State::Stored
            });
        }
    }

    async fn ack(&mut self) {
        let user = self.random.random_range(0..3);
        self.ensure(user).await;
        let Some(at) = self.some_place(user) else { return };
        self.rig.store.ack(&[(key(USERS[user]), at)], self.now).await.unwrap().remove(0).unwrap();
        let records = self.rig.land().await;
        self.model.land(records);
        let covered = |m: &(Position, u64, u64, u32)| m.0.epoch <= at.epoch && m.0.seq <= at.seq;
        for (_, id, ..) in self.model.inboxes[user].iter().filter(|m| covered(m)) {
            let state = self.model.archive[&id.cast_signed()].0;
            assert!(matches!(state, State::Acked | State::Stored), "{id} is {state:?}");
        }
        self.model.inboxes[user].retain(|m| !covered(m));
    }

    fn some_place(&mut self, user: usize) -> Option<Position> {
        let inbox = &self.model.inboxes[user];
        (!inbox.is_empty()).then(|| inbox[self.random.random_range(0..inbox.len())].0)
    }

    async fn load(&mut self) {
        let user = self.random.random_range(0..3);
        self.ensure(user).await;
        self.settle().await;
        let after = if self.random.random_bool(0.5) { self.some_place(user) } else { None };
        let max = self.random.random_range(1..8);
        let read = Read { after, acknowledges: false, max_messages: max, max_bytes: 1 << 20 };
        let loaded = self.rig.store.load(&key(USERS[user]), read, 1_000, self.now).await.unwrap();
        let records = self.rig.land().await;
        self.model.land(records);
        let now = self.now;
        let covered =
            |m: &(Position, u64, u64, u32)| after.is_some_and(|a| m.0.epoch <= a.epoch && m.0.seq <= a.seq);
        let expected: Vec<(u64, u64)> = self.model.inboxes[user]
            .iter()
            .filter(|m| !covered(m) && m.2 > now)
            .take(max)
            .map(|m| (m.0.seq.0, m.1))
            .collect();
        let found: Vec<(u64, u64)> = loaded.messages.iter().map(|m| (m.seq.0, m.id.0)).collect();
        assert_eq!(found, expected, "after {after:?}");
        // Of each key there is only the newest.
        let mut keys: Vec<_> = found.iter().filter_map(|(_, id)| self.model.keyed.get(id)).collect();
        let many = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), many, "{found:?}");
        let all = self.model.inboxes[user].iter().filter(|m| !covered(m) && m.2 > now).count();
        assert_eq!(loaded.more, all > max, "{loaded:?}");
        // What a look found to be over has left.
        let archive = &self.model.archive;
        self.model.inboxes[user].retain(|m| archive[&m.1.cast_signed()].0 == State::Stored);
    }

    async fn recall(&mut self) {
        let user = self.random.random_range(0..3);
        self.ensure(user).await;
        let inbox = &self.model.inboxes[user];
        if inbox.is_empty() {
            return;
        }
        let (at, id, end, _) = inbox[self.random.random_range(0..inbox.len())];
        let gone = self.rig.store.recall(&key(USERS[user]), MessageId(id), self.now).await.unwrap();
        assert!(gone.is_some() || end <= self.now, "{id} at {at:?}");
        let records = self.rig.land().await;
        self.model.land(records);
        self.model.inboxes[user].retain(|m| m.1 != id);
    }
}

/// Appends, repeats, acks, loads, recalls, messages that are over, idle inboxes let go, and new epochs, in any order:
/// every place is given once, every message finishes once, and a load gives what it must.
#[tokio::test]
async fn scripts_do_what_the_model_does() {
    let seed = rand::rng().random();
    println!("seed {seed}");
    let rig = Rig::single(|s| (s.partitions, s.ids) = (2, 100_000)).await;
    let random = SmallRng::seed_from_u64(seed);
    let mut walk = Walk { rig, model: Model::default(), random, now: NOW, epoch: 5 };
    for step in 0..STEPS {
        match walk.random.random_range(0..100) {
            0..35 => {
                walk.append().await;
                walk.settle().await;
            }
            35..55 => walk.ack().await,
            55..85 => walk.load().await,
            85..92 => walk.recall().await,
            92..96 => {
                walk.now += 120_000 * u64::from(walk.random.random_bool(0.3)) + 30;
                walk.rig.store.upkeep(walk.now).await.unwrap();
            }
            96..98 => walk.now += 60,
            _ if step % 3 == 0 => {
                walk.epoch += 1;
                walk.rig.store.stand_alone(Epoch(walk.epoch), 0).await;
            }
            _ => {}
        }
    }
    let stored = walk.model.archive.values().filter(|a| a.0 == State::Stored).count();
    println!("{} messages, {stored} left, epoch {}", walk.model.last_id, walk.epoch);
}
