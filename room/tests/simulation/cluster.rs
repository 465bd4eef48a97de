//! The rest of the room and the cluster: answers come late, in any order, twice, or not at all.

use std::collections::{HashSet, VecDeque};

use room::exchange::{
    AckAsk, BindAnswer, BindAsk, BindDone, BindRefusal, Credit, Delivery, DeliveryItem, EndAsk, KeepAnswer,
    KeepAsk, KickOrder, KickWhy, LoadAnswer, LoadAsk, PageAsk, UpAnswer, UpAsk,
};
use wire::{
    frame::{BindCode, UpCode},
    id::{AppId, Cursor, FenceNumber, MessageId, Uid},
};

use super::{
    inbox::{self, Entry, Inbox},
    world::{Event, Life, World},
};

/// A cursor that counts nothing waits so long for company on its way into the archive.
const UNWRITTEN_MS: u64 = 500;

/// A bind on its way through the register and the saver.
#[derive(Debug)]
pub(crate) struct Bind {
    life: Life,
    ask: BindAsk,
    user: usize,
    fence: FenceNumber,
    done: Option<Box<BindDone>>,
}

impl Bind {
    pub(crate) fn new(life: Life, ask: BindAsk) -> Self {
        Self { life, ask, user: 0, fence: FenceNumber(0), done: None }
    }
}

/// Binds of one user in one room: one at a time, and what comes for the user meanwhile is noted.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    waiting: VecDeque<Bind>,
    binds: usize,
    kick: Option<(FenceNumber, KickWhy)>,
    reload: bool,
}

/// A user as the register and the saver have it.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) app: usize,
    pub(crate) uid: Uid,
    pub(crate) inbox: Inbox,
    pub(crate) cursor: Option<Cursor>,
    /// When it was last moved by one that counted nothing, and from where: as long as that is not written down.
    unwritten: Option<(u64, Option<Cursor>)>,
    /// Where it was at first, and what was counted of broadcasts since: number, id, what became of it.
    pub(crate) began: u64,
    pub(crate) counted: Vec<Credit>,
    pub(crate) session: Option<(FenceNumber, Life)>,
    pending: Vec<Pending>,
    /// Stored at any time.
    pub(crate) pushed: Vec<u64>,
    pub(crate) expired: HashSet<u64>,
    /// Handed to an app on any device.
    pub(crate) seen: HashSet<u64>,
}

impl User {
    pub(crate) fn new(app: usize, uid: &str, rooms: usize) -> Self {
        Self {
            app,
            uid: Uid::new(uid).unwrap(),
            inbox: Inbox::new(),
            cursor: None,
            unwritten: None,
            began: 0,
            counted: Vec::new(),
            session: None,
            pending: (0..rooms).map(|_| Pending::default()).collect(),
            pushed: Vec::new(),
            expired: HashSet::new(),
            seen: HashSet::new(),
        }
    }

    pub(crate) fn forget(&mut self, room: usize) {
        self.pending[room] = Pending::default();
    }

    /// The archive keeps a cursor that is further, and counts what comes with it.
    fn keep(&mut self, cursor: Cursor, credits: &[Credit], now: u64) {
        let kept = self.cursor.map_or(0, |kept| kept.bseq.0);
        self.counted.extend(credits.iter().filter(|credit| credit.bseq > kept));
        if !credits.is_empty() {
            self.unwritten = None;
        } else if cursor.bseq.0 > kept {
            let before = self.unwritten.map_or(self.cursor, |(_, before)| before);
            self.unwritten = Some((now, before));
        }
        if cursor.bseq.0 > kept {
            self.cursor = Some(cursor);
        }
    }

    /// The saver has died.
    pub(crate) fn forget_unwritten(&mut self, now: u64) {
        if let Some((_, before)) = self.unwritten.take().filter(|(at, _)| now < at + UNWRITTEN_MS) {
            self.cursor = before;
        }
    }

    fn ack(&mut self, at: wire::id::Position) {
        for id in self.inbox.ack(at) {
            assert!(self.seen.contains(&id), "{id} of {} is acked and was never handed out", self.uid);
        }
    }
}

