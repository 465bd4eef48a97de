//! A device: the SDK's session, what drives it, and an app that judges what it is given.

use std::collections::{HashMap, HashSet};

use client::{
    Confirm, Event as Told, Moment, Output, Session,
    session::{BindSpec, Cause, Ending, Traits},
};
use wire::{
    ClientDecoder,
    close::{Wait, Whither},
    frame::{CloseCode, UnboundReason},
    id::{AppKey, BindingId, Cursor, Position},
    limits::MAX_SERVER_FRAME,
};

use super::world::{Event, World};

/// One user on a device, as its app sees it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) user: usize,
    pub(crate) tags: Vec<String>,
    /// Ids of messages, and numbers of broadcasts, in the order in which they came.
    pub(crate) messages: Vec<u64>,
    pub(crate) broadcasts: Vec<u64>,
    /// Where its broadcasts began.
    pub(crate) first: Option<Cursor>,
    /// The app wants no more of it.
    pub(crate) left: bool,
    /// Another device has had the user: the place is no longer this device's own.
    pub(crate) shared: bool,
    /// It is this device that keeps such a user in the end.
    pub(crate) keeps: bool,
}

pub(crate) struct Device {
    pub(crate) session: Session,
    out: Output,
    decoder: ClientDecoder,
    pub(crate) line: Option<usize>,
    pub(crate) reads_not_before: u64,
    frozen_until: u64,
    wakes_at: u64,
    dials: bool,
    failures: u32,
    pub(crate) seen: HashMap<u32, Seen>,
    /// Ids of broadcasts, whichever binding they were for.
    pub(crate) broadcasts: HashSet<u64>,
    ups: HashMap<u64, usize>,
    pub(crate) over: HashSet<u32>,
}

impl World {
    /// A device that holds these users, each with its tags, and comes at once.
    pub(crate) fn add_device(&mut self, users: &[(usize, &[&str])]) -> usize {
        let number = self.devices.len();
        let name = format!("device-{number}");
        let mut session = Session::new(self.config.clone(), name.as_str().into(), number as u64 + 1);
        let mut seen = HashMap::new();
        for (user, tags) in users {
            let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
            let binding = session.bind(BindSpec {
                app: AppKey::new(format!("app{}", self.users[*user].app + 1)).unwrap(),
                uid: self.users[*user].uid.clone(),
                token: Some("token".into()),
                traits: Traits::tags(tags.clone()).into(),
                inbox: None,
                broadcasts: None,
            });
            let mut shared = false;
            for other in self.devices.iter_mut().flat_map(|device| device.seen.values_mut()) {
                if other.user == *user {
                    (shared, other.shared, other.keeps) = (true, true, true);
                }
            }
            seen.insert(binding.0, Seen { user: *user, tags, shared, ..Seen::default() });
        }
        self.devices.push(Device {
            session,
            out: Output::default(),
            decoder: ClientDecoder::for_client(MAX_SERVER_FRAME),
            line: None,
            reads_not_before: 0,
            frozen_until: 0,
            wakes_at: u64::MAX,
            dials: true,
            failures: 0,
            seen,
            broadcasts: HashSet::new(),
            ups: HashMap::new(),
            over: HashSet::new(),
        });
        self.at(0, Event::Dial(number));
        number
    }

    pub(crate) fn dial(&mut self, number: usize) {
        self.devices[number].dials = false;
        if self.over
            || self.devices[number].line.is_some()
            || !self.devices[number].session.wants_connection()
        {
            return;
        }
        if self.devices[number].frozen_until > self.now {
            return self.dial_in(number, 1_000);
        }
        let open: Vec<usize> = (0..self.rooms.len()).filter(|room| !self.rooms[*room].drains).collect();
        let room = open[self.dice.below(open.len() as u64) as usize];
        let Some(line) = self.accept(room, number) else { return self.dial_in(number, 1_000) };
        let now = Moment(self.now);
        self.note(|| format!("device {number} has line {line}"));
        let device = &mut self.devices[number];
        device.line = Some(line);
        device.decoder = ClientDecoder::for_client(MAX_SERVER_FRAME);
        device.session.opened(now, &mut device.out);
        self.pump(number);
    }

    fn dial_in(&mut self, number: usize, most: u64) {
        if !std::mem::replace(&mut self.devices[number].dials, true) {
            let wait = self.between((1, most));
            self.at(wait, Event::Dial(number));
        }
    }

