//! The task of a device: does what session and dialer say.

use std::{collections::VecDeque, future::Future, pin::pin, sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use wire::id::BindingId;

use super::{
    BoxError, Command, TokenProvider,
    confirmations::Confirmations,
    line::{LineError, Lines},
};
use crate::{
    config::Config,
    dialer::{Dialer, Step},
    local_time,
    moment::Moment,
    route::Dispatcher,
    session::{BindSpec, Event, Output, Session},
    snapshot::Snapshot,
};

/// How long a network connection may take to stand, with TLS and the upgrade: three retransmissions of a slow mobile
/// network.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the app's backend may take to make a token.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(30);

type TokenAnswer = (BindingId, Result<String, BoxError>);

pub(super) struct Driver {
    pub(super) session: Session,
    pub(super) dialer: Dialer,
    pub(super) lines: Lines,
    config: Arc<Config>,
    dispatcher: Option<Dispatcher>,
    provider: TokenProvider,
    tokens: FuturesUnordered<BoxFuture<'static, TokenAnswer>>,
    saved: Snapshot,
    commands: mpsc::Receiver<Command>,
    app: mpsc::Sender<Event>,
    /// Events that the app has no room for yet: those of one read at most, because none follows meanwhile.
    pub(super) waiting: VecDeque<Event>,
    confirmations: Arc<Confirmations>,
    pub(super) stop: CancellationToken,
    pub(super) out: Output,
    /// What the transport makes of it.
    pub(super) outgoing: Vec<u8>,
    origin: Instant,
}

/// What woke the driver.
pub(super) enum Woken {
    /// The session has to be advanced.
    Advance,
    /// The device is to close.
    Stop,
}

impl Driver {
    pub(super) fn new(
        (session, dialer, lines, config): (Session, Dialer, Lines, Arc<Config>),
        (dispatcher, provider, saved): (Option<Dispatcher>, TokenProvider, Snapshot),
        (commands, app, confirmations): (mpsc::Receiver<Command>, mpsc::Sender<Event>, Arc<Confirmations>),
        stop: CancellationToken,
    ) -> Self {
        Self {
            session,
            dialer,
            lines,
            config,
            dispatcher,
            provider,
            tokens: FuturesUnordered::new(),
            saved,
            commands,
            app,
            waiting: VecDeque::new(),
            confirmations,
            stop,
            out: Output::default(),
            outgoing: Vec::new(),
            origin: Instant::now(),
        }
    }

    /// Runs until the device is closed or may never connect again. The places to keep.
    pub(super) async fn run(mut self) -> Snapshot {
        while self.take_step().await {}
        self.take_confirmations();
        self.snapshot()
    }

    /// Does one step of the dialer; false if it was the last.
    async fn take_step(&mut self) -> bool {
        if !self.session.wants_connection() {
            return self.idle().await;
        }
        match self.dialer.step(self.now()) {
            Step::Stop => {
                self.deliver_waiting().await;
                false
            }
            Step::Wait(until) => {
                let until = self.instant(until);
                self.meanwhile(sleep_until(until)).await.is_some()
            }
            Step::Route { tried } => self.route(tried).await,
            Step::Dial(address) => {
                tracing::debug!(%address, "connecting");
                if self.dialer.last_good() != Some(&address) {
                    self.session.forget_resume();
                }
                // Asked anew each time: a device travels, and clocks are put forward.
                self.session.set_utc_offset(local_time::utc_offset_min());
                let connecting = timeout(CONNECT_TIMEOUT, self.lines.clone().connect(address.clone()));
                let Some(connected) = self.meanwhile(connecting).await else { return false };
                match connected.map_err(|e| std::io::Error::from(e).into()).flatten() {
                    Ok(line) => {
                        self.lines.cookie = line.cookie.clone().map(|cookie| (address, cookie));
                        self.converse(line).await;
                    }
                    Err(error) => {
                        tracing::debug!(%address, %error, "cannot connect");
                        self.refused(&address, &error);
                    }
                }
                !self.stop.is_cancelled()
            }
            // Every step is reported on before the next is asked for.
            Step::Busy => false,
        }
    }

    /// Waits until there is something to connect for; false if the device is to close. A room would end a
    /// connection without a binding.
    async fn idle(&mut self) -> bool {
        while !self.session.wants_connection() {
            self.session.advance(self.now(), &mut self.out);
            self.take_events();
            if matches!(self.served().await, Woken::Stop) {
                return false;
            }
        }
        true
    }

    async fn route(&mut self, tried: Vec<Arc<str>>) -> bool {
        let Some(dispatcher) = self.dispatcher.clone() else { return false };
        let uid = self.session.first_uid().map(ToString::to_string).unwrap_or_default();
        let network = self.config.network;
        let asking = async move { dispatcher.route(&uid, network, &tried).await };
        let Some(answer) = self.meanwhile(asking).await else { return false };
        match answer {
            Ok(route) => {
                let addresses = route.endpoints.into_iter().map(|endpoint| endpoint.address);
                let after = Duration::from_millis(route.connect_after_ms.into());
                self.dialer.routed(addresses, after, self.now());
            }
            Err(error) => {
                tracing::debug!(%error, "no route");
                self.dialer.failed(self.now());
                self.unreachable(format!("no route: {error}"));
            }
        }
        true
    }

    /// There is no connection to this address: the dialer goes on as the room has said, or elsewhere.
    fn refused(&mut self, address: &str, error: &LineError) {
        match error.ending() {
            Some(ending) => self.dialer.ended(&ending, self.now()),
            None => self.dialer.failed(self.now()),
        }
        self.unreachable(format!("{address}: {error}"));
    }

    /// The app is told, unless it has yet to take what it was told before: a long outage must not pile up.
    fn unreachable(&mut self, reason: String) {
        if self.waiting.is_empty() {
            self.waiting.push_back(Event::Unreachable { reason });
        }
    }

    /// Serves the app until `work` is done, without a connection. `None` if the device is to close.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            self.session.advance(self.now(), &mut self.out);
            self.take_events();
            tokio::select! {
                done = &mut work => return Some(done),
                woken = self.served() => {
                    if matches!(woken, Woken::Stop) {
                        return None;
                    }
                }
            }
        }
    }

    /// Waits for the app, a token or the session's deadline, and takes it in. May be cancelled.
    pub(super) async fn served(&mut self) -> Woken {
        let deadline = self.session.next_deadline().map(|at| self.instant(at));
        tokio::select! {
            () = self.stop.cancelled() => return Woken::Stop,
            taken = hand_over(&self.app, &mut self.waiting), if !self.waiting.is_empty() => {
                if !taken {
                    self.stop.cancel();
                }
            }
            () = self.confirmations.changed() => self.take_confirmations(),
            command = self.commands.recv() => match command {
                Some(command) => self.obey(command),
                None => return Woken::Stop,
            },
            Some((binding, token)) = self.tokens.next() => self.take_token(binding, token),
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {}
        }
        Woken::Advance
    }

    fn obey(&mut self, command: Command) {
        // An answer that nobody waits for any more is no failure.
        match command {
            Command::Bind { app, uid, traits, answer } => {
                let saved = self.saved.find(&app, &uid);
                let (inbox, broadcasts) = saved.map_or((None, None), |saved| (saved.inbox, saved.broadcasts));
                let _ = answer.send(self.session.bind(BindSpec {
                    app,
                    uid,
                    token: None,
                    traits,
                    inbox,
                    broadcasts,
                }));
            }
            Command::Unbind(binding) => {
                self.saved = self.snapshot();
                self.session.unbind(binding);
            }
            Command::Rebind(binding) => self.session.rebind(binding),
            Command::Up { binding, kind, payload, answer } => {
                let _ = answer.send(self.session.up(binding, kind, payload));
            }
            Command::Snapshot(answer) => {
                self.take_confirmations();
                let _ = answer.send(self.snapshot());
            }
        }
    }

    pub(super) fn take_confirmations(&mut self) {
        let now = self.now();
        for confirmation in self.confirmations.take() {
            if let Some(position) = confirmation.inbox {
                self.session.confirm(confirmation.binding, position, now);
            }
            if let Some(cursor) = confirmation.broadcasts {
                self.session.confirm_broadcast(confirmation.binding, cursor, now);
            }
        }
    }

    /// Takes the session's events: answers those that are the driver's, and queues the others for the app.
    pub(super) fn take_events(&mut self) {
        for event in self.out.events.drain(..) {
            match event {
                Event::TokenNeeded { binding } => {
                    let Some((app, uid)) = self.session.who(binding) else { continue };
                    let token = (self.provider)(app.clone(), uid.clone());
                    self.tokens.push(Box::pin(async move {
                        let token = timeout(TOKEN_TIMEOUT, token).await;
                        (binding, token.unwrap_or_else(|_| Err("no token within 30 s".into())))
                    }));
                }
                event => {
                    if let Event::Connected { .. } = event {
                        self.dialer.connected(Moment::from(self.origin.elapsed()));
                    }
                    self.waiting.push_back(event);
                }
            }
        }
    }

    fn take_token(&mut self, binding: BindingId, token: Result<String, BoxError>) {
        match token {
            Ok(token) => self.session.set_token(binding, token.into()),
            Err(error) => {
                tracing::warn!(%binding, %error, "no token for the binding; asking again later");
                self.session.token_failed(binding, self.now());
            }
        }
    }

    /// Gives the app what is left for it, unless it is gone.
    async fn deliver_waiting(&mut self) {
        while let Some(event) = self.waiting.pop_front() {
            let sent = tokio::select! {
                () = self.stop.cancelled() => return,
                sent = self.app.send(event) => sent,
            };
            if sent.is_err() {
                return;
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.saved.clone();
        snapshot.merge(self.session.snapshot());
        snapshot.address = self.dialer.last_good().map(ToString::to_string).or(snapshot.address);
        snapshot
    }

    pub(super) fn now(&self) -> Moment {
        Moment::from(self.origin.elapsed())
    }

    fn instant(&self, at: Moment) -> Instant {
        // A moment beyond the clock's range is as good as a year.
        const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        self.origin + Duration::from_millis(at.0).min(self.origin.elapsed() + YEAR)
    }
}

/// Hands events over to the app once it has room, as many as it has room for; false if nobody listens any
/// more. May be cancelled.
async fn hand_over(app: &mpsc::Sender<Event>, waiting: &mut VecDeque<Event>) -> bool {
    let Ok(permit) = app.reserve().await else { return false };
    let mut room = Some(permit);
    while let Some(permit) = room.take() {
        let Some(event) = waiting.pop_front() else { break };
        permit.send(event);
        room = app.try_reserve().ok();
    }
    true
}
