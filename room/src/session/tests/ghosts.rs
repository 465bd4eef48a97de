//! Connections that break and come back.

use std::sync::Arc;

use audience::Filter;
use bytes::Bytes;
use wire::frame::{
    Connect, Connected, Leave, Ping, ResumeBinding, ServerBody, Unbind, Unbound, UnboundReason,
};

use super::{
    super::{Limits, Next, Outcome},
    harness::{APP, World, ack, done, entry, hello, item, nudge, page, place, position, run},
};
use crate::{
    exchange::{Delivery, KickOrder, KickWhy, LogEntry, LogRun, Meant},
    resume::Sealer,
};

/// A device that has bound alice as 1, and its token.
pub(super) fn bound(limits: Limits) -> (World, u32, Bytes) {
    let mut world = World::new(limits);
    world.sessions = world.sessions.with_resume(Sealer::with_key(&[7; 32]));
    let (slot, token) = world.greet(hello());
    world.bind(slot, 1, "alice", 1);
    (world, slot, token)
}

pub(super) fn alice() -> (World, u32, Bytes) {
    bound(Limits::default())
}

/// What a device has of binding 1, all done with.
pub(super) fn has(seq: u64, bseq: u64) -> ResumeBinding {
    ResumeBinding {
        binding: 1,
        epoch: 1,
        received: seq,
        confirmed: seq,
        log_epoch: 1,
        broadcast_received: bseq,
        broadcast_confirmed: bseq,
    }
}

pub(super) fn again(token: &Bytes, has: &[ResumeBinding]) -> Connect {
    Connect { resume_token: token.clone(), resume: has.to_vec(), ..hello() }
}

impl World {
    /// A new connection of a device that is told that it begins.
    pub(super) fn greet(&mut self, connect: Connect) -> (u32, Bytes) {
        let (slot, frames) = self.arrive(connect);
        match &frames[..] {
            [ServerBody::Connected(Connected { resumed: false, resume_token, .. })] => {
                (slot, resume_token.clone())
            }
            other => panic!("{other:?}"),
        }
    }

    /// One that goes on: what it is told after that.
    pub(super) fn goes_on(&mut self, connect: Connect) -> (u32, Bytes, Vec<ServerBody>) {
        let (slot, mut frames) = self.arrive(connect);
        let ServerBody::Connected(Connected { resumed: true, resume_token, .. }) = frames.remove(0) else {
            panic!("it begins afresh")
        };
        (slot, resume_token, frames)
    }

    /// A new socket, as the event loop has it.
    fn arrive(&mut self, connect: Connect) -> (u32, Vec<ServerBody>) {
        let mut slot = self.sessions.open(self.now).unwrap().slot;
        self.out.gone.remove(&slot);
        match self.sessions.on_frame(slot, connect.into(), self.now, &mut self.out) {
            Next::More => {}
            Next::Stop => panic!("closed"),
            Next::Move(moving) => {
                self.sessions.move_away(slot);
                match self.sessions.take_seat(moving.seat, self.now) {
                    Some(conn) => {
                        slot = conn.slot;
                        self.out.gone.remove(&slot);
                        self.frames(slot);
                        self.sessions.resume(slot, &moving.connect, self.now, &mut self.out);
                    }
                    None => {
                        slot = self.sessions.open(self.now).unwrap().slot;
                        self.sessions.greet(slot, &moving.connect, self.now, &mut self.out);
                    }
                }
            }
        }
        (slot, self.frames(slot))
    }

    /// The socket breaks; what is on its way is lost.
    pub(super) fn cut(&mut self, slot: u32) {
        self.sessions.on_lost(slot, self.now);
        self.frames(slot);
        self.out.gone.insert(slot);
    }

    pub(super) fn outcome(&self, outcome: Outcome) -> u64 {
        self.sessions.tally().resumes[outcome as usize]
    }

    /// Nothing was asked of anybody.
    pub(super) fn asks_nobody(&mut self) {
        assert!(self.sessions.asks.is_empty(), "{:?}", self.sessions.asks);
        assert!(!self.sessions.has_ends() && !self.sessions.has_acks());
    }
}

fn unbound(frames: &[ServerBody]) -> Vec<(u32, UnboundReason)> {
    let told = |frame: &ServerBody| match frame {
        ServerBody::Unbound(Unbound { binding, reason }) => {
            (*binding, UnboundReason::try_from(*reason).unwrap())
        }
        other => panic!("{other:?}"),
    };
    frames.iter().map(told).collect()
}

