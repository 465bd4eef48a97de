//! What became of each broadcast for each user, against a model: what the archive was told and what the thread says of those who
//! are here is always all there is, and each user gets what is meant for it, once and in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use audience::{Slice, place};
use bytes::Bytes;
use proptest::prelude::*;
use wire::{frame::ServerBody, id::MessageId};

use super::{
    super::{Limits, Sessions},
    ghosts::{again, has},
    harness::{APP, World, ack, bind, cursor, done, entry, hello, run},
};
use crate::{
    exchange::{BindDone, Body, Credit, Fate, KeepAnswer, LogEntry, LogRun, Progress},
    resume::Sealer,
};

const USERS: usize = 5;

fn name(user: usize) -> String {
    format!("u{user}")
}

/// A device, its app's view of the broadcasts, and what the archive has of its user.
#[derive(Debug, Default)]
struct User {
    vip: bool,
    /// Its connection, and whether that has broken; its token.
    slot: Option<u32>,
    broken: bool,
    token: Bytes,
    /// What it got, in order, as long as it keeps its place; and how far it has acked.
    got: Vec<u64>,
    acked: u64,
    kept: Option<u64>,
    began: u64,
    /// Up to here all counts as acked, because the device said at a bind that it was further than the archive knew.
    presumed: u64,
    counted: BTreeMap<u64, Fate>,
}

impl User {
    fn keep(&mut self, bseq: u64, credits: &[Credit]) {
        for credit in credits {
            if credit.bseq > self.kept.unwrap_or(0) {
                assert!(self.counted.insert(credit.bseq, credit.fate).is_none(), "counted twice: {credit:?}");
            }
        }
        self.kept = Some(self.kept.unwrap_or(0).max(bseq));
    }
}

struct Model {
    world: World,
    users: Vec<User>,
    log: Vec<LogEntry>,
    head: u64,
    next_id: u64,
}

#[derive(Debug, Clone)]
enum Step {
    Bind(usize),
    Close(usize),
    /// Nobody hears of its end.
    Vanish(usize),
    Lose(usize),
    Resume(usize),
    Ack(usize, u64),
    Send {
        audience: &'static str,
        slices: u64,
        lives_ms: Option<u64>,
        lost: bool,
    },
    Recall(usize),
    Room(usize, Option<usize>),
    Work,
    Pages,
    Pass(u64),
    Keep(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let user = || 0..USERS;
    let audience = prop::sample::select(vec!["", "vip", "not vip"]);
    let lives = prop::option::weighted(0.3, prop::sample::select(vec![0u64, 300, 2_000]));
    prop_oneof![
        6 => user().prop_map(Step::Bind),
        2 => user().prop_map(Step::Close),
        2 => user().prop_map(Step::Vanish),
        2 => user().prop_map(Step::Lose),
        2 => user().prop_map(Step::Resume),
        6 => (user(), 0u64..4).prop_map(|(user, less)| Step::Ack(user, less)),
        6 => (audience, prop::sample::select(vec![1u64, 1, 3]), lives, prop::bool::weighted(0.1))
            .prop_map(|(audience, slices, lives_ms, lost)| Step::Send { audience, slices, lives_ms, lost }),
        1 => (0usize..8).prop_map(Step::Recall),
        2 => (user(), prop::option::of(0usize..90)).prop_map(|(user, room)| Step::Room(user, room)),
        6 => Just(Step::Work),
        3 => Just(Step::Pages),
        2 => (1u64..1_500).prop_map(Step::Pass),
        2 => any::<bool>().prop_map(Step::Keep),
    ]
}

impl Model {
    fn new(tail_bytes: usize, keep_ms: u64, looks: usize) -> Self {
        let limits =
            Limits { slice: 2, looks, tail_bytes, keep_ms, resume_ms: Some(3_000_000), ..Limits::default() };
        let mut world = World::new(limits);
        world.sessions = world.sessions.with_resume(Sealer::with_key(&[7; 32]));
        let user = |number| User { vip: number % 2 == 0, ..User::default() };
        Self { world, users: (0..USERS).map(user).collect(), log: Vec::new(), head: 0, next_id: 0 }
    }

    fn is_meant(&self, entry: &LogEntry, user: usize) -> bool {
        let vip = self.users[user].vip;
        entry.slice.contains(place(APP.0, &name(user)))
            && entry.meant.audience.matches(|tag| vip && tag == "vip")
    }

