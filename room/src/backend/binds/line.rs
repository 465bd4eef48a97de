//! The binds of one thread, on their way together.

use std::{collections::VecDeque, sync::atomic::Ordering, time::Duration};

use cluster::NodeId;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use peers::First;
use proto::internal as rpc;
use wire::id::FenceNumber;

use super::{
    Settled,
    alone::{Alone, go_alone, not_entered},
    begin::{Begun, Entered, Start, begin, given_up},
    lanes::Lanes,
    read::{load_item, place, wanted},
};
use crate::{
    backend::{ANSWERS, Backend, Services, broadcasts::credits::has_to_settle},
    event_loop::Thread,
    exchange::BindAsk,
};

/// Binds of one call. A call takes some hundred microseconds, and an item in it one or two.
const CALL: usize = 256;

/// A thread holds binds back for so many times what they take, so that more of them share a call: what a call costs beside its
/// items is spread, and a cluster of many rooms with a few binds each is not kept busy with calls.
const GATHER: u32 = 2;
/// But not for longer than this, which a device does not notice where binds take a quarter of a second.
const GATHER_MOST: Duration = Duration::from_millis(500);

/// What has been answered.
pub(super) enum Landed<'a> {
    Registers(Option<NodeId>, Vec<(Begun<'a>, First<u64>)>),
    Savers(Option<NodeId>, Vec<(Entered<'a>, First<rpc::LoadResult>)>),
    Alone(Box<Settled>),
}

/// The binds of one thread.
pub(super) struct Line<'a, S> {
    backend: &'a Backend<S>,
    thread: &'a Thread,
    pub(super) flights: FuturesUnordered<BoxFuture<'a, Landed<'a>>>,
    /// Handed over and not begun, because as many as may be are under way; at most one hand-over.
    later: VecDeque<BindAsk>,
    registers: Lanes<Begun<'a>>,
    savers: Lanes<Entered<'a>>,
    under_way: usize,
    settled: Vec<Settled>,
}

impl<'a, S: Services> Line<'a, S> {
    pub(super) fn new(backend: &'a Backend<S>, thread: &'a Thread) -> Self {
        Self {
            backend,
            thread,
            flights: FuturesUnordered::new(),
            later: VecDeque::new(),
            registers: Lanes::new(CALL),
            savers: Lanes::new(CALL),
            under_way: 0,
            settled: Vec::new(),
        }
    }

    /// Whether nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way == 0 && self.later.is_empty()
    }

    /// Whether more may be begun.
    pub(super) fn has_room(&self) -> bool {
        self.later.is_empty() && self.under_way < self.most()
    }

    /// Whether there is something to begin now.
    pub(super) fn can_begin(&self) -> bool {
        !self.later.is_empty() && self.under_way < self.most()
    }

    fn most(&self) -> usize {
        self.backend.limits.binds.max(1)
    }

    pub(super) fn take_asks(&mut self, asks: Vec<BindAsk>) {
        self.later.extend(asks);
    }

    /// The answers that are ready.
    pub(super) fn take_settled(&mut self) -> Vec<Settled> {
        self.under_way -= self.settled.len();
        std::mem::take(&mut self.settled)
    }

    /// Does what can be done without waiting.
    pub(super) fn go_on(&mut self) {
        // What has been answered by now shares the calls that follow.
        while self.settled.len() < ANSWERS
            && let Some(Some(landed)) = self.flights.next().now_or_never()
        {
            self.take_landed(landed);
        }
        let now_ms = cluster::now_ms();
        while self.under_way < self.most()
            && let Some(ask) = self.later.pop_front()
        {
            self.under_way += 1;
            if self.has_gone(&ask) {
                self.settled.push(given_up(ask));
                continue;
            }
            match begin(self.backend, ask, now_ms) {
                Start::Begun(begun) => {
                    let owner = self.backend.services.register_of(begun.app.0, &begun.ask.uid);
                    self.registers.push(owner, begun);
                }
                Start::Alone(ask) => self.go_alone(Alone::Ask(ask)),
                Start::Settled(settled) => self.settled.push(settled),
            }
        }
        // An empty queue of a storm that is over keeps nothing.
        if self.later.is_empty() && self.later.capacity() > CALL {
            self.later = VecDeque::new();
        }
        self.call_registers();
        self.call_savers();
    }

    fn call_registers(&mut self) {
        let backend = self.backend;
        while let Some((owner, mut begun)) = self.registers.due() {
            // They may have waited long for a register that stood still.
            let is_gone = |begun: &mut Begun<'_>| self.has_gone(&begun.ask);
            let gone: Vec<_> = begun.extract_if(.., is_gone).map(Begun::given_up).collect();
            self.settled.extend(gone);
            if begun.is_empty() {
                self.registers.landed(owner);
                continue;
            }
            let call = async move {
                let (room, life) = (backend.identity.node, backend.identity.life());
                let items = begun.iter().map(|begun| begun.item(room, life)).collect();
                let firsts = backend.services.bind_all(items).await;
                Landed::Registers(owner, begun.into_iter().zip(firsts).collect())
            };
            self.flights.push(call.boxed());
        }
    }

    fn has_gone(&self, ask: &BindAsk) -> bool {
        self.thread.status().given_up.has(ask.binding)
    }

    fn call_savers(&mut self) {
        let backend = self.backend;
        while let Some((owner, entered)) = self.savers.due() {
            let call = async move {
                let item =
                    |entered: &Entered<'_>| load_item(&backend.limits, entered.begun.app, &entered.begun.ask);
                let firsts = backend.services.load_all(entered.iter().map(item).collect()).await;
                Landed::Savers(owner, entered.into_iter().zip(firsts).collect())
            };
            self.flights.push(call.boxed());
        }
    }

    pub(super) fn take_landed(&mut self, landed: Landed<'a>) {
        match landed {
            Landed::Alone(settled) => self.settled.push(*settled),
            Landed::Registers(owner, binds) => {
                self.registers.landed(owner);
                for (begun, first) in binds {
                    match first {
                        First::Done(fence) => {
                            let owner = self.backend.services.saver_of(begun.app.0, &begun.ask.uid);
                            self.savers.push(owner, Entered { begun, fence: FenceNumber(fence) });
                        }
                        First::Failed(error) => {
                            self.settled.push(not_entered(self.backend, begun, &error, false));
                        }
                        First::Again(again) => self.go_alone(Alone::Register(begun, again)),
                    }
                }
            }
            Landed::Savers(owner, binds) => {
                self.savers.landed(owner);
                self.set_pace(&binds);
                for (entered, first) in binds {
                    match first {
                        First::Done(result) => self.read(entered, result),
                        First::Failed(error) => self.go_alone(Alone::GiveBack(entered, error)),
                        First::Again(again) => self.go_alone(Alone::Load(entered, again)),
                    }
                }
            }
        }
    }

    fn read(&mut self, entered: Entered<'a>, result: rpc::LoadResult) {
        let Begun { ask, app, .. } = &entered.begun;
        let Some(log) = self.backend.broadcasts.known_head(*app, wanted(ask)) else {
            return self.go_alone(Alone::Head(entered, result));
        };
        match place(result, log, ask) {
            // Somebody has to be told of what is in between, or of what is over.
            Ok(read) if has_to_settle(self.backend, *app, ask, &read.stand()) => {
                self.go_alone(Alone::Settle(entered, read));
            }
            Ok(read) => self.settled.push(entered.done(read, Vec::new())),
            Err(error) => self.go_alone(Alone::GiveBack(entered, error)),
        }
    }

    fn go_alone(&mut self, alone: Alone<'a>) {
        let backend = self.backend;
        let gone = &self.thread.status().given_up;
        let alone = async move { Landed::Alone(Box::new(go_alone(backend, alone, gone).await)) };
        self.flights.push(alone.boxed());
    }

    /// Says for how long the thread is to let binds gather.
    fn set_pace(&self, binds: &[(Entered<'_>, First<rpc::LoadResult>)]) {
        let Some((first, _)) = binds.first() else { return };
        let wait = (first.begun.since().elapsed() * GATHER).min(GATHER_MOST);
        self.thread.status().binds_gather_ms.store(wait.as_millis() as u32, Ordering::Relaxed);
    }
}