#[test]
fn a_break_is_told_to_nobody_until_the_grace_is_over() {
    let (mut world, slot, _) = alice();
    world.cut(slot);
    assert_eq!((world.sessions.connections(), world.sessions.ghosts(), world.sessions.live()), (0, 1, 1));
    world.pass(29_500);
    world.asks_nobody();
    world.pass(1_000);
    let ends = world.sessions.take_ends(9);
    assert_eq!((ends.len(), ends[0].uid.as_str()), (1, "alice"));
    assert_eq!((world.sessions.ghosts(), world.sessions.tally().ghosts_expired), (0, 1));
    assert!(world.sessions.is_at_rest());
}

#[test]
fn who_leaves_is_gone_at_once() {
    let (mut world, slot, _) = alice();
    assert!(world.send(slot, Leave {}));
    assert_eq!(world.sessions.take_ends(9).len(), 1);
    world.cut(slot);
    assert_eq!(world.sessions.ghosts(), 0);
    assert!(world.sessions.is_at_rest());

    // So is who has unbound, as devices did before there was a Leave.
    let (slot, _) = world.greet(hello());
    world.bind(slot, 1, "bob", 2);
    world.send(slot, Unbind { binding: 1 });
    world.cut(slot);
    assert_eq!((world.sessions.ghosts(), world.sessions.take_ends(9).len()), (0, 1));
}

#[test]
fn whom_the_room_has_ended_leaves_no_ghost() {
    let (mut world, slot, _) = alice();
    world.pass(100_000);
    assert_eq!(world.sessions.take_ends(9).len(), 1, "its silence was its grace");
    world.cut(slot);
    assert_eq!(world.sessions.ghosts(), 0);
}

#[test]
fn nothing_is_asked_where_nothing_was_missed() {
    let (mut world, slot, token) = alice();
    world.deliver(&item("alice", 1, 1));
    world.cut(slot);
    world.pass(10_000);
    let (same, _, frames) = world.goes_on(again(&token, &[has(1, 0)]));
    assert_eq!((same, frames), (slot, vec![]));
    assert_eq!((world.sessions.connections(), world.sessions.ghosts()), (1, 0));
    // What the device has is acked, and that is all.
    assert_eq!(world.sessions.take_acks(9)[0].inbox, position(1, 1));
    world.asks_nobody();
    // Its numbers go on, and so does its heartbeat.
    world.deliver(&item("alice", 1, 2));
    assert_eq!(world.pushed(slot), [(2, 0)]);
    world.pass(90_000);
    assert!(world.frames(slot).is_empty());
    assert!(world.send(slot, Ping {}));
}

#[test]
fn stored_messages_wait_and_come_in_order() {
    let (mut world, slot, token) = alice();
    world.deliver(&item("alice", 1, 1));
    world.frames(slot);
    world.cut(slot);
    // Sent, for who asks: it is stored, and the room knows. So does a nudge of the sweeper.
    assert_eq!(world.deliver(&item("alice", 1, 2)), Delivery::Sent);
    assert_eq!(world.deliver(&nudge("alice", 1, 9)), Delivery::Sent);
    world.asks_nobody();
    assert_eq!(world.deliver(&item("alice", 0, 0)), Delivery::Away);
    assert_eq!(world.sessions.tally().transients_away, 1);

    let (slot, _, _) = world.goes_on(again(&token, &[has(1, 0)]));
    let ask = world.load_ask().expect("the inbox is read once");
    assert_eq!(ask.after, position(1, 1));
    world.answer_load(&ask, Some(page((1, 1), &[2, 3], 3)));
    assert_eq!(world.pushed(slot), [(2, 0), (3, 0)]);
}

