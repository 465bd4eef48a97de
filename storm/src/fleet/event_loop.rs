//! One event loop with many devices: a plain `mio` poll, a slab of devices, one read buffer, one wheel of timers.

mod device;
mod dial;
mod measure;
mod router;
mod socket;
mod steer;
mod timers;
mod tls;
mod traffic;
mod unacked;
mod web;
mod wrap;

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, mpsc as blocking},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use client::{
    AckPolicy, Config, Confirm, Moment, Output, Session,
    backoff::{Backoff, Dice},
    session::{BindSpec, Traits},
};
use mio::{Events, Poll, Token, net::TcpStream};
use slab::Slab;
use tokio::sync::mpsc;
use wire::id::{AppKey, Uid};

use self::{device::Device, measure::Measured, router::Router, timers::Timers, wrap::Space};
use super::{
    Command, Commands, FleetSpec, Report, Route, SharedCounts, Tokens,
    line::LineSpec,
    link::{COMMANDS, REPORTS},
};
use crate::{clock::Clock, limits, pacing::Pacer, tokens};

pub(crate) use dial::open;

/// Wakes the loop for commands and answers; beyond every device's number.
const WAKE: Token = Token(usize::MAX);

/// Events taken at once. More would only delay timers; fewer would cost more system calls.
const EVENTS: usize = 1024;

/// One read takes at most this much: what the kernel's default receive buffer holds of small frames.
const READ_BUFFER: usize = 64 * 1024;

/// The shortest time between two polls, as a network card gathers interrupts: a room that sends to device after device would wake
/// this thread for each, and pay for it, because all the devices are one process here and on one machine with the room. It is in
/// the latencies that are measured, and lengthens none by more than this, or than [`GATHER_MANY`].
const GATHER: Duration = Duration::from_micros(500);
/// The same after a poll that brought at least [`MANY`]: each turn of a worker takes the processor from a room that sends to all.
const GATHER_MANY: Duration = Duration::from_millis(2);
/// Events of one poll that are many.
const MANY: usize = 8;

/// The loop looks around at least this often.
const IDLE: Duration = Duration::from_millis(100);

/// Quicker than the SDK's own: a storm is there to come back, and a judge waits for it.
const BACKOFF: Backoff = Backoff { initial: Duration::from_millis(200), cap: Duration::from_secs(3) };

/// Unicast ids that each device remembers. The judge sees every message, so a device only needs the window that an
/// SDK has by default.
const RECENT_IDS: usize = 64;

/// A running event loop.
pub(crate) struct Started {
    pub(crate) commands: Commands,
    pub(crate) reports: mpsc::Receiver<Report>,
    pub(crate) thread: thread::JoinHandle<anyhow::Result<()>>,
}

/// Starts an event loop on a thread of its own.
pub(crate) fn start(spec: FleetSpec, shared: SharedCounts) -> anyhow::Result<Started> {
    let poll = Poll::new().context("creating the poll")?;
    let waker = Arc::new(mio::Waker::new(poll.registry(), WAKE)?);
    let (queue, commands) = blocking::sync_channel(COMMANDS);
    let (report, reports) = mpsc::channel(REPORTS);
    let cpus = spec.line.cpus.clone();
    let looping = EventLoop::new(spec, poll, &waker, commands, report, shared)?;
    let thread = thread::Builder::new()
        .name("storm-devices".into())
        .spawn(move || {
            limits::pin(&cpus)?;
            looping.run()
        })
        .context("starting a thread")?;
    Ok(Started { commands: Commands { queue, waker }, reports, thread })
}

struct EventLoop {
    spec: FleetSpec,
    config: Arc<Config>,
    app: AppKey,
    minter: Option<tokens::Minter>,
    poll: Poll,
    router: Option<Router>,
    commands: blocking::Receiver<Command>,
    reports: mpsc::Sender<Report>,
    shared: SharedCounts,
    measured: Measured,
    devices: Vec<Device>,
    timers: Timers,
    /// Devices that wait for their turn to connect again.
    ready: VecDeque<u32>,
    ramp: Pacer,
    /// Devices that have had their first turn.
    begun: u32,
    /// Devices that may have had it.
    begin: u32,
    /// When what was measured is handed over next.
    interval_at: Option<Instant>,
    /// Devices between the beginning of a connection and its binding.
    opening: u32,
    churn: Option<Pacer>,
    dice: Dice,
    clock: Clock,
    origin: Instant,
    /// The present moment, read once per turn and once per device that has something to do.
    now: Moment,
    buffer: Box<[u8]>,
    output: Output,
    /// Where bytes pass through transports.
    space: Space,
    /// Present if a transport has TLS.
    tls: Option<tls::Client>,
    /// Sockets of devices that have gone silent; their tokens follow those of the devices.
    silent: Slab<TcpStream>,
    stopping: bool,
}