    fn sessions(&mut self) -> &mut Sessions {
        &mut self.world.sessions
    }

    fn bind(&mut self, user: usize) {
        if self.users[user].slot.is_some() {
            return;
        }
        let (slot, token) = self.world.greet(hello());
        let tags: &[&str] = if self.users[user].vip { &["vip"] } else { &[] };
        self.world.send(slot, bind(1, &name(user), tags));
        let ask = self.sessions().asks.binds.take(9).pop().unwrap();
        let head = self.head;
        if self.users[user].kept.is_none() {
            (self.users[user].kept, self.users[user].began) = (Some(head), head);
            self.users[user].acked = head;
        }
        let saved = self.users[user].kept.unwrap();
        let own = self.users[user].acked.max(saved);
        let between = |entry: &&LogEntry| entry.bseq > saved && entry.bseq <= own;
        let owed: Vec<Credit> = self
            .log
            .iter()
            .filter(between)
            .filter(|entry| self.is_meant(entry, user))
            .map(|entry| Credit { bseq: entry.bseq, id: entry.id, fate: Fate::Acked })
            .collect();
        // The archive may be away just then.
        let told = own.is_multiple_of(2) && !owed.is_empty();
        if told {
            self.users[user].keep(own, &owed);
        }
        let answer = BindDone {
            cursor: cursor(1, own),
            saved_cursor: cursor(1, if told { own } else { saved }),
            owed: if told { Vec::new() } else { owed },
            ..done(1, head)
        };
        self.world.answer_bind(&ask, answer);
        let frames = self.world.frames(slot);
        assert!(matches!(frames[0], ServerBody::Bound(_)), "{frames:?}");
        let user = &mut self.users[user];
        (user.slot, user.token, user.broken) = (Some(slot), token, false);
        user.acked = own;
        user.got.retain(|bseq| *bseq <= own);
        if own > saved {
            user.presumed = own;
        }
    }

    fn end(&mut self, user: usize, is_told: bool) {
        let Some(slot) = self.users[user].slot.take() else { return };
        self.listen();
        self.sessions().on_closed(slot);
        self.world.out.room.remove(&slot);
        for end in self.sessions().take_ends(9) {
            let cursor = end.cursor.map_or(0, |cursor| cursor.bseq.0);
            assert!(end.credits.iter().all(|credit| credit.bseq <= cursor));
            if is_told {
                self.users[user].keep(cursor, &end.credits);
            }
        }
    }