#[test]
fn what_was_sent_and_did_not_come_is_sent_again() {
    let (mut world, slot, token) = alice();
    for seq in 1..=5 {
        world.deliver(&item("alice", 1, seq));
    }
    world.send(slot, ack(1, 1, 0));
    world.cut(slot);
    let (slot, _, _) = world.goes_on(again(&token, &[ResumeBinding { confirmed: 2, ..has(3, 0) }]));
    assert_eq!(world.sessions.take_acks(9)[0].inbox, position(1, 2), "received is not done with");
    let ask = world.load_ask().expect("4 and 5 were lost");
    assert_eq!(ask.after, position(1, 3));
    assert_eq!(world.deliver(&item("alice", 1, 6)), Delivery::Sent);
    assert!(world.frames(slot).is_empty(), "not before its predecessors");
    world.answer_load(&ask, Some(page((1, 3), &[4, 6], 6)));
    assert_eq!(world.pushed(slot), [(4, 0), (6, 1)]);
    world.send(slot, ack(1, 3, 0));
    assert_eq!(world.sessions.take_acks(9)[0].inbox, position(1, 3));
}

/// A load that was asked for before the break would begin behind what the device has.
#[test]
fn a_load_from_before_the_break_is_of_no_use() {
    let (mut world, slot, token) = alice();
    world.deliver(&item("alice", 1, 1));
    world.deliver(&item("alice", 1, 2));
    world.deliver(&item("alice", 1, 5));
    let early = world.load_ask().unwrap();
    assert_eq!(early.after, position(1, 2));
    world.cut(slot);
    let (slot, token, _) = world.goes_on(again(&token, &[has(1, 0)]));
    assert!(world.load_ask().is_none(), "one at a time");
    world.answer_load(&early, Some(page((1, 2), &[5], 5)));
    assert!(world.frames(slot).is_empty());
    let ask = world.load_ask().unwrap();
    assert_eq!(ask.after, position(1, 1));

    // One that is answered while nobody is there is thrown away, too.
    world.cut(slot);
    world.answer_load(&ask, Some(page((1, 1), &[2, 5], 5)));
    assert!(world.load_ask().is_none());
    let (slot, _, _) = world.goes_on(again(&token, &[has(1, 0)]));
    let ask = world.load_ask().unwrap();
    world.answer_load(&ask, Some(page((1, 1), &[2, 5], 5)));
    assert_eq!(world.pushed(slot), [(2, 0), (5, 2)]);
}

#[test]
fn a_new_numbering_of_which_the_device_has_not_heard() {
    let (mut world, slot, token) = alice();
    world.deliver(&item("alice", 1, 1));
    world.deliver(&nudge("alice", 2, 9));
    let ask = world.load_ask().unwrap();
    world.answer_load(&ask, Some(page((2, 7), &[8], 8)));
    world.cut(slot);
    let (slot, _, frames) = world.goes_on(again(&token, &[has(1, 0)]));
    assert_eq!(frames, vec![]);
    assert_eq!(world.sessions.take_acks(9)[0].inbox, position(1, 1), "by the numbers it had");
    let ask = world.load_ask().unwrap();
    // The room had been told that the new numbering goes on after 7; for this device it may begin earlier, which only the
    // saver can tell. It was taken for the device's own place once, and what lay before was lost.
    assert_eq!(ask.after, position(1, 1));
    world.answer_load(&ask, Some(page((2, 4), &[5, 8], 8)));
    let frames = world.frames(slot);
    let [ServerBody::Rebased(rebased), ServerBody::Push(first), ServerBody::Push(second)] = &frames[..]
    else {
        panic!("{frames:?}")
    };
    assert_eq!((rebased.binding, rebased.inbox), (1, place(2, 4)));
    assert_eq!((first.seq, second.seq, second.skip), (5, 8, 2));
}

#[test]
fn broadcasts_wait_in_the_log() {
    let (mut world, slot, token) = alice();
    world.sessions.on_log(&run(0, 1, &[(1, "")]), false);
    world.work();
    assert_eq!(world.broadcasts(slot), [1]);
    world.sessions.on_log(&run(1, 2, &[(2, "")]), false);
    world.work();
    // 2 is on its way when the connection breaks.
    world.cut(slot);
    world.sessions.on_log(&run(2, 4, &[(3, ""), (4, "")]), false);
    world.work();
    let (slot, _, frames) = world.goes_on(again(&token, &[has(0, 1)]));
    assert_eq!(frames, vec![]);
    world.work();
    assert_eq!(world.broadcasts(slot), [2, 3, 4]);
    let progress = world.sessions.progress(1_002);
    assert_eq!((progress.targets(), progress.sent), (1, 1), "sent twice, counted once");
    assert_eq!(world.sessions.progress(1_001).acked, 1);
    world.sessions.on_log(&run(4, 5, &[(5, "")]), false);
    world.work();
    assert_eq!(world.broadcasts(slot), [5]);
    assert!(world.sessions.asks.is_empty());
}