    pub(crate) fn device_reads(&mut self, number: usize, line: usize, mut bytes: &[u8]) {
        let now = Moment(self.now);
        let device = &mut self.devices[number];
        assert_eq!(device.line, Some(line), "a line that was given up is not read");
        loop {
            match device.decoder.decode(&mut bytes) {
                Ok(Some(frame)) => device.session.on_frame(frame, now, &mut device.out),
                Ok(None) => break,
                Err(error) => panic!("the room sends what is no frame: {error}"),
            }
        }
        self.pump(number);
    }

    pub(crate) fn device_lost(&mut self, number: usize) {
        let device = &mut self.devices[number];
        device.session.lost(Cause::Lost("cut".to_owned()), &mut device.out);
        self.pump(number);
    }

    pub(crate) fn wake(&mut self, number: usize) {
        if self.devices[number].wakes_at == self.now {
            self.devices[number].wakes_at = u64::MAX;
            self.pump(number);
        }
    }

    pub(crate) fn thaw(&mut self, number: usize) {
        if self.devices[number].frozen_until <= self.now {
            if let Some(line) = self.devices[number].line {
                self.read_down(line);
            }
            self.pump(number);
        }
    }

    /// What the driver does after anything that has happened.
    pub(crate) fn pump(&mut self, number: usize) {
        if self.devices[number].frozen_until > self.now {
            return;
        }
        let now = Moment(self.now);
        let paused = self.devices[number].reads_not_before > self.now;
        let device = &mut self.devices[number];
        if paused && device.line.is_some() {
            device.session.excuse(now);
        }
        device.session.advance(now, &mut device.out);
        let bytes = std::mem::take(&mut device.out.bytes);
        let (events, ended) = (std::mem::take(&mut device.out.events), device.out.ended.take());
        if let Some(line) = device.line {
            self.send_up(line, &bytes);
        }
        for event in events {
            self.told(number, event);
        }
        if let Some(ending) = ended {
            self.ended(number, &ending);
        }
        let device = &mut self.devices[number];
        if let Some(at) = device.session.next_deadline()
            && at.0.max(self.now + 1) < device.wakes_at
        {
            let at = at.0.max(self.now + 1);
            device.wakes_at = at;
            self.at(at - self.now, Event::Wake(number));
        }
    }

    fn ended(&mut self, number: usize, ending: &Ending) {
        match &ending.cause {
            Cause::Closed { code: CloseCode::Busy | CloseCode::GoingAway | CloseCode::Slow, .. }
            | Cause::Closed { code: CloseCode::HeartbeatTimeout | CloseCode::HandshakeTimeout, .. }
            | Cause::Moved(_)
            | Cause::NoAnswer(_)
            | Cause::Silent
            | Cause::Lost(_)
            | Cause::Requested => {}
            unlawful => panic!("device {number} was ended by {unlawful:?}"),
        }
        self.note(|| format!("device {number} has ended: {:?}", ending.cause));
        let device = &mut self.devices[number];
        device.failures = if ending.wait == Wait::Brief { 0 } else { device.failures + 1 };
        let failures = device.failures;
        if let Some(line) = device.line.take() {
            self.end_up(line);
        }
        if ending.whither != Whither::Nowhere {
            let told = ending.retry_after.as_millis() as u64;
            self.dial_in(number, told + 500 * u64::from(failures + 1).min(20));
        }
    }