impl EventLoop {
    fn new(
        spec: FleetSpec,
        poll: Poll,
        waker: &Arc<mio::Waker>,
        commands: blocking::Receiver<Command>,
        reports: mpsc::Sender<Report>,
        shared: SharedCounts,
    ) -> anyhow::Result<Self> {
        let app: AppKey = spec.app.as_str().try_into()?;
        let router = match &spec.route {
            Route::Dispatcher(base) => Some(Router::start(base, waker.clone())?),
            Route::Rooms(rooms) => {
                ensure!(!rooms.is_empty(), "no address of a room");
                None
            }
        };
        let minter = match &spec.tokens {
            Tokens::Secret(secret) => Some(tokens::Minter::new(&app, secret.as_bytes(), tokens::LIFE)),
            Tokens::Ready(ready) => {
                ensure!(ready.len() >= spec.count as usize, "fewer tokens than users");
                None
            }
        };
        let ack = AckPolicy {
            confirm: if spec.line.no_acks { Confirm::ByApp } else { Confirm::Auto },
            max_delay: Duration::from_millis(spec.ack_delay_ms),
            broadcast_delay: Duration::from_millis(spec.broadcast_ack_delay_ms),
            ..AckPolicy::default()
        };
        let config = Arc::new(Config {
            heartbeat: spec.heartbeat_s.map(|s| Duration::from_secs(s.into())),
            sdk: concat!("storm/", env!("CARGO_PKG_VERSION")).into(),
            ack,
            backoff: BACKOFF,
            recent_ids: RECENT_IDS,
            forget_tokens: true,
            ..Config::default()
        });
        let now = Instant::now();
        let mut looping = Self {
            measured: Measured::new(&spec),
            ramp: Pacer::new(now, spec.ramp_per_s),
            dice: Dice::new(spec.seed),
            devices: Vec::with_capacity(spec.count as usize),
            timers: Timers::new(),
            ready: VecDeque::new(),
            begun: 0,
            begin: spec.begin.min(spec.count),
            interval_at: spec.sample_ms.map(|ms| now + Duration::from_millis(ms.into())),
            opening: 0,
            churn: None,
            clock: Clock::start(),
            origin: now,
            now: Moment(0),
            buffer: vec![0; READ_BUFFER].into(),
            output: Output::default(),
            space: Space::default(),
            tls: tls::Client::new(&spec.line)?,
            silent: Slab::new(),
            stopping: false,
            spec,
            config,
            app,
            minter,
            poll,
            router,
            commands,
            reports,
            shared,
        };
        looping.populate()?;
        Ok(looping)
    }

    fn populate(&mut self) -> anyhow::Result<()> {
        let traits = Arc::new(Traits::tags(self.spec.tags.clone()));
        for number in self.spec.first..self.spec.first + self.spec.count {
            // The device is called as its user: one text for both.
            let uid = Uid::new(self.spec.uid(number))?;
            let mut session = Session::new(self.config.clone(), uid.clone().into(), self.dice.roll());
            session.bind(BindSpec {
                app: self.app.clone(),
                uid,
                token: None,
                traits: traits.clone(),
                inbox: None,
                broadcasts: None,
            });
            let mut device = Device::new(session);
            self.measured.slow(&mut device, LineSpec::is_slow(number, self.spec.line.slow));
            self.devices.push(device);
        }
        Ok(())
    }

    fn run(mut self) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let (mut woken, mut pause) = (self.origin, GATHER);
        while !self.stopping {
            // Rare events are taken at once, frequent ones together.
            let awake = woken.elapsed();
            if awake < pause && !self.patience().is_zero() {
                gather(pause - awake);
            }
            let polled = self.poll.poll(&mut events, Some(self.patience()));
            woken = Instant::now();
            match polled {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.context("polling")?,
            }
            self.tick();
            pause = if events.iter().nth(MANY - 1).is_none() { GATHER } else { GATHER_MANY };
            for event in &events {
                if event.token() != WAKE {
                    self.on_event(event.token().0 as u32, event);
                }
            }
            self.take_answers();
            self.fire_timers();
            let now = Instant::now();
            self.open_due(now);
            self.churn_due(now);
            self.take_commands();
            self.shared.store_if_changed(&self.measured.counts);
            self.hand_over(now);
        }
        self.close_all();
        self.shared.store_if_changed(&self.measured.counts);
        Ok(())
    }

    fn tick(&mut self) {
        self.now = self.origin.elapsed().into();
    }

    fn patience(&self) -> Duration {
        let mut wait = IDLE;
        if let Some(at) = self.timers.next_at() {
            wait = wait.min(at.since(self.origin.elapsed().into()));
        }
        let now = Instant::now();
        if self.begun < self.begin && self.opening < self.spec.opening_max {
            wait = wait.min(self.ramp.next_at().saturating_duration_since(now));
        }
        if let Some(churn) = &self.churn {
            wait = wait.min(churn.next_at().saturating_duration_since(now));
        }
        if !self.ready.is_empty() && self.opening < self.spec.opening_max { Duration::ZERO } else { wait }
    }

    fn take_answers(&mut self) {
        while let Some(Ok(answer)) = self.router.as_ref().map(|router| router.answers.try_recv()) {
            self.on_answer(answer);
        }
    }

    fn fire_timers(&mut self) {
        self.tick();
        while let Some((at, index)) = self.timers.pop(self.now) {
            let device = &mut self.devices[index as usize];
            if device.armed == at {
                device.armed = Moment::NEVER;
                if device.deadline() <= self.now {
                    self.on_deadline(index);
                }
                self.arm(index);
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this thread runs no async code")]
fn gather(time: Duration) {
    thread::sleep(time);
}

fn clear(output: &mut Output) {
    output.bytes.clear();
    output.events.clear();
    output.ended = None;
    output.repeats = 0;
}