#[test]
fn what_has_gone_meanwhile_is_told_with_its_reason() {
    let (mut world, slot, token) = alice();
    for (number, uid) in [(2, "bob"), (3, "carol"), (4, "dave")] {
        world.bind(slot, number, uid, number.into());
    }
    world.cut(slot);
    for (uid, fence, why) in [("alice", 1, KickWhy::Replaced), ("bob", 2, KickWhy::Kicked)] {
        let order = KickOrder { app: APP, uid: super::harness::uid(uid), fence: u64::into(fence), why };
        assert!(world.sessions.kick(&order, &mut world.out));
    }
    assert_eq!(world.sessions.take_ends(9).len(), 2);
    // It does not know of dave: his Bound was lost. And 9 is nobody.
    let number = |binding| ResumeBinding { binding, ..has(0, 0) };
    let (_, _, frames) = world.goes_on(again(&token, &[number(1), number(2), number(3), number(9)]));
    let lost = UnboundReason::Lost;
    assert_eq!(unbound(&frames), [(1, UnboundReason::Replaced), (2, UnboundReason::Kicked), (9, lost)]);
    let ends = world.sessions.take_ends(9);
    assert_eq!((ends.len(), ends[0].uid.as_str()), (1, "dave"));
    assert_eq!(world.sessions.live(), 1);
}

#[test]
fn a_binding_that_is_on_its_way_is_given_up() {
    let (mut world, slot, token) = alice();
    let ask = world.ask_bind(slot, 2, "bob", &[]);
    world.cut(slot);
    world.answer_bind(&ask, done(2, 0));
    assert_eq!(world.sessions.take_ends(9).len(), 1, "the register has a session that nobody wants");
    let (slot, _, _) = world.goes_on(again(&token, &[has(0, 0)]));
    world.bind(slot, 2, "bob", 3);
    assert_eq!(world.sessions.live(), 2);
}

#[test]
fn a_device_that_has_less_than_it_acked_binds_again() {
    let (mut world, slot, token) = alice();
    world.deliver(&item("alice", 1, 1));
    world.deliver(&item("alice", 1, 2));
    world.send(slot, ack(1, 2, 0));
    world.cut(slot);
    let (_, _, frames) = world.goes_on(again(&token, &[has(1, 0)]));
    assert_eq!(unbound(&frames), [(1, UnboundReason::Lost)]);
    assert_eq!(world.sessions.live(), 0);
}

#[test]
fn a_device_is_not_believed_more_than_it_was_sent() {
    let (mut world, slot, token) = alice();
    world.deliver(&item("alice", 1, 1));
    world.cut(slot);
    let (_, _, frames) = world.goes_on(again(&token, &[has(1_000, 1_000)]));
    assert_eq!(frames, vec![]);
    assert_eq!(world.sessions.take_acks(9)[0].inbox, position(1, 1));
}

#[test]
fn acks_are_handed_over_while_the_device_is_away() {
    let (mut world, slot, _) = alice();
    world.deliver(&item("alice", 1, 1));
    world.send(slot, ack(1, 1, 0));
    world.cut(slot);
    assert_eq!(world.sessions.take_acks(9)[0].inbox, position(1, 1));
}

/// Broadcasts that were not for where a device was counted for it when it came back from elsewhere, as acked if it had acked a
/// later one; and what was chosen for it while it was away was not looked at again.
#[test]
fn who_comes_back_from_elsewhere_is_judged_by_where_it_is_from_then_on() {
    let (mut world, slot, token) = alice();
    let (only_mobile, log) = (|bseq| only(5, bseq), page_of);
    world.sessions.on_log(&log(0, vec![only_mobile(1), entry(2, "")], 2), false);
    world.work();
    assert_eq!(world.broadcasts(slot), [2]);
    world.send(slot, ack(1, 0, 2));
    world.cut(slot);
    world.sessions.on_log(&log(2, vec![only_mobile(3)], 3), false);
    world.work();
    world.sessions.on_log(&log(3, vec![only_mobile(4), entry(5, "")], 5), false);
    let connect = Connect { network: 5, ..again(&token, &[has(0, 2)]) };
    let (seat, _, frames) = world.goes_on(connect);
    assert_eq!((seat, frames.len()), (slot, 0));
    world.work();
    assert_eq!(world.broadcasts(slot), [4, 5]);
    let targets = |id: u64| world.sessions.progress(id).targets();
    assert_eq!([1_001, 1_002, 1_003, 1_004, 1_005].map(targets), [0, 1, 0, 1, 1]);
}