    /// What the app is told.
    fn told(&mut self, number: usize, event: Told) {
        let by_app = self.config.ack.confirm == Confirm::ByApp;
        let device = &mut self.devices[number];
        match event {
            Told::Message(message) => {
                let seen = device.seen.get_mut(&message.binding.0).expect("only these bindings exist");
                let id = message.id.0;
                assert_eq!(message.payload, super::inbox::payload(id));
                assert!(seen.messages.last() < Some(&id), "{id} after {:?} on {number}", seen.messages);
                seen.messages.push(id);
                self.users[seen.user].seen.insert(id);
                if let Some(at) = message.position.filter(|_| by_app) {
                    let wait = self.between((1, 3_000));
                    self.at(wait, Event::Confirm(number, message.binding, at));
                }
            }
            Told::Broadcast(broadcast) => {
                let id = broadcast.id.0;
                assert_eq!(broadcast.payload, super::inbox::payload(id));
                assert!(device.broadcasts.insert(id), "broadcast {id} twice on device {number}");
                let alone = device
                    .seen
                    .values()
                    .filter(|seen| self.users[seen.user].app == broadcast.app.0 as usize - 1);
                let alone = alone.count() == 1;
                let mut confirmed = Vec::new();
                let log = &self.logs[broadcast.app.0 as usize - 1];
                let entry =
                    log.entries().find(|entry| entry.bseq == broadcast.cursor.bseq.0).expect("stored");
                for binding in broadcast.bindings {
                    let seen = device.seen.get_mut(&binding.0).expect("only these bindings exist");
                    let uid = &self.users[seen.user].uid;
                    assert!(log.is_meant(entry, uid, &seen.tags), "{entry:?} is not for {uid}");
                    let bseq = entry.bseq;
                    assert!(
                        !alone || seen.broadcasts.last() < Some(&bseq),
                        "{bseq} after {:?}",
                        seen.broadcasts
                    );
                    seen.broadcasts.push(bseq);
                    if by_app {
                        confirmed.push((binding, broadcast.cursor));
                    }
                }
                for (binding, at) in confirmed {
                    let wait = self.between((1, 3_000));
                    self.at(wait, Event::ConfirmBroadcast(number, binding, at));
                }
            }
            Told::Bound { binding, broadcasts, .. } => {
                let seen = device.seen.get_mut(&binding.0).expect("only these bindings exist");
                seen.first = seen.first.or(Some(broadcasts));
                device.failures = 0;
            }
            Told::Unbound { binding, reason } => self.unbound(number, binding, reason),
            Told::BindFailed { gives_up, code, .. } => assert!(!gives_up, "{code:?}"),
            Told::TokenNeeded { binding } => self.at(20, Event::Token(number, binding)),
            Told::UpDone { reference, outcome } => {
                let user = device.ups.remove(&reference).expect("each is answered once");
                if outcome == client::session::UpOutcome::Accepted {
                    assert!(self.taken.contains(&(user, reference)), "{reference} was never taken");
                }
            }
            Told::Connected { .. } | Told::Disconnected(_) | Told::Unreachable { .. } => {}
            Told::Recalled { .. } => panic!("nothing was recalled"),
        }
    }

    fn unbound(&mut self, number: usize, binding: BindingId, reason: UnboundReason) {
        match reason {
            UnboundReason::Requested => {
                self.devices[number].seen.get_mut(&binding.0).expect("only these exist").left = true;
            }
            UnboundReason::Replaced | UnboundReason::Kicked => {
                self.devices[number].over.insert(binding.0);
                let wait = self.between((500, 20_000));
                self.at(wait, Event::Rebind(number, binding));
            }
            UnboundReason::Lost | UnboundReason::Unspecified => {}
        }
    }

    pub(crate) fn rebind(&mut self, number: usize, binding: BindingId) {
        if self.devices[number].over.remove(&binding.0) {
            self.devices[number].session.rebind(binding);
            self.pump(number);
            self.dial_in(number, 500);
        }
    }

    pub(crate) fn give_token(&mut self, number: usize, binding: BindingId) {
        self.devices[number].session.set_token(binding, "token".into());
        self.pump(number);
    }

    pub(crate) fn confirm(&mut self, number: usize, binding: BindingId, at: Position) {
        self.devices[number].session.confirm(binding, at, Moment(self.now));
        self.pump(number);
    }

    pub(crate) fn confirm_broadcast(&mut self, number: usize, binding: BindingId, at: Cursor) {
        self.devices[number].session.confirm_broadcast(binding, at, Moment(self.now));
        self.pump(number);
    }

    /// The app ends it in good order.
    pub(crate) fn close_device(&mut self, number: usize) {
        let device = &mut self.devices[number];
        device.session.close(Moment(self.now), &mut device.out);
        self.pump(number);
    }

    pub(crate) fn freeze(&mut self, number: usize, ms: u64, sleeps: bool) {
        let until = self.now + ms;
        let device = &mut self.devices[number];
        device.reads_not_before = device.reads_not_before.max(until);
        if sleeps {
            device.frozen_until = device.frozen_until.max(until);
        }
        self.at(ms, Event::Thaw(number));
    }

    pub(crate) fn send_data(&mut self, number: usize) {
        let device = &mut self.devices[number];
        let Some(binding) = device.seen.keys().min().copied() else { return };
        let payload = vec![7; 30].into();
        if let Ok(reference) = device.session.up(BindingId(binding), "kind".into(), payload) {
            device.ups.insert(reference, device.seen[&binding].user);
        }
        self.pump(number);
    }

    pub(crate) fn has_ups(&self) -> bool {
        self.devices.iter().any(|device| !device.ups.is_empty())
    }
}
