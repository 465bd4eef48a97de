//! A room in virtual time, with one user's inbox behind it: the other end for a session under test.
//! It keeps to the protocol, unless it is told to err, and checks that the device does.

#![allow(dead_code, reason = "each test file uses what it needs")]

use bytes::Bytes;
use client::{Moment, Output, Session};
use wire::{
    ServerDecoder,
    frame::*,
    limits::{MAX_CLIENT_FRAME, VERSION},
};

/// One stored message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) birth: u64,
    pub(crate) seq: u64,
    pub(crate) id: u64,
}

/// The inbox of one user, as the saver has it.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) epoch: u64,
    pub(crate) last: u64,
    pub(crate) entries: Vec<Entry>,
    /// Acked, but a rebuilt inbox would have them again: the archive has not heard.
    pub(crate) unlanded: Vec<Entry>,
}

impl Inbox {
    pub(crate) fn append(&mut self, id: u64) {
        self.last += 1;
        self.entries.push(Entry { birth: self.epoch, seq: self.last, id });
    }

    pub(crate) fn ack(&mut self, at: InboxPosition) {
        let covered = |entry: &Entry| entry.birth <= at.epoch && entry.seq <= at.seq;
        self.unlanded.extend(self.entries.iter().filter(|entry| covered(entry)));
        self.entries.retain(|entry| !covered(entry));
    }

    /// `at` in the present epoch.
    pub(crate) fn translate(&self, at: InboxPosition) -> u64 {
        let covered = |entry: &Entry| entry.birth <= at.epoch && entry.seq <= at.seq;
        if at.epoch == self.epoch {
            return at.seq.min(self.last);
        }
        self.entries.iter().find(|entry| !covered(entry)).map_or(self.last, |entry| entry.seq - 1)
    }

    /// The store is lost, and rebuilt from the archive. `forgets`: acks that had not landed come undone.
    pub(crate) fn rebuild(&mut self, forgets: bool) {
        self.epoch += 1;
        let unlanded = std::mem::take(&mut self.unlanded);
        if forgets {
            self.entries.extend(unlanded);
            self.entries.sort_by_key(|entry| (entry.birth, entry.seq));
            // A number of an earlier epoch that was used again cannot come back; the archive keeps both, and
            // puts the later ones after the earlier.
            for index in 1..self.entries.len() {
                let before = self.entries[index - 1].seq;
                self.entries[index].seq = self.entries[index].seq.max(before + 1);
            }
        }
        self.last = self.entries.last().map_or(0, |entry| entry.seq);
    }
}

/// The other end of one session.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) inbox: Inbox,
    /// What the device sees of the inbox: epoch and last number sent.
    sent: InboxPosition,
    /// In the epoch of `sent`.
    acked: u64,
    pub(crate) bound: bool,
    binding: u32,
    /// The token that would be taken. Each is good once.
    pub(crate) token: Option<u64>,
    pub(crate) tokens: u64,
    /// What there is to tell about the binding when it is gone on with.
    pub(crate) gone: Option<UnboundReason>,
    decoder: ServerDecoder,
    /// Frames on their way to the device.
    pub(crate) down: Vec<ServerFrame>,
    /// Frames from the device, for tests that look at them.
    pub(crate) up: Vec<ClientFrame>,
    pub(crate) heartbeat_s: u32,
    pub(crate) answers_ping: bool,
    pub(crate) acks: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            inbox: Inbox { epoch: 1, ..Inbox::default() },
            sent: InboxPosition::default(),
            acked: 0,
            bound: false,
            binding: 0,
            token: None,
            tokens: 0,
            gone: None,
            decoder: ServerDecoder::for_server(MAX_CLIENT_FRAME),
            down: Vec::new(),
            up: Vec::new(),
            heartbeat_s: 60,
            answers_ping: true,
            acks: 0,
        }
    }
}

impl Room {
    /// A new connection: nothing of the old one is on its way any more.
    pub(crate) fn accept(&mut self) {
        self.decoder = ServerDecoder::for_server(MAX_CLIENT_FRAME);
        self.down.clear();
        self.bound = false;
    }

    /// The connection broke, and the room keeps what was bound, or not.
    pub(crate) fn keep(&mut self, keeps: bool) {
        self.token = (keeps && self.bound).then_some(self.tokens);
    }

