//! Many devices, each with one binding, on a thread's sessions without sockets.

#![allow(dead_code, reason = "each of those who use it needs a part")]
#![allow(clippy::unwrap_used, reason = "what cannot go on is to panic")]

use std::sync::Arc;

use audience::Slice;
use bytes::Bytes;
use room::{
    clock::Now,
    exchange::{BindAnswer, BindDone, Body, LoadDone, LogEntry, LogRun, Meant},
    session::{Class, Limits, Outlet, Sessions},
};
use wire::{
    codec::encode_broadcast,
    frame::{Bind, Broadcast, ClientFrame, Connect},
    id::{AppId, Cursor, Epoch, MessageId, Position, Seq, Uid},
};

pub(crate) const APP: AppId = AppId(7);
pub(crate) const NOW: Now = Now { ms: 0, unix_ms: 1_800_000_000_000 };

/// Takes everything and keeps nothing.
#[derive(Debug, Default)]
pub(crate) struct Nowhere {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

impl Outlet for Nowhere {
    fn share(&mut self, _: u32, frame: &Bytes, _: Class) -> bool {
        self.frames += 1;
        self.bytes += frame.len() as u64;
        true
    }

    fn write(&mut self, _: u32, len: usize, _: Class, _: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.frames += 1;
        self.bytes += len as u64;
        true
    }

    fn is_busy(&self, _: u32) -> bool {
        false
    }

    fn stalled_ms(&self, _: u32, _: u64) -> u64 {
        0
    }

    fn finish(&mut self, _: u32) {}

    fn abort(&mut self, _: u32) {}
}

/// As long as real ones are.
pub(crate) fn uid(number: u32) -> Uid {
    Uid::new(format!("user-{number:07}")).unwrap()
}

/// Everyone of an app.
pub(crate) struct Crowd {
    pub(crate) sessions: Sessions,
    pub(crate) out: Nowhere,
    sent: Vec<u32>,
    head: u64,
}

impl Crowd {
    /// So many devices, bound; all have the tag `all`, every second `even`, every third `third`.
    pub(crate) fn new(count: u32) -> Self {
        Self::with(count, true)
    }

    /// Without tags if `tagged` is false.
    pub(crate) fn with(count: u32, tagged: bool) -> Self {
        let limits = Limits { connections: count as usize, bindings: count as usize, ..Limits::default() };
        let sessions = Sessions::new(limits, 0, 1, NOW);
        let mut crowd = Self { sessions, out: Nowhere::default(), sent: vec![0; count as usize], head: 0 };
        (0..count).for_each(|number| crowd.join(number, tagged));
        crowd
    }

    fn join(&mut self, number: u32, tagged: bool) {
        let slot = self.sessions.open(NOW).unwrap().slot;
        assert_eq!(slot, number);
        self.frame(slot, Connect { device: "device".to_owned(), version: 1, ..Connect::default() });
        let tags = [("all", 1), ("even", 2), ("third", 3)]
            .into_iter()
            .filter(|(_, every)| number.is_multiple_of(*every));
        let tags = tags.filter(|_| tagged).map(|(tag, _)| tag.to_owned()).collect();
        let bind = Bind {
            binding: 1,
            app: "demo".to_owned(),
            uid: uid(number).as_str().to_owned(),
            token: "x".repeat(200),
            tags,
            inbox: None,
            broadcasts: None,
            ..Default::default()
        };
        self.frame(slot, bind);
        let ask = self.sessions.asks.binds.take(1).pop().unwrap();
        let place = Cursor { epoch: Epoch(1), bseq: self.head.into() };
        let done = BindDone {
            app: APP,
            fence: u64::from(number).into(),
            inbox: LoadDone { start: Position { epoch: Epoch(1), seq: Seq(0) }, ..LoadDone::default() },
            cursor: place,
            saved_cursor: place,
            owed: Vec::new(),
            log: place,
            kicked: None,
            reload: false,
        };
        let answer =
            BindAnswer { binding: ask.binding, tags: ask.tags, device: ask.device, result: Ok(done) };
        self.sessions.on_bound(answer, NOW, &mut self.out);
    }

    /// A frame of a device.
    pub(crate) fn frame(&mut self, slot: u32, frame: impl Into<ClientFrame>) {
        self.sessions.on_frame(slot, frame.into(), NOW, &mut self.out);
    }

    /// The number of the last message to a device.
    pub(crate) fn sent(&self, number: u32) -> u64 {
        self.sent[number as usize].into()
    }

    /// It was sent one.
    pub(crate) fn note_sent(&mut self, number: u32) {
        self.sent[number as usize] += 1;
    }

    /// A broadcast of 256 bytes is new.
    pub(crate) fn broadcast(&mut self, audience: &str) {
        let (after, bseq) = (self.head, self.head + 1);
        self.head = bseq;
        let frame = Broadcast {
            app: APP.0,
            bseq,
            id: bseq,
            payload: Bytes::from_static(&[7; 256]),
            accepted_ms: NOW.unix_ms,
            binding: 0,
        };
        let audience = audience.parse().unwrap();
        let entry = LogEntry::whole(bseq, MessageId(bseq), encode_broadcast(&frame), audience, 0);
        let run = LogRun { app: APP, epoch: 1, after, through: bseq, entries: vec![Arc::new(entry)] };
        self.sessions.on_log(&run, false);
    }

    /// A slice of a broadcast of 256 bytes is new; the first of a job makes what the others share.
    pub(crate) fn slice(&mut self, id: u64, slice: Slice, meant: &Arc<Meant>) {
        let (after, bseq) = (self.head, self.head + 1);
        self.head = bseq;
        let payload = Bytes::from_static(&[7; 256]);
        let entry = LogEntry {
            bseq,
            id: MessageId(id),
            body: Body::Parts { app: APP, payload, accepted_ms: NOW.unix_ms },
            meant: Arc::clone(meant),
            slice,
            expires_ms: 0,
            recalled: false,
        };
        let run = LogRun { app: APP, epoch: 1, after, through: bseq, entries: vec![Arc::new(entry)] };
        self.sessions.on_log(&run, false);
    }

    /// Fan-out to the end; how many slices it took.
    pub(crate) fn work(&mut self) -> u64 {
        let mut slices = 1;
        while self.sessions.work(NOW, &mut self.out) {
            slices += 1;
        }
        slices
    }
}
