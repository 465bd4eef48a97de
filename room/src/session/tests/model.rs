//! Random histories against a model: whatever is lost, late, doubled or refused on the way, a device gets every message
//! that is alive, once and in order, and never a number that it cannot account for.

use std::collections::BTreeMap;

use proptest::prelude::*;
use wire::frame::ServerBody;

use super::{
    super::Limits,
    harness::{World, ack, bind, done, item, nudge, page, run},
};
use crate::exchange::{LoadAsk, LoadDone};

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    /// A message is stored; its delivery is lost (0), in time (1), or late (2).
    Append(u8),
    /// The oldest late delivery arrives.
    Late,
    /// A stored message expires; the number picks which.
    Expire(usize),
    /// The saver answers the load that is under way, as the inbox is now; at most so many messages.
    Answer(usize),
    /// The load fails.
    Fail,
    /// The socket has room for so many bytes, or for all.
    Room(Option<usize>),
    /// The sweeper nudges.
    Nudge,
    /// The device acks what it has.
    Ack,
    /// The store is lost and rebuilt: a new epoch, the same messages.
    Rebuild,
    Tick,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..3).prop_map(Step::Append),
        3 => Just(Step::Late),
        1 => any::<usize>().prop_map(Step::Expire),
        4 => (1usize..4).prop_map(Step::Answer),
        1 => Just(Step::Fail),
        2 => prop::option::of(0usize..80).prop_map(Step::Room),
        1 => Just(Step::Nudge),
        2 => Just(Step::Ack),
        1 => Just(Step::Rebuild),
        1 => Just(Step::Tick),
    ]
}

/// The saver's side of one inbox: number → id and epoch of birth.
#[derive(Debug, Default)]
struct Store {
    epoch: u64,
    last: u64,
    messages: BTreeMap<u64, (u64, u64)>,
    /// Ids that a device must get in the end.
    next_id: u64,
}

impl Store {
    /// Translates a position as the saver does.
    fn translate(&self, epoch: u64, seq: u64) -> u64 {
        if epoch == self.epoch {
            return seq.min(self.last);
        }
        let first = self.messages.iter().find(|(number, (_, birth))| *birth > epoch || **number > seq);
        first.map_or(self.last, |(number, _)| number - 1)
    }

    fn load(&self, ask: &LoadAsk, max: usize) -> LoadDone {
        let start = self.translate(ask.after.epoch.0, ask.after.seq.0);
        let all: Vec<u64> = self.messages.range(start + 1..).map(|(number, _)| *number).collect();
        let more = all.len() > max;
        let some = &all[..all.len().min(max)];
        let through = if more { some.last().copied().unwrap_or(start) } else { self.last };
        let mut done = page((self.epoch, start), some, through.max(start));
        for message in &mut done.messages {
            message.id = self.messages[&message.seq].0.into();
        }
        done.more = more;
        done
    }

    fn ack(&mut self, epoch: u64, seq: u64) {
        self.messages.retain(|number, (_, birth)| *birth > epoch || *number > seq);
    }
}

#[derive(Debug, Default)]
struct Device {
    epoch: u64,
    at: u64,
    ids: Vec<u64>,
    refused: bool,
}

