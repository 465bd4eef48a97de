//! The parts of a turn that are not about one socket.

use std::{
    io,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use mio::Events;
use tokio::sync::mpsc::error::TryRecvError;

use super::{Counts, Entries, EventLoop, Order, outbox::Outbox};
use crate::{clock::Now, wheel::TICK_MS};

/// Orders are followed for so long before the sockets have their turn.
const ORDER_TIME: Duration = Duration::from_millis(2);
/// Connections with something to write at which further orders wait for the next turn: orders are followed much faster than
/// they are written out. A write takes about 7 µs, so these are 4 ms.
const STAGED: usize = 512;
/// While something could not be handed over, or a drain is under way, the loop looks again after this.
const SOON: Duration = Duration::from_millis(10);

impl EventLoop {
    /// Sleeps until something happens.
    pub(super) fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let now_ms = self.clock.now().ms;
        let timeout = if self.has_work(now_ms) {
            Duration::ZERO
        } else if self.soon {
            SOON
        } else {
            let tick_ms = TICK_MS - now_ms % TICK_MS;
            let due_ms = self.binds_due_ms.map_or(tick_ms, |due_ms| due_ms.saturating_sub(now_ms));
            Duration::from_millis(tick_ms.min(due_ms))
        };
        self.bell.asleep.store(true, Ordering::SeqCst);
        // Whoever gave an order before the line above did not ring.
        let idle = self.orders.is_empty() && self.later.is_empty();
        let timeout = if idle { timeout } else { Duration::ZERO };
        let result = self.poll.poll(events, Some(timeout));
        self.bell.asleep.store(false, Ordering::SeqCst);
        match result {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    fn has_work(&self, now_ms: u64) -> bool {
        self.more
            || !self.deliveries.is_empty()
            || !self.unread.is_empty()
            || !self.shaking.is_empty()
            || self.outbox.has_drained()
            || self.listener.as_ref().is_some_and(|listener| listener.is_ready(now_ms))
    }

    /// Orders, fan-out, timers; then everything out. `false`: the loop ends.
    pub(super) fn turn(&mut self, now: Now) -> bool {
        self.follow_orders(now);
        for slot in self.outbox.take_drained() {
            self.sessions.on_drained(slot, &mut self.outbox);
        }
        self.more = self.sessions.work(now, &mut self.outbox);
        self.more |= self.sessions.end_some(now, &mut self.outbox);
        if now.ms / TICK_MS > self.tick_ms / TICK_MS {
            self.tick_ms = now.ms;
            self.sessions.on_tick(now, &mut self.outbox);
            self.gate.admission.sweep(Instant::now());
            self.publish();
        }
        let draining = self.sessions.is_draining();
        if draining {
            self.more |= self.sessions.drain_step(now, &mut self.outbox);
        }
        self.outbox.flush();
        for slot in self.outbox.take_dead() {
            self.close(slot, now);
        }
        let left = self.hand_over(now.ms);
        self.soon = left || draining || self.stop.is_some();
        let at_rest = self.sessions.is_at_rest() && self.deliveries.is_empty();
        self.status.connections.store(self.sessions.connections() as u64, Ordering::Relaxed);
        self.status.ghosts.store(self.sessions.ghosts() as u64, Ordering::Relaxed);
        self.status.bindings.store(self.sessions.live() as u64, Ordering::Relaxed);
        self.status.waiting_bytes.store(self.outbox.waiting() as u64, Ordering::Relaxed);
        self.status.at_rest.store(at_rest, Ordering::Relaxed);
        let ends = self.stop.is_some_and(|now| now || at_rest);
        if ends {
            self.publish();
        }
        !ends
    }

    /// Hands asks to the tokio side. `true`: something found no place.
    fn hand_over(&mut self, now_ms: u64) -> bool {
        let binds = self.sessions.asks.binds.len();
        self.binds_due_ms = self.gathering.until(binds, now_ms).filter(|_| !self.sessions.is_draining());
        let due = self.binds_due_ms.is_none();
        let left = self.asks.hand_over(&mut self.sessions, due);
        if due && binds > 0 {
            self.gathering.handed_over(now_ms, self.status.binds_gather_ms.load(Ordering::Relaxed));
        }
        left
    }

    fn publish(&self) {
        self.status.publish(Counts {
            tally: self.sessions.tally().clone(),
            writes: self.outbox.writes,
            written_bytes: self.outbox.bytes,
            slow_shed: self.outbox.shed,
            replaced: self.outbox.replaced,
            partial_shed: self.partial_shed,
            entries: Entries { lines: self.outbox.lines.clone(), ..self.entries.clone() },
            accept_pauses: self.gate.pauses,
        });
    }

    fn follow_orders(&mut self, now: Now) {
        let began = Instant::now();
        let late = |outbox: &Outbox| began.elapsed() > ORDER_TIME || outbox.staged() >= STAGED;
        // Batches of messages are only noted here, so an urgent one is found whatever lies before it.
        while !self.deliveries.is_full() && !late(&self.outbox) {
            match self.orders.try_recv() {
                Ok(order) => self.follow(order, now),
                Err(TryRecvError::Empty) => break,
                // Nobody can give orders any more: the room is gone.
                Err(TryRecvError::Disconnected) => {
                    self.stop = Some(true);
                    return;
                }
            }
        }
        self.deliveries.work(&mut self.sessions, &mut self.outbox, late);
        // One at least, so that messages without end do not hold up broadcasts for ever.
        while let Ok(order) = self.later.try_recv() {
            self.follow(order, now);
            if late(&self.outbox) {
                return;
            }
        }
    }

    /// Answers go to callers that may have given up; that is theirs to decide, so a lost answer is no error.
    fn follow(&mut self, order: Order, now: Now) {
        let Self { sessions, outbox, .. } = self;
        match order {
            Order::Adopt(arrival) => self.arrive(*arrival, now),
            Order::Bound(answers) => {
                for answer in answers {
                    sessions.on_bound(answer, now, outbox);
                }
            }
            Order::Loaded(answers) => {
                for answer in answers {
                    sessions.on_loaded(answer, outbox);
                }
            }
            Order::Ups(answers) => {
                for answer in answers {
                    sessions.on_up_answer(answer, outbox);
                }
            }
            Order::Log(run) => sessions.on_log(&run, false),
            Order::Page(run) => sessions.on_log(&run, true),
            Order::PageFailed(app) => sessions.on_page_failed(app),
            Order::Deliver(items, reply) => {
                self.deliveries.push(items, reply);
            }
            Order::Kick(orders, reply) => {
                let _ = reply.send(orders.iter().map(|order| sessions.kick(order, outbox)).collect());
            }
            Order::RecallUsers(app, id, uids, reply) => {
                let told = uids.iter().filter(|uid| sessions.recall(app, uid, id, outbox)).count();
                let _ = reply.send(told as u64);
            }
            Order::RecallBroadcast(app, id, frame, reply) => {
                let _ = reply.send(sessions.recall_broadcast(app, id, frame));
            }
            Order::Progress(ids, place, reply) => {
                let told = ids.iter().map(|id| sessions.progress(*id)).collect();
                let behind = place.is_some_and(|(app, place)| sessions.is_behind(app, place));
                let _ = reply.send((told, behind));
            }
            Order::Count(app, meant, reply) => {
                let _ = reply.send(sessions.count(app, &meant));
            }
            Order::Kept(answers) => answers.into_iter().for_each(|answer| sessions.on_kept(answer)),
            Order::Held(from, max, reply) => {
                let _ = reply.send(sessions.held(from, max));
            }
            Order::Over(told, reply) => {
                let _ = reply.send(sessions.over(&told));
            }
            Order::WebSocket(door) => self.doors.websocket = door.map(|door| *door),
            Order::Limits(limits) => sessions.set_limits(&limits),
            Order::Drain(order) => {
                self.listener = None;
                sessions.start_drain(order, now);
            }
            Order::CloseAll => sessions.close_all(now, outbox),
            Order::Stop { now } => {
                self.listener = None;
                self.stop = Some(now);
            }
        }
    }
}