    /// Devices take what has come.
    fn listen(&mut self) {
        for user in 0..USERS {
            let Some(slot) = self.users[user].slot else { continue };
            for frame in self.world.frames(slot) {
                match frame {
                    ServerBody::Broadcast(one) => {
                        let last = self.users[user].got.last().copied().unwrap_or(0);
                        assert!(one.bseq > last, "{user} gets {} after {last}", one.bseq);
                        let entry = self.log.iter().find(|entry| entry.bseq == one.bseq).unwrap();
                        assert!(self.is_meant(entry, user), "{user} gets {entry:?}");
                        self.users[user].got.push(one.bseq);
                    }
                    ServerBody::Recall(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn pages(&mut self) {
        for ask in self.sessions().asks.pages.take(9) {
            let rest: Vec<_> = self.log.iter().filter(|entry| entry.bseq > ask.after).cloned().collect();
            let some: Vec<Arc<LogEntry>> = rest.iter().take(3).cloned().map(Arc::new).collect();
            let through = if rest.len() > 3 { some[2].bseq } else { self.head };
            let page = LogRun { entries: some, ..run(ask.after, through.max(ask.after), &[]) };
            self.sessions().on_log(&page, true);
        }
    }

    fn send(&mut self, audience: &str, slices: u64, lives_ms: Option<u64>, lost: bool) {
        self.next_id += 1;
        let meant = Arc::clone(&entry(1, audience).meant);
        for slice in 0..slices {
            let after = self.head;
            self.head += 1 + self.next_id % 2;
            let width = (1u64 << 32) / slices;
            let below = if slice + 1 == slices { 0 } else { (slice + 1) * width };
            let slice = Slice::new(slice * width, below).unwrap();
            let whole = entry(self.head, audience);
            let body = match slice.is_whole() {
                true => whole.body.clone(),
                false => Body::Parts { app: APP, payload: Bytes::from_static(b"slice"), accepted_ms: 1 },
            };
            let expires_ms = lives_ms.map_or(0, |ms| self.world.now.unix_ms + ms);
            let id = MessageId(self.next_id);
            let one = LogEntry { id, body, slice, expires_ms, meant: Arc::clone(&meant), ..(*whole).clone() };
            self.log.push(one.clone());
            if !lost {
                let run = LogRun { entries: vec![one.into()], ..run(after, self.head, &[]) };
                self.sessions().on_log(&run, false);
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Bind(user) => self.bind(user),
            Step::Close(user) => self.end(user, true),
            Step::Vanish(user) => {
                // Nor of what was being told.
                self.step(&Step::Keep(false));
                self.end(user, false);
            }
            Step::Lose(user) => {
                if let Some(slot) = self.users[user].slot.filter(|_| !self.users[user].broken) {
                    self.listen();
                    let now = self.world.now;
                    self.sessions().on_lost(slot, now);
                    self.world.out.gone.insert(slot);
                    self.users[user].broken = true;
                }
            }
            Step::Resume(user) => {
                if let Some(slot) = self.users[user].slot.filter(|_| self.users[user].broken) {
                    let acked = self.users[user].acked;
                    let token = self.users[user].token.clone();
                    self.users[user].got.retain(|bseq| *bseq <= acked);
                    self.world.out.gone.remove(&slot);
                    let (seat, token, frames) = self.world.goes_on(again(&token, &[has(0, acked)]));
                    assert_eq!((seat, &frames[..]), (slot, &[][..]));
                    (self.users[user].token, self.users[user].broken) = (token, false);
                }
            }
            Step::Ack(user, less) => {
                self.listen();
                let one = &mut self.users[user];
                let at = one.got.len().checked_sub(1 + less as usize).map(|place| one.got[place]);
                if let (Some(slot), Some(at)) = (one.slot.filter(|_| !one.broken), at)
                    && at > one.acked
                {
                    one.acked = at;
                    self.world.send(slot, ack(1, 0, at));
                }
            }
            Step::Send { audience, slices, lives_ms, lost } => self.send(audience, slices, lives_ms, lost),
            Step::Recall(pick) => {
                let ids: BTreeSet<u64> = self.log.iter().map(|entry| entry.id.0).collect();
                if let Some(id) = ids.into_iter().rev().nth(pick) {
                    self.log
                        .iter_mut()
                        .filter(|entry| entry.id.0 == id)
                        .for_each(|entry| entry.recalled = true);
                    let frame = wire::frame::Recall { binding: 0, id, app: APP.0 };
                    let frame = wire::codec::encode_server_frame(&frame.into());
                    self.sessions().recall_broadcast(APP, id, frame);
                }
            }
            Step::Room(user, room) => {
                if let Some(slot) = self.users[user].slot.filter(|_| !self.users[user].broken) {
                    match room {
                        Some(room) => drop(self.world.out.room.insert(slot, room)),
                        None => drop(self.world.out.room.remove(&slot)),
                    }
                    self.world.sessions.on_drained(slot, &mut self.world.out);
                }
            }
            Step::Work => {
                self.world.sessions.work(self.world.now, &mut self.world.out);
            }
            Step::Pages => self.pages(),
            Step::Pass(ms) => self.world.pass(ms),
            Step::Keep(done) => {
                for ask in self.sessions().asks.keeps.take(9) {
                    let user = (0..USERS).find(|user| name(*user) == ask.uid.as_str()).unwrap();
                    if done {
                        self.users[user].keep(ask.cursor.bseq.0, &ask.credits);
                    }
                    let kept = done.then_some(ask.cursor);
                    self.sessions().on_kept(KeepAnswer { binding: ask.binding, kept });
                }
            }
        }
        self.listen();
    }

    /// All that is under way comes to its end.
    fn settle(&mut self) {
        // A last one shows every hole.
        self.send("", 1, None, false);
        for _ in 0..800 {
            self.step(&Step::Work);
            self.step(&Step::Pages);
            self.step(&Step::Keep(true));
        }
        self.world.pass(250);
        self.step(&Step::Keep(true));
        for _ in 0..50 {
            self.step(&Step::Work);
            self.step(&Step::Pages);
        }
    }

    fn judge(&mut self) {
        let now = self.world.now.unix_ms;
        let mut all: BTreeMap<u64, Progress> = BTreeMap::new();
        for (number, user) in self.users.iter().enumerate() {
            let meant = |entry: &&LogEntry| self.is_meant(entry, number) && entry.bseq > user.began;
            for entry in self.log.iter().filter(meant).filter(|_| user.kept.is_some()) {
                let counted = user.counted.get(&entry.bseq);
                let is_kept = entry.bseq <= user.kept.unwrap_or(0);
                assert_eq!(counted.is_some(), is_kept, "{number}: {entry:?}, {user:?}");
                let has =
                    user.got.contains(&entry.bseq) && user.acked >= entry.bseq || entry.bseq <= user.presumed;
                match counted {
                    Some(Fate::Acked) => assert!(has, "{number} has not {entry:?}: {user:?}"),
                    Some(Fate::Expired) => assert!(entry.expires_ms > 0 && entry.is_dead(now)),
                    Some(Fate::Recalled) => assert!(entry.recalled),
                    None => {}
                }
                if user.slot.is_none() || is_kept {
                    continue;
                }
                let progress = all.entry(entry.id.0).or_default();
                *match (has, entry.recalled, entry.is_dead(now)) {
                    (true, ..) => &mut progress.acked,
                    (_, true, _) => &mut progress.recalled,
                    (_, _, true) => &mut progress.expired,
                    _ => &mut progress.pending,
                } += 1;
            }
        }
        for id in 1..=self.next_id {
            let told = self.sessions().progress(id);
            let Progress { acked, pending, expired, recalled, .. } = told;
            let told = Progress { acked, pending, expired, recalled, ..Progress::default() };
            assert_eq!(told, all.remove(&id).unwrap_or_default(), "broadcast {id}");
        }
    }
}

fn history(steps: &[Step], tail_bytes: usize, keep_ms: u64, looks: usize) {
    let mut model = Model::new(tail_bytes, keep_ms, looks);
    for step in steps {
        model.step(step);
    }
    model.settle();
    model.judge();
    // Everybody can take everything, and in the end has it.
    for user in 0..USERS {
        model.step(&Step::Resume(user));
        model.step(&Step::Bind(user));
        model.step(&Step::Room(user, None));
    }
    model.settle();
    for user in 0..USERS {
        model.step(&Step::Ack(user, 0));
    }
    model.judge();
    let now = model.world.now.unix_ms;
    for user in 0..USERS {
        let began = model.users[user].began;
        let wanted = model.log.iter().filter(|entry| entry.bseq > began && !entry.is_dead(now));
        for entry in wanted.filter(|entry| model.is_meant(entry, user)) {
            assert!(model.users[user].got.contains(&entry.bseq), "{user} has not {entry:?}");
        }
    }
    (0..USERS).for_each(|user| model.end(user, true));
    model.judge();
    let all: u64 = (1..=model.next_id).map(|id| model.sessions().progress(id).targets()).sum();
    assert_eq!(all, 0, "nobody is here");
}

/// What a device had acked in a room that died, and the archive could not be told at the bind, was nowhere until it was told.
#[test]
fn what_is_owed_since_the_bind_is_counted_here() {
    let mut world = World::new(Limits::default());
    let slot = world.connect();
    let owed = vec![Credit { bseq: 3, id: MessageId(77), fate: Fate::Acked }];
    let behind = BindDone { saved_cursor: cursor(1, 1), owed, ..done(1, 5) };
    world.bind_with(slot, 1, "alice", &[], behind);
    assert_eq!(world.sessions.progress(77), Progress { acked: 1, ..Progress::default() });
    // It is told as soon as may be, and again if that fails.
    for _ in 0..2 {
        world.pass(250);
        let asks = world.sessions.asks.keeps.take(9);
        assert_eq!((asks.len(), asks[0].credits.len()), (1, 1));
        world.pass(250);
        assert!(world.sessions.asks.keeps.is_empty(), "once at a time");
        world.sessions.on_kept(KeepAnswer { binding: asks[0].binding, kept: None });
    }
    world.sessions.on_closed(slot);
    assert_eq!(world.sessions.take_ends(9)[0].credits.len(), 1);
    assert_eq!(world.sessions.progress(77), Progress::default());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_told_and_what_is_here_is_all_there_is(
        steps in prop::collection::vec(step(), 1..90),
        tail_bytes in prop::sample::select(vec![60usize, 400, 1 << 20]),
        keep_ms in prop::sample::select(vec![0u64, 1_000, 600_000]),
        looks in prop::sample::select(vec![1usize, 4, 64]),
    ) {
        history(&steps, tail_bytes, keep_ms, looks);
    }
}