impl World {
    pub(crate) fn cluster(&mut self, event: Event) {
        match event {
            Event::Register(bind) => self.register(bind),
            Event::Open(bind) => self.open(bind),
            Event::Bound(bind) => self.bound(bind),
            Event::Load(life, ask) => self.load(life, &ask),
            Event::Loaded(life, answer) => {
                self.order(life, |sessions, wires| sessions.on_loaded(answer, wires));
            }
            Event::Ack(ask) => self.ack(ask),
            Event::End(ask) => self.end(ask),
            Event::Keep(life, ask) => self.keep(life, &ask),
            Event::Kept(life, answer) => {
                self.order(life, |sessions, _| sessions.on_kept(answer));
            }
            Event::Ups(life, ask) => self.up(life, &ask),
            Event::UpsDone(life, answer) => {
                self.order(life, |sessions, wires| sessions.on_up_answer(answer, wires));
            }
            Event::Page(life, ask) => self.page(life, ask),
            Event::Run(life, run, asked) => {
                self.order(life, |sessions, _| sessions.on_log(&run, asked));
            }
            Event::PageFailed(life, app) => {
                self.order(life, |sessions, _| sessions.on_page_failed(app));
            }
            Event::LookUp(user, item) => self.look_up(user, item),
            Event::Deliver(life, item) => self.deliver(life, &item),
            Event::Kick(life, order) => self.kick(life, &order),
            Event::Unbind(user, fence) => {
                self.users[user].session.take_if(|(held, _)| *held == fence);
            }
            Event::Purge(life) => {
                for user in &mut self.users {
                    user.session.take_if(|(_, held)| *held == life);
                }
            }
            Event::Sweep => self.sweep(),
            Event::Poll => self.poll(),
            _ => {}
        }
    }

    fn user(&self, app: AppId, uid: &Uid) -> usize {
        let is = |user: &User| user.app == app.0 as usize - 1 && user.uid == *uid;
        self.users.iter().position(is).expect("only these users exist")
    }

    /// A bind begins; binds of one user go one after the other.
    pub(crate) fn enter(&mut self, mut bind: Bind) {
        let app: u32 = bind.ask.app.trim_start_matches("app").parse().expect("the apps are numbered");
        bind.user = self.user(AppId(app), &bind.ask.uid);
        let pending = &mut self.users[bind.user].pending[bind.life.room];
        pending.binds += 1;
        if pending.binds == 1 {
            self.soon(Event::Register(bind));
        } else {
            pending.waiting.push_back(bind);
        }
    }

    fn leave(&mut self, user: usize, life: Life) {
        let pending = &mut self.users[user].pending[life.room];
        pending.binds -= 1;
        match pending.waiting.pop_front() {
            Some(next) => self.soon(Event::Register(next)),
            None => *pending = Pending::default(),
        }
    }

    fn register(&mut self, mut bind: Bind) {
        if !self.is_alive(bind.life) {
            return;
        }
        if self.chance(self.weather.fail) {
            return self.refuse(bind);
        }
        self.fence += 1;
        bind.fence = FenceNumber(self.fence);
        let user = &mut self.users[bind.user];
        if let Some((fence, life)) = user.session.replace((bind.fence, bind.life)) {
            let (app, uid) = (AppId(user.app as u32 + 1), user.uid.clone());
            self.soon(Event::Kick(life, KickOrder { app, uid, fence, why: KickWhy::Replaced }));
        }
        self.soon(Event::Open(bind));
    }

    fn refuse(&mut self, bind: Bind) {
        self.leave(bind.user, bind.life);
        let result = Err(BindRefusal { code: BindCode::Busy, message: "busy".to_owned(), retry_after_ms: 0 });
        let answer =
            BindAnswer { binding: bind.ask.binding, tags: bind.ask.tags, device: bind.ask.device, result };
        let now = self.clock();
        self.order(bind.life, |sessions, wires| sessions.on_bound(answer, now, wires));
    }

