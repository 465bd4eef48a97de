//! Whatever happens to connections, rooms and stores, the app sees each message once and in order, and what
//! it has confirmed leaves the store.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod room;

use std::{sync::Arc, time::Duration};

use client::{
    AckPolicy, Config, Confirm, Event, Moment, Output, Session,
    session::{BindSpec, Cause},
};
use proptest::prelude::*;
use room::{Room, exchange};
use wire::{
    frame::{ServerBody, ServerFrame},
    id::{AppKey, Uid},
};

/// What may happen.
#[derive(Debug, Clone)]
enum Step {
    /// Messages come.
    Append(u8),
    /// The oldest message expires.
    Expire,
    /// This many frames reach the device; then the connection breaks, if it is so.
    Exchange {
        frames: usize,
        /// Whether the room keeps the binding for the device to come back.
        cut: Option<bool>,
    },
    /// The store is rebuilt.
    Rebuild {
        forgets: bool,
    },
    /// The room, in error, loses, repeats or swaps a frame on its way.
    Lose,
    Repeat,
    Swap,
    /// The app confirms what it has seen, if it is the app's to do.
    Confirm,
    /// Time passes.
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u8..5).prop_map(Step::Append),
        1 => Just(Step::Expire),
        4 => (0usize..6, any::<Option<bool>>()).prop_map(|(frames, cut)| Step::Exchange { frames, cut }),
        1 => any::<bool>().prop_map(|forgets| Step::Rebuild { forgets }),
        1 => Just(Step::Lose),
        1 => Just(Step::Repeat),
        1 => Just(Step::Swap),
        2 => Just(Step::Confirm),
        2 => (0u64..200).prop_map(Step::Wait),
    ]
}

struct World {
    session: Session,
    room: Room,
    out: Output,
    now: Moment,
    connected: bool,
    /// The room has lost a push on this connection. Had it rebuilt the inbox right after, no device could
    /// tell; TCP does not do that, and neither does this test.
    lost: bool,
    next_id: u64,
    /// Ids that the app has seen, in order.
    seen: Vec<u64>,
    expired: Vec<u64>,
    unconfirmed: Option<(wire::id::BindingId, wire::id::Position)>,
}

impl World {
    fn new(confirm: Confirm) -> Self {
        let ack = AckPolicy {
            confirm,
            max_delay: Duration::from_millis(50),
            broadcast_delay: Duration::from_millis(100),
            max_unacked: 4,
        };
        let config = Arc::new(Config { ack, recent_ids: 10_000, ..Config::default() });
        let mut session = Session::new(config, "test".into(), 1);
        session.bind(BindSpec {
            app: AppKey::new("demo").unwrap(),
            uid: Uid::new("alice").unwrap(),
            token: Some("token".into()),
            traits: Arc::default(),
            inbox: None,
            broadcasts: None,
        });
        Self {
            session,
            room: Room::default(),
            out: Output::default(),
            now: Moment(0),
            connected: false,
            lost: false,
            next_id: 1,
            seen: Vec::new(),
            expired: Vec::new(),
            unconfirmed: None,
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Append(count) => {
                for _ in 0..*count {
                    self.room.inbox.append(self.next_id);
                    self.next_id += 1;
                }
                self.room.deliver();
            }
            Step::Expire if !self.room.inbox.entries.is_empty() => {
                self.expired.push(self.room.inbox.entries.remove(0).id);
            }
            Step::Rebuild { forgets } if !self.lost => {
                self.room.inbox.rebuild(*forgets);
                self.room.deliver();
            }
            Step::Exchange { frames, cut } => self.exchange(*frames, *cut),
            Step::Lose if self.pushes_on_their_way() > 0 => {
                self.room.down.remove(0);
                self.lost = true;
            }
            Step::Repeat if self.pushes_on_their_way() > 0 => {
                self.room.down.insert(1, self.room.down[0].clone());
            }
            Step::Swap if self.pushes_on_their_way() > 1 => self.room.down.swap(0, 1),
            Step::Confirm => self.confirm(),
            Step::Wait(ms) => self.now = self.now + Duration::from_millis(*ms),
            Step::Expire | Step::Lose | Step::Repeat | Step::Swap | Step::Rebuild { .. } => {}
        }
    }

    fn exchange(&mut self, frames: usize, cut: Option<bool>) {
        if !self.connected {
            self.room.accept();
            self.lost = false;
            self.session.opened(self.now, &mut self.out);
            self.connected = true;
        }
        self.connected = exchange(&mut self.session, &mut self.room, self.now, &mut self.out, frames);
        if let Some(keeps) = cut.filter(|_| self.connected) {
            self.room.keep(keeps);
            self.session.lost(Cause::Lost("cut".into()), &mut self.out);
            self.connected = false;
        }
        self.out.ended = None;
        for event in self.out.events.drain(..) {
            if let Event::Message(message) = event {
                self.seen.push(message.id.0);
                self.unconfirmed = message.position.map(|position| (message.binding, position));
            }
        }
    }

    fn confirm(&mut self) {
        if let Some((binding, position)) = self.unconfirmed.take() {
            self.session.confirm(binding, position, self.now);
        }
    }

    /// How many of the next frames are pushes, which the room may mistake unless it has rebuilt the inbox.
    fn pushes_on_their_way(&self) -> usize {
        let is =
            |frame: &ServerFrame, wanted: fn(&ServerBody) -> bool| frame.body.as_ref().is_some_and(wanted);
        if self.room.down.iter().any(|frame| is(frame, |body| matches!(body, ServerBody::Rebased(_)))) {
            return 0;
        }
        self.room
            .down
            .iter()
            .take_while(|frame| is(frame, |body| matches!(body, ServerBody::Push(_))))
            .count()
    }

    /// Lets everything come to rest without further mishaps.
    fn settle(&mut self) {
        // What the room lost at the very end shows only on the next connection.
        self.exchange(usize::MAX, Some(false));
        for _ in 0..40 {
            self.exchange(usize::MAX, None);
            self.confirm();
            self.now = self.now + Duration::from_secs(1);
        }
    }
}

fn check(steps: &[Step], confirm: Confirm) -> Result<(), TestCaseError> {
    let mut world = World::new(confirm);
    steps.iter().for_each(|step| world.take(step));
    world.settle();
    prop_assert!(world.seen.is_sorted(), "out of order: {:?}", world.seen);
    let mut once = world.seen.clone();
    once.dedup();
    prop_assert_eq!(&once, &world.seen, "seen twice");
    for id in 1..world.next_id {
        let seen = world.seen.contains(&id) || world.expired.contains(&id);
        prop_assert!(seen, "{} is lost: {:?}", id, world.seen);
    }
    prop_assert_eq!(&world.room.inbox.entries, &[], "left in the store");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 8 * ProptestConfig::default().cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn each_message_once_in_order(steps in prop::collection::vec(step(), 1..60)) {
        check(&steps, Confirm::Auto)?;
    }

    #[test]
    fn each_message_once_in_order_when_the_app_confirms(steps in prop::collection::vec(step(), 1..60)) {
        check(&steps, Confirm::ByApp)?;
    }
}

/// The systematic counterpart: a cut after every single frame.
#[test]
fn a_cut_after_every_frame() {
    for (frames, keeps) in (0..40).flat_map(|frames| [(frames, true), (frames, false)]) {
        let cut = Step::Exchange { frames, cut: Some(keeps) };
        let steps = [Step::Append(4), cut.clone(), Step::Append(4), cut, Step::Append(4)];
        check(&steps, Confirm::Auto).unwrap();
        check(&steps, Confirm::ByApp).unwrap();
    }
}