impl Device {
    fn take(&mut self, frames: Vec<ServerBody>) {
        for frame in frames {
            match frame {
                ServerBody::Push(push) => {
                    assert_eq!(push.seq, self.at + push.skip + 1, "no hole, nothing twice");
                    self.at = push.seq;
                    // After a rebuild what was sent and not acked comes again, which the SDK knows by its id.
                    if !self.ids.contains(&push.id) {
                        self.ids.push(push.id);
                    }
                }
                ServerBody::Rebased(rebased) => {
                    let inbox = rebased.inbox.unwrap();
                    assert!(inbox.epoch > self.epoch);
                    (self.epoch, self.at) = (inbox.epoch, inbox.seq);
                }
                ServerBody::Bound(bound) => {
                    let inbox = bound.inbox.unwrap();
                    (self.epoch, self.at) = (inbox.epoch, inbox.seq);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

struct Run {
    world: World,
    slot: u32,
    store: Store,
    device: Device,
    load: Option<LoadAsk>,
    late: Vec<crate::exchange::DeliveryItem>,
    expired: Vec<u64>,
}

impl Run {
    fn new() -> Self {
        let mut world = World::new(Limits::default());
        let slot = world.connect();
        let ask = world.ask_bind(slot, 1, "alice", &[]);
        world.answer_bind(&ask, done(1, 0));
        let mut device = Device::default();
        device.take(world.frames(slot));
        let store = Store { epoch: 1, next_id: 1, ..Store::default() };
        Self { world, slot, store, device, load: None, late: Vec::new(), expired: Vec::new() }
    }

    fn delivery(&self, seq: u64) -> crate::exchange::DeliveryItem {
        let (id, _) = self.store.messages[&seq];
        crate::exchange::DeliveryItem { id: id.into(), ..item("alice", self.store.epoch, seq) }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Append(fate) => {
                self.store.last += 1;
                let (seq, id) = (self.store.last, self.store.next_id);
                self.store.next_id += 1;
                self.store.messages.insert(seq, (id, self.store.epoch));
                match fate {
                    0 => {}
                    1 => {
                        let delivery = self.delivery(seq);
                        self.world.deliver(&delivery);
                    }
                    _ => self.late.push(self.delivery(seq)),
                }
            }
            Step::Late => {
                if !self.late.is_empty() {
                    let delivery = self.late.remove(0);
                    self.world.deliver(&delivery);
                }
            }
            Step::Expire(pick) => {
                let alive: Vec<u64> = self.store.messages.keys().copied().collect();
                if !alive.is_empty() {
                    let (id, _) = self.store.messages.remove(&alive[pick % alive.len()]).unwrap();
                    self.expired.push(id);
                }
            }
            Step::Answer(max) => {
                if let Some(ask) = self.load.take() {
                    let done = self.store.load(&ask, *max);
                    self.world.answer_load(&ask, Some(done));
                }
            }
            Step::Fail => {
                if let Some(ask) = self.load.take() {
                    self.world.answer_load(&ask, None);
                }
            }
            Step::Room(room) => {
                match room {
                    Some(room) => drop(self.world.out.room.insert(self.slot, *room)),
                    None => drop(self.world.out.room.remove(&self.slot)),
                }
                self.world.sessions.on_drained(self.slot, &mut self.world.out);
            }
            Step::Nudge => {
                let nudge = nudge("alice", self.store.epoch, self.store.last);
                self.world.deliver(&nudge);
            }
            Step::Ack => {
                let frame = wire::frame::Ack { epoch: self.device.epoch, ..ack(1, self.device.at, 0) };
                self.world.send(self.slot, frame);
                for ask in self.world.sessions.take_acks(9) {
                    self.store.ack(ask.inbox.epoch.0, ask.inbox.seq.0);
                }
            }
            Step::Rebuild => {
                self.store.epoch += 1;
                self.store.last = self.store.messages.keys().max().copied().unwrap_or(0);
            }
            Step::Tick => self.world.pass(250),
        }
        if self.load.is_none() {
            self.load = self.world.load_ask();
        } else {
            assert!(self.world.load_ask().is_none(), "one load at a time");
        }
        let frames = self.world.frames(self.slot);
        self.device.take(frames);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_live_message_arrives_once_and_in_order(steps in prop::collection::vec(step(), 1..80)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
        }
        // The network is well again, and the sweeper comes by.
        run.step(&Step::Room(None));
        for _ in 0..40 {
            run.step(&Step::Tick);
            run.step(&Step::Nudge);
            run.step(&Step::Answer(3));
        }
        let missing: Vec<u64> = run.store.messages.values().map(|(id, _)| *id)
            .filter(|id| !run.device.ids.contains(id)).collect();
        prop_assert!(missing.is_empty(), "missing {:?}, device {:?}", missing, run.device);
        prop_assert!(run.device.ids.is_sorted(), "in order");
        prop_assert!(!run.device.refused);
    }

    #[test]
    fn every_matching_broadcast_arrives_once_and_in_order(
        steps in prop::collection::vec((0u8..6, 0usize..8, 0usize..60), 1..120),
        tail_bytes in 20usize..200,
    ) {
        let mut world = World::new(Limits { slice: 2, tail_bytes, ..Limits::default() });
        let mut log: Vec<(u64, &str)> = Vec::new();
        let mut head = 0u64;
        // Slot, whether it has the tag, the log's head at its bind, what it has got.
        let mut devices: Vec<(u32, bool, u64, Vec<u64>)> = Vec::new();
        let audiences = ["", "vip", "not vip"];
        let page = |world: &mut World, log: &[(u64, &str)], head: u64| {
            for ask in world.sessions.asks.pages.take(9) {
                let rest: Vec<_> = log.iter().copied().filter(|(bseq, _)| *bseq > ask.after).collect();
                let some = &rest[..rest.len().min(3)];
                let through = if rest.len() > 3 { some[2].0 } else { head };
                world.sessions.on_log(&run(ask.after, through.max(ask.after), some), true);
            }
        };
        for (kind, which, amount) in steps {
            match kind {
                0 => {
                    let slot = world.connect();
                    let vip = which % 2 == 0;
                    let uid = format!("u{}", devices.len());
                    world.send(slot, bind(1, &uid, if vip { &["vip"] } else { &[] }));
                    let ask = world.sessions.asks.binds.take(9).pop().unwrap();
                    world.answer_bind(&ask, done(1, head));
                    world.frames(slot);
                    devices.push((slot, vip, head, Vec::new()));
                }
                1 | 2 => {
                    // Some numbers hold nothing.
                    let after = head;
                    head += 1 + (amount % 2) as u64;
                    log.push((head, audiences[which % 3]));
                    // Every eighth notice is lost.
                    if which != 7 {
                        world.sessions.on_log(&run(after, head, &log[log.len() - 1..]), false);
                    }
                }
                3 => {
                    if let Some((slot, ..)) = devices.get(which) {
                        world.out.room.insert(*slot, amount);
                        world.sessions.on_drained(*slot, &mut world.out);
                    }
                }
                4 => page(&mut world, &log, head),
                _ => { world.sessions.work(world.now, &mut world.out); }
            }
            for (slot, _, _, got) in &mut devices {
                got.extend(world.broadcasts(*slot));
            }
        }
        world.out.room.clear();
        // A last notice shows every hole.
        head += 1;
        log.push((head, ""));
        world.sessions.on_log(&run(head - 1, head, &log[log.len() - 1..]), false);
        for (slot, ..) in &devices {
            world.sessions.on_drained(*slot, &mut world.out);
        }
        for _ in 0..200 {
            world.sessions.work(world.now, &mut world.out);
            page(&mut world, &log, head);
            world.pass(250);
        }
        for (slot, vip, bound_at, got) in &mut devices {
            got.extend(world.broadcasts(*slot));
            let meant = |audience: &str| match audience { "" => true, "vip" => *vip, _ => !*vip };
            let wanted: Vec<u64> = log.iter()
                .filter(|(bseq, audience)| *bseq > *bound_at && meant(audience))
                .map(|(bseq, _)| *bseq).collect();
            prop_assert_eq!(&*got, &wanted, "slot {} bound at {}", slot, bound_at);
        }
    }
}
