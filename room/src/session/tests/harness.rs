//! A thread's sessions with a simulated outside.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use wire::{
    ClientDecoder,
    codec::encode_server_frame,
    frame::{Ack, Bind, Broadcast, ClientFrame, Connect, InboxPosition, Push, ServerBody, ServerFrame},
    id::{AppId, Cursor, Epoch, MessageId, Position, Seq, Uid},
};

use super::super::{Class, Limits, Next, Outlet, Sessions};
use crate::{
    clock::Now,
    exchange::{
        BindAnswer, BindAsk, BindDone, DeliveryItem, LoadAnswer, LoadAsk, LoadDone, LogEntry, LogRun,
        StoredMessage,
    },
};

pub(super) const APP: AppId = AppId(7);

/// Simulated sockets: each has room for so many bytes.
#[derive(Debug, Default)]
pub(super) struct Wires {
    written: HashMap<u32, Vec<u8>>,
    /// Room that is left; absent = endless.
    pub(super) room: HashMap<u32, usize>,
    pub(super) busy: HashMap<u32, bool>,
    pub(super) stalled_ms: HashMap<u32, u64>,
    /// Connections without a socket.
    pub(super) gone: HashSet<u32>,
    pub(super) finished: Vec<u32>,
    pub(super) aborted: Vec<u32>,
    /// Places in memory of the shared frames that were sent.
    pub(super) shared: Vec<*const u8>,
}

impl Wires {
    fn admit(&mut self, slot: u32, len: usize, class: Class) -> bool {
        if self.gone.contains(&slot) {
            return false;
        }
        if class.is_control() || class == Class::Page {
            return true;
        }
        match self.room.get_mut(&slot) {
            None => true,
            Some(room) if *room >= len => {
                *room -= len;
                true
            }
            Some(_) => false,
        }
    }
}

impl Outlet for Wires {
    fn share(&mut self, slot: u32, frame: &Bytes, class: Class) -> bool {
        let taken = self.admit(slot, frame.len(), class);
        if taken {
            self.shared.push(frame.as_ptr());
            self.written.entry(slot).or_default().extend_from_slice(frame);
        }
        taken
    }

    fn write(&mut self, slot: u32, len: usize, class: Class, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let taken = self.admit(slot, len, class);
        if taken {
            let buffer = self.written.entry(slot).or_default();
            let before = buffer.len();
            encode(buffer);
            assert_eq!(buffer.len() - before, len, "a frame is as long as was said");
        }
        taken
    }

    fn is_busy(&self, slot: u32) -> bool {
        self.busy.get(&slot).copied().unwrap_or_default()
    }

    fn stalled_ms(&self, slot: u32, _now_ms: u64) -> u64 {
        self.stalled_ms.get(&slot).copied().unwrap_or_default()
    }

    fn finish(&mut self, slot: u32) {
        self.finished.push(slot);
    }

    fn abort(&mut self, slot: u32) {
        self.aborted.push(slot);
    }
}

/// The sessions and everything around them.
pub(super) struct World {
    pub(super) sessions: Sessions,
    pub(super) out: Wires,
    pub(super) now: Now,
}

impl World {
    pub(super) fn new(limits: Limits) -> Self {
        let now = Now { ms: 0, unix_ms: 1_800_000_000_000 };
        Self { sessions: Sessions::new(limits, 0, 42, now), out: Wires::default(), now }
    }

    /// Time passes, a tick at a time.
    pub(super) fn pass(&mut self, ms: u64) {
        let end = self.now.ms + ms;
        while self.now.ms < end {
            let step = crate::wheel::TICK_MS.min(end - self.now.ms);
            self.now.ms += step;
            self.now.unix_ms += step;
            self.sessions.on_tick(self.now, &mut self.out);
        }
    }

    pub(super) fn send(&mut self, slot: u32, frame: impl Into<ClientFrame>) -> bool {
        self.sessions.on_frame(slot, frame.into(), self.now, &mut self.out) == Next::More
    }

    /// A connection that has said Connect.
    pub(super) fn connect(&mut self) -> u32 {
        let slot = self.sessions.open(self.now).unwrap().slot;
        self.send(slot, hello());
        let greeting = self.frames(slot);
        assert!(matches!(greeting[..], [ServerBody::Connected(_)]), "{greeting:?}");
        slot
    }

    /// What has been sent to a connection since the last look.
    pub(super) fn frames(&mut self, slot: u32) -> Vec<ServerBody> {
        let bytes = self.out.written.remove(&slot).unwrap_or_default();
        let mut decoder = ClientDecoder::for_client(1 << 20);
        let mut input = &bytes[..];
        let mut frames = Vec::new();
        while let Some(frame) = decoder.decode(&mut input).unwrap() {
            frames.push(frame.body.unwrap());
        }
        assert!(decoder.is_at_rest(), "whole frames only");
        frames
    }

    pub(super) fn one(&mut self, slot: u32) -> ServerBody {
        let mut frames = self.frames(slot);
        assert_eq!(frames.len(), 1, "{frames:?}");
        frames.remove(0)
    }

    /// Numbers and skips of the pushes that were sent, and nothing else was.
    pub(super) fn pushed(&mut self, slot: u32) -> Vec<(u64, u64)> {
        let push = |frame| match frame {
            ServerBody::Push(Push { seq, skip, .. }) => (seq, skip),
            other => panic!("no push: {other:?}"),
        };
        self.frames(slot).into_iter().map(push).collect()
    }

    /// Numbers of the broadcasts that were sent, and nothing else was.
    pub(super) fn broadcasts(&mut self, slot: u32) -> Vec<u64> {
        let bseq = |frame| match frame {
            ServerBody::Broadcast(Broadcast { bseq, .. }) => bseq,
            other => panic!("no broadcast: {other:?}"),
        };
        self.frames(slot).into_iter().map(bseq).collect()
    }

