//! A session and a room, in virtual time.

use std::{sync::Arc, time::Duration};

use client::{
    Config, Event, Moment, Output, Session,
    session::{BindSpec, Cause, Ending},
};
use wire::{
    frame::{ClientFrame, ServerFrame},
    id::{AppKey, BindingId, Uid},
};

use crate::room::{Room, exchange};

pub(crate) struct World {
    pub(crate) session: Session,
    pub(crate) room: Room,
    pub(crate) out: Output,
    pub(crate) now: Moment,
}

pub(crate) fn spec(uid: &str, token: Option<&str>) -> BindSpec {
    let token = token.map(Into::into);
    let (app, uid) = (AppKey::new("demo").unwrap(), Uid::new(uid).unwrap());
    BindSpec { app, uid, token, traits: Arc::default(), inbox: None, broadcasts: None }
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        let session = Session::new(Arc::new(config), "test".into(), 1);
        Self { session, room: Room::default(), out: Output::default(), now: Moment(0) }
    }

    /// Connected and with one binding.
    pub(crate) fn bound() -> (Self, BindingId) {
        let mut world = Self::new(Config::default());
        let binding = world.session.bind(spec("alice", Some("token")));
        world.connect();
        assert!(matches!(&world.events()[..], [Event::Connected { .. }, Event::Bound { .. }]));
        (world, binding)
    }

    pub(crate) fn connect(&mut self) {
        self.room.accept();
        self.out.ended = None;
        self.session.opened(self.now, &mut self.out);
        self.exchange();
    }

    pub(crate) fn exchange(&mut self) {
        exchange(&mut self.session, &mut self.room, self.now, &mut self.out, usize::MAX);
    }

    pub(crate) fn send(&mut self, frame: impl Into<ServerFrame>) {
        self.room.send(frame);
        self.exchange();
    }

    /// Lets time pass, with everything done when it is due.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.session.next_deadline().filter(|next| *next <= end) {
            assert!(next >= self.now || next == Moment(0), "a deadline in the past is not met");
            self.now = self.now.max(next);
            self.exchange();
        }
        self.now = end;
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.out.events)
    }

    pub(crate) fn sent(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.room.up).iter().map(ClientFrame::name).collect()
    }

    pub(crate) fn cause(&mut self) -> Option<Cause> {
        self.out.ended.take().map(|ending: Ending| ending.cause)
    }
}