    fn connect(&mut self, connect: &Connect) {
        assert_eq!(connect.version, VERSION);
        let good =
            self.token.take().is_some_and(|token| connect.resume_token == token.to_be_bytes().as_slice());
        self.tokens += 1;
        let resume_token = Bytes::copy_from_slice(&self.tokens.to_be_bytes());
        let heartbeat_s = self.heartbeat_s;
        self.send(Connected { conn: 7, version: VERSION, heartbeat_s, resume_token, resumed: good });
        if !good {
            return;
        }
        let has = connect.resume.iter().find(|has| has.binding == self.binding);
        let Some(has) = has else { return };
        if let Some(reason) = self.gone.take() {
            return self.send(Unbound { binding: self.binding, reason: reason.into() });
        }
        self.bound = true;
        assert!(has.confirmed <= has.received, "{has:?}");
        if has.confirmed > 0 {
            self.inbox.ack(InboxPosition { epoch: has.epoch, seq: has.confirmed });
        }
        assert!(has.epoch <= self.sent.epoch, "{has:?}");
        if has.epoch == self.sent.epoch {
            // An earlier connection may have brought more, which was not confirmed there and has expired since.
            self.sent.seq = self.sent.seq.min(has.received);
            self.acked = self.acked.max(has.confirmed.min(self.sent.seq));
        } else {
            // The Rebased was lost.
            self.sent.seq = self.inbox.translate(InboxPosition { epoch: has.epoch, seq: has.received });
            self.acked = self.sent.seq;
            self.send(Rebased { binding: self.binding, inbox: Some(self.sent) });
        }
        self.deliver();
    }

    pub(crate) fn send(&mut self, frame: impl Into<ServerFrame>) {
        self.down.push(frame.into());
    }

    pub(crate) fn receive(&mut self, mut bytes: &[u8]) {
        while let Some(frame) = self.decoder.decode(&mut bytes).expect("a device sends good frames") {
            self.up.push(frame.clone());
            match frame.body.expect("a device sends frames with a body") {
                ClientBody::Connect(connect) => self.connect(&connect),
                ClientBody::Bind(bind) => self.bind(&bind),
                ClientBody::Ack(ack) => self.ack(&ack),
                ClientBody::Unbind(unbind) => {
                    self.bound = false;
                    let reason = UnboundReason::Requested.into();
                    self.send(Unbound { binding: unbind.binding, reason });
                }
                ClientBody::Up(_) => {}
                ClientBody::Leave(_) => self.bound = false,
                ClientBody::Ping(_) if self.answers_ping => self.send(Pong {}),
                ClientBody::Ping(_) => {}
            }
        }
    }

    fn bind(&mut self, bind: &Bind) {
        self.binding = bind.binding;
        let start = match bind.inbox {
            Some(at) if at.epoch <= self.inbox.epoch => {
                self.inbox.ack(at);
                self.inbox.translate(at)
            }
            _ => self.inbox.entries.first().map_or(self.inbox.last, |entry| entry.seq - 1),
        };
        self.sent = InboxPosition { epoch: self.inbox.epoch, seq: start };
        self.acked = start;
        self.bound = true;
        let broadcasts = bind.broadcasts.or(Some(BroadcastPosition { epoch: 1, bseq: 0 }));
        self.send(Bound { binding: bind.binding, app: 1, inbox: Some(self.sent), broadcasts });
        self.deliver();
    }

    fn ack(&mut self, ack: &Ack) {
        self.acks += 1;
        if ack.seq == 0 {
            return;
        }
        assert!(ack.epoch <= self.sent.epoch, "a device acks only in epochs that it has heard of");
        if ack.epoch == self.sent.epoch {
            assert!(ack.seq <= self.sent.seq, "a device acks only what it was sent on this connection");
            // A room has no use for what it knows already.
            if ack.seq <= self.acked {
                return;
            }
            self.acked = ack.seq;
        }
        self.inbox.ack(InboxPosition { epoch: ack.epoch, seq: ack.seq });
    }

    /// Sends what the device has not been sent.
    pub(crate) fn deliver(&mut self) {
        if !self.bound {
            return;
        }
        if self.sent.epoch != self.inbox.epoch {
            let seq = self.inbox.translate(self.sent);
            self.sent = InboxPosition { epoch: self.inbox.epoch, seq };
            self.acked = seq;
            self.send(Rebased { binding: self.binding, inbox: Some(self.sent) });
        }
        for entry in self.inbox.entries.clone() {
            if entry.seq > self.sent.seq {
                let push = self.push(entry, entry.seq - self.sent.seq - 1);
                self.send(push);
                self.sent.seq = entry.seq;
            }
        }
    }

    pub(crate) fn push(&self, entry: Entry, skip: u64) -> Push {
        let (binding, seq, id) = (self.binding, entry.seq, entry.id);
        Push {
            binding,
            seq,
            skip,
            id,
            payload: Bytes::from(id.to_string()),
            accepted_ms: 0,
            ..Default::default()
        }
    }
}

/// Moves bytes and frames between the two until neither has anything to say at `now`. At most `frames` reach
/// the device. Whether the connection still stands.
pub(crate) fn exchange(
    session: &mut Session,
    room: &mut Room,
    now: Moment,
    out: &mut Output,
    mut frames: usize,
) -> bool {
    loop {
        session.advance(now, out);
        room.receive(&std::mem::take(&mut out.bytes));
        if out.ended.is_some() {
            return false;
        }
        if room.down.is_empty() || frames == 0 {
            return true;
        }
        let arriving = frames.min(room.down.len());
        frames -= arriving;
        for frame in room.down.drain(..arriving) {
            session.on_frame(frame, now, out);
        }
    }
}