    /// The inbox is read, after the register knows.
    fn open(&mut self, mut bind: Bind) {
        if !self.is_alive(bind.life) {
            return;
        }
        if self.chance(self.weather.fail) {
            self.soon(Event::Unbind(bind.user, bind.fence));
            return self.refuse(bind);
        }
        let page = self.weather.page;
        let told = !self.chance(self.weather.fail);
        let meant = self.logs[self.users[bind.user].app].meant_for(&bind.ask.uid, &bind.ask.tags);
        let (now, unix_ms) = (self.now, self.clock().unix_ms);
        let user = &mut self.users[bind.user];
        if let Some(at) = bind.ask.inbox.filter(|at| at.epoch.0 <= user.inbox.epoch) {
            user.ack(at);
        }
        let inbox = user.inbox.load(bind.ask.inbox, page);
        let log = &mut self.logs[user.app];
        let kept = &mut log.kept[bind.life.room];
        let wanted = bind.ask.broadcasts.map_or(0, |at| at.bseq.0);
        let head = kept.filter(|kept| *kept >= wanted).unwrap_or(log.head);
        *kept = Some(kept.unwrap_or(head));
        // Whoever is seen for the first time begins at the head.
        let newest = log.cursor(log.head);
        let log = log.cursor(head);
        let saved = *user.cursor.get_or_insert_with(|| {
            user.began = newest.bseq.0;
            newest
        });
        let own = bind.ask.broadcasts.filter(|own| own.epoch == log.epoch && own.bseq >= saved.bseq);
        let own = own.filter(|own| own.bseq <= log.bseq);
        // What the device has and the saver did not know of, and what is over behind it; it cannot always be told.
        let mut cursor = own.unwrap_or(saved);
        let mut owed = meant.acked(saved, cursor);
        owed.extend(meant.over(cursor, log, unix_ms));
        cursor.bseq = owed.last().map_or(cursor.bseq, |last| cursor.bseq.max(last.bseq.into()));
        let told = told && !owed.is_empty();
        if told {
            user.keep(cursor, &owed, now);
        }
        bind.done = Some(Box::new(BindDone {
            app: AppId(user.app as u32 + 1),
            fence: bind.fence,
            inbox,
            cursor,
            saved_cursor: if told { cursor } else { saved },
            owed: if told { Vec::new() } else { owed },
            log,
            kicked: None,
            reload: false,
        }));
        self.soon(Event::Bound(bind));
    }

    fn bound(&mut self, bind: Bind) {
        let Some(mut done) = bind.done.filter(|_| self.rooms[bind.life.room].life == bind.life) else {
            return;
        };
        let pending = &self.users[bind.user].pending[bind.life.room];
        done.kicked = pending.kick.filter(|(newest, _)| bind.fence <= *newest).map(|(_, why)| why);
        done.reload = pending.reload;
        self.leave(bind.user, bind.life);
        let answer = BindAnswer {
            binding: bind.ask.binding,
            tags: bind.ask.tags,
            device: bind.ask.device,
            result: Ok(*done),
        };
        let now = self.clock();
        self.order(bind.life, |sessions, wires| sessions.on_bound(answer, now, wires));
    }

    fn load(&mut self, life: Life, ask: &LoadAsk) {
        let user = self.user(ask.app, &ask.uid);
        let failed = self.chance(self.weather.fail);
        let result = (!failed).then(|| self.users[user].inbox.load(Some(ask.after), self.weather.page));
        self.soon(Event::Loaded(life, LoadAnswer { binding: ask.binding, result }));
    }

    fn ack(&mut self, ask: AckAsk) {
        if self.chance(self.weather.fail) {
            return self.soon(Event::Ack(ask));
        }
        let user = self.user(ask.app, &ask.uid);
        self.users[user].ack(ask.inbox);
    }

    fn end(&mut self, mut ask: EndAsk) {
        if self.chance(self.weather.fail) {
            return self.soon(Event::End(ask));
        }
        let (number, now) = (self.user(ask.app, &ask.uid), self.now);
        let user = &mut self.users[number];
        if let Some(inbox) = ask.inbox.take() {
            user.ack(inbox);
        }
        if let Some(cursor) = ask.cursor.take() {
            user.keep(cursor, &ask.credits, now);
        }
        self.soon(Event::Unbind(number, ask.fence));
    }

    fn keep(&mut self, life: Life, ask: &KeepAsk) {
        let number = self.user(ask.app, &ask.uid);
        let mut kept = None;
        // It may be done and nobody hears of it.
        if !self.chance(self.weather.fail) {
            self.users[number].keep(ask.cursor, &ask.credits, self.now);
            kept = (!self.chance(self.weather.fail)).then_some(ask.cursor);
            self.untold |= kept.is_none();
        }
        self.soon(Event::Kept(life, KeepAnswer { binding: ask.binding, kept }));
    }