/// An entry for those on one network.
fn only(network: u32, bseq: u64) -> Arc<LogEntry> {
    let values = audience::FilterValues { networks: &[network], ..Default::default() };
    let meant = Meant { filter: Filter::new(&values).unwrap(), ..Default::default() };
    Arc::new(LogEntry { meant: meant.into(), ..(*entry(bseq, "")).clone() })
}

fn page_of(after: u64, entries: Vec<Arc<LogEntry>>, through: u64) -> LogRun {
    LogRun { entries, ..run(after, through, &[]) }
}

/// A device that got broadcasts 1 (for wifi), 2 and 4 (for all) on wifi; 3 was for another network. It comes back on that one, and
/// has what is up to `received`, and has acked nothing.
fn comes_from_wifi_with(received: u64) -> (World, u32) {
    let mut world = World::new(Limits::default());
    world.sessions = world.sessions.with_resume(Sealer::with_key(&[7; 32]));
    let (slot, token) = world.greet(Connect { network: 2, ..hello() });
    world.bind_with(slot, 1, "alice", &[], done(1, 0));
    world.sessions.on_log(&page_of(0, vec![only(2, 1), entry(2, ""), only(5, 3), entry(4, "")], 4), false);
    world.work();
    assert_eq!(world.broadcasts(slot), [1, 2, 4]);
    world.cut(slot);
    let has = ResumeBinding { broadcast_received: received, ..has(0, 0) };
    let (seat, _, frames) = world.goes_on(Connect { network: 5, ..again(&token, &[has]) });
    assert_eq!((seat, frames.len()), (slot, 0));
    world.work();
    (world, slot)
}

fn counts(world: &World) -> [(u64, u64); 4] {
    [1_001, 1_002, 1_003, 1_004].map(|id| {
        let progress = world.sessions.progress(id);
        (progress.acked, progress.pending)
    })
}

/// What had been sent and not acked on one network was counted by the next: who had it on wifi was nowhere, and what had gone by
/// because it was for the other counted as stored, and as acked with the next ack.
#[test]
fn what_was_sent_counts_wherever_the_device_acks_it() {
    let (mut world, slot) = comes_from_wifi_with(4);
    assert_eq!(world.broadcasts(slot), [0; 0]);
    assert_eq!(counts(&world), [(0, 1), (0, 1), (0, 0), (0, 1)]);
    world.send(slot, ack(1, 0, 2));
    assert_eq!(counts(&world), [(1, 0), (1, 0), (0, 0), (0, 1)]);
    // A broadcast that is taken back is hidden where it was sent, too.
    let frame = wire::frame::Recall { binding: 0, id: 1_001, app: APP.0 };
    let frame = wire::codec::encode_server_frame(&frame.into());
    assert_eq!(world.sessions.recall_broadcast(APP, 1_001, frame), Some(1));
    world.sessions.on_closed(slot);
    let end = world.sessions.take_ends(9).remove(0);
    assert_eq!(end.credits.iter().map(|credit| credit.id.0).collect::<Vec<_>>(), [1_001, 1_002]);
    assert_eq!(counts(&world), [(0, 0); 4]);
}

/// What was on the way and did not come is chosen anew.
#[test]
fn what_has_not_come_counts_by_where_the_device_is_now() {
    let (mut world, slot) = comes_from_wifi_with(0);
    assert_eq!(world.broadcasts(slot), [2, 3, 4]);
    assert_eq!(counts(&world), [(0, 0), (0, 1), (0, 1), (0, 1)]);
    world.send(slot, ack(1, 0, 4));
    assert_eq!(counts(&world), [(0, 0), (1, 0), (1, 0), (1, 0)]);
    let (mut world, slot) = comes_from_wifi_with(2);
    assert_eq!(world.broadcasts(slot), [3, 4]);
    assert_eq!(counts(&world), [(0, 1), (0, 1), (0, 1), (0, 1)]);
    world.sessions.on_closed(slot);
    assert_eq!(counts(&world), [(0, 0); 4]);
}