    pub(super) fn ask_bind(&mut self, slot: u32, number: u32, uid: &str, tags: &[&str]) -> BindAsk {
        self.send(slot, bind(number, uid, tags));
        self.sessions.asks.binds.take(9).pop().expect("the bind was asked for")
    }

    pub(super) fn answer_bind(&mut self, ask: &BindAsk, done: BindDone) {
        let answer =
            BindAnswer { binding: ask.binding, tags: ask.tags.clone(), device: ask.device, result: Ok(done) };
        self.sessions.on_bound(answer, self.now, &mut self.out);
    }

    /// A binding of an empty inbox, epoch 1, at the head of an empty log.
    pub(super) fn bind(&mut self, slot: u32, number: u32, uid: &str, fence: u64) {
        self.bind_with(slot, number, uid, &[], done(fence, 0));
    }

    pub(super) fn bind_with(&mut self, slot: u32, number: u32, uid: &str, tags: &[&str], done: BindDone) {
        let ask = self.ask_bind(slot, number, uid, tags);
        self.answer_bind(&ask, done);
        let answer = self.frames(slot);
        assert!(matches!(answer[..], [ServerBody::Bound(_)]), "{answer:?}");
    }

    pub(super) fn deliver(&mut self, item: &DeliveryItem) -> crate::exchange::Delivery {
        self.sessions.deliver(item, &mut self.out)
    }

    pub(super) fn load_ask(&mut self) -> Option<LoadAsk> {
        let mut asks = self.sessions.asks.loads.take(9);
        assert!(asks.len() < 2, "one load at a time");
        asks.pop()
    }

    pub(super) fn answer_load(&mut self, ask: &LoadAsk, result: Option<LoadDone>) {
        self.sessions.on_loaded(LoadAnswer { binding: ask.binding, result }, &mut self.out);
    }

    /// Fan-out until nothing is left to do.
    pub(super) fn work(&mut self) {
        for _ in 0..10_000 {
            if !self.sessions.work(self.now, &mut self.out) {
                return;
            }
        }
        panic!("the work never ends");
    }
}

pub(super) fn hello() -> Connect {
    Connect { device: "d".into(), version: 1, heartbeat_s: 60, ..Connect::default() }
}

pub(super) fn bind(binding: u32, uid: &str, tags: &[&str]) -> Bind {
    Bind {
        binding,
        app: "demo".into(),
        uid: uid.into(),
        token: "t".into(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        inbox: None,
        broadcasts: None,
        ..Default::default()
    }
}

pub(super) fn uid(uid: &str) -> Uid {
    Uid::new(uid).unwrap()
}

pub(super) fn position(epoch: u64, seq: u64) -> Position {
    Position { epoch: Epoch(epoch), seq: Seq(seq) }
}

pub(super) fn cursor(epoch: u64, bseq: u64) -> Cursor {
    Cursor { epoch: Epoch(epoch), bseq: bseq.into() }
}

/// A bind of an empty inbox at (1, 0), and of a log whose head is `head`.
pub(super) fn done(fence: u64, head: u64) -> BindDone {
    BindDone {
        app: APP,
        fence: fence.into(),
        inbox: page((1, 0), &[], 0),
        cursor: cursor(1, head),
        saved_cursor: cursor(1, head),
        owed: Vec::new(),
        log: cursor(1, head),
        kicked: None,
        reload: false,
    }
}

pub(super) fn page((epoch, seq): (u64, u64), seqs: &[u64], through: u64) -> LoadDone {
    let message = |seq: &u64| StoredMessage {
        seq: *seq,
        id: MessageId(100 + seq),
        payload: Bytes::from_static(b"hello"),
        accepted_ms: 1,
        collapse_key: "".into(),
    };
    LoadDone {
        start: position(epoch, seq),
        messages: seqs.iter().map(message).collect(),
        through,
        more: false,
    }
}

pub(super) fn item(uid: &str, epoch: u64, seq: u64) -> DeliveryItem {
    DeliveryItem {
        app: APP,
        uid: Uid::new(uid).unwrap(),
        fence: None,
        epoch,
        seq,
        id: MessageId(100 + seq),
        payload: Some(Bytes::from_static(b"hello")),
        accepted_ms: 1,
        collapse_key: "".into(),
        urgent: false,
    }
}

pub(super) fn nudge(uid: &str, epoch: u64, seq: u64) -> DeliveryItem {
    DeliveryItem { payload: None, ..item(uid, epoch, seq) }
}

pub(super) fn ack(binding: u32, seq: u64, bseq: u64) -> Ack {
    Ack { binding, seq, bseq, ..Ack::default() }
}

pub(super) fn place(epoch: u64, seq: u64) -> Option<InboxPosition> {
    Some(InboxPosition { epoch, seq })
}

pub(super) fn entry(bseq: u64, audience: &str) -> std::sync::Arc<LogEntry> {
    let frame = Broadcast { app: APP.0, bseq, id: 1_000 + bseq, ..Broadcast::default() };
    let frame = encode_server_frame(&ServerFrame::from(frame));
    LogEntry::whole(bseq, MessageId(1_000 + bseq), frame, audience.parse().unwrap(), 0).into()
}

/// A run of the log with the given (number, audience)s.
pub(super) fn run(after: u64, through: u64, entries: &[(u64, &str)]) -> LogRun {
    let entries = entries.iter().map(|(bseq, audience)| entry(*bseq, audience)).collect();
    LogRun { app: APP, epoch: 1, after, through, entries }
}