    fn up(&mut self, life: Life, ask: &UpAsk) {
        let code = if self.chance(self.weather.fail) { UpCode::Retry } else { UpCode::Ok };
        if code == UpCode::Ok {
            self.taken.insert((self.user(ask.app, &ask.uid), ask.reference));
        }
        let (reference, bytes) = (ask.reference, ask.payload.len());
        let answer = UpAnswer { conn: ask.conn, reference, code, retry_after_ms: 10, bytes };
        self.soon(Event::UpsDone(life, answer));
    }

    fn page(&mut self, life: Life, ask: PageAsk) {
        if self.chance(self.weather.fail) {
            return self.soon(Event::PageFailed(life, ask.app));
        }
        let run = self.logs[ask.app.0 as usize - 1].run(ask.after, self.weather.page);
        self.soon(Event::Run(life, run, true));
    }

    /// What the center does after it has stored a message: looks the user up, and tells the room.
    pub(crate) fn tell_of(&mut self, user: usize, entry: Entry, nudge: bool) {
        let item = DeliveryItem {
            app: AppId(self.users[user].app as u32 + 1),
            uid: self.users[user].uid.clone(),
            fence: None,
            epoch: self.users[user].inbox.epoch,
            seq: entry.seq,
            id: MessageId(entry.id),
            payload: (!nudge).then(|| inbox::payload(entry.id)),
            accepted_ms: 1,
            collapse_key: "".into(),
            urgent: entry.seq.is_multiple_of(3),
        };
        if self.chance(self.weather.double) {
            self.soon(Event::LookUp(user, item.clone()));
        }
        self.soon(Event::LookUp(user, item));
    }

    fn look_up(&mut self, user: usize, mut item: DeliveryItem) {
        let Some((fence, life)) = self.users[user].session else { return };
        item.fence = Some(fence);
        if !self.chance(self.weather.lose) {
            self.soon(Event::Deliver(life, item));
        }
    }

    fn deliver(&mut self, life: Life, item: &DeliveryItem) {
        let delivered = self.order(life, |sessions, wires| sessions.deliver(item, wires));
        let Some(Delivery::NotHere) = delivered else { return };
        let user = self.user(item.app, &item.uid);
        let pending = &mut self.users[user].pending[life.room];
        if pending.binds > 0 {
            pending.reload = true;
        } else if let Some(fence) = item.fence {
            // Whoever sent it believes that the session is here; nobody holds it.
            self.soon(Event::Unbind(user, fence));
        }
    }

    fn kick(&mut self, life: Life, order: &KickOrder) {
        if !self.is_alive(life) {
            return;
        }
        let user = self.user(order.app, &order.uid);
        let pending = &mut self.users[user].pending[life.room];
        if pending.binds > 0 && pending.kick.is_none_or(|(newest, _)| newest < order.fence) {
            pending.kick = Some((order.fence, order.why));
        }
        self.order(life, |sessions, wires| sessions.kick(order, wires));
    }

    /// Inboxes that wait although their users are online.
    fn sweep(&mut self) {
        self.at(2_000, Event::Sweep);
        for user in 0..self.users.len() {
            let waits = |entry: &&Entry| entry.stored_ms + 2_000 < self.now;
            if let Some(entry) = self.users[user].inbox.entries.iter().rfind(waits).copied() {
                self.tell_of(user, entry, true);
            }
        }
    }

    /// The rooms' keepers look whether a broadcast has passed them by.
    fn poll(&mut self) {
        self.at(2_000, Event::Poll);
        for app in 0..self.logs.len() {
            for room in 0..self.rooms.len() {
                self.keep_up(app, room);
            }
        }
    }

    /// A room's keeper tells its thread what is new in a log.
    pub(crate) fn keep_up(&mut self, app: usize, room: usize) {
        let log = &mut self.logs[app];
        if let Some(after) = log.kept[room].filter(|kept| *kept < log.head) {
            let run = log.run(after, usize::MAX);
            log.kept[room] = Some(run.through);
            let life = self.rooms[room].life;
            if self.chance(self.weather.double) {
                self.soon(Event::Run(life, run.clone(), false));
            }
            self.soon(Event::Run(life, run, false));
        }
    }
}
