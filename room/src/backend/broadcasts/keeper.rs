//! The task that keeps the logs.

use std::{collections::HashMap, pin::Pin, sync::PoisonError};

use futures::{StreamExt as _, stream::FuturesUnordered};
use peers::PeerError;
use proto::internal as rpc;
use tokio::{
    sync::mpsc,
    time::{Interval, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use wire::id::AppId;

use super::{
    Ask, Cache, Heads, Looks, PAGE_MESSAGES, cursor,
    log::{AppLog, Noticed},
    run_of,
};
use crate::{
    backend::{BackendLimits, Services},
    event_loop::{Order, Thread},
    exchange::LogRun,
};

/// What a call has brought.
enum Done {
    /// The moment is over in which a broadcast might still have come by itself.
    Waited(AppId),
    Read(AppId, u64, Result<rpc::LoadBroadcastsResponse, PeerError>),
    Heads(Vec<u32>, Result<Vec<rpc::BroadcastHead>, PeerError>),
}

type Call = Pin<Box<dyn Future<Output = Done> + Send>>;

/// Keeps the logs.
pub(crate) struct Keeper<S> {
    services: S,
    threads: Vec<Thread>,
    limits: BackendLimits,
    asks: mpsc::Receiver<Ask>,
    /// For whoever only wants to look; written here only.
    heads: Heads,
    cache: Cache,
    logs: HashMap<AppId, AppLog>,
    /// Apps whose head has been asked for the first time, with those who wait for it.
    fresh: HashMap<AppId, Vec<Reply>>,
    calls: FuturesUnordered<Call>,
    looks: Looks,
    cancel: CancellationToken,
}

type Reply = tokio::sync::oneshot::Sender<Result<wire::id::Cursor, PeerError>>;

impl<S: Services> Keeper<S> {
    pub(super) fn new(
        services: S,
        threads: Vec<Thread>,
        limits: BackendLimits,
        asks: mpsc::Receiver<Ask>,
        (heads, cache): (Heads, Cache),
        looks: Looks,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            services,
            threads,
            limits,
            asks,
            heads,
            cache,
            logs: HashMap::new(),
            fresh: HashMap::new(),
            calls: FuturesUnordered::new(),
            looks,
            cancel,
        }
    }

    /// Runs until the room ends.
    pub(crate) async fn run(mut self) {
        let mut tick = self.interval();
        let cancel = self.cancel.clone();
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.follow(ask).await,
                    None => return,
                },
                Some(done) = self.calls.next() => self.done(done).await,
                _ = tick.tick() => self.ask_all_heads(),
                () = self.looks.next() => self.ask_all_heads(),
            }
        }
    }

    fn interval(&self) -> Interval {
        let mut tick = tokio::time::interval(self.limits.heads_interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick
    }

    async fn follow(&mut self, ask: Ask) {
        match ask {
            Ask::Notice { app, epoch, entry, reply } => {
                if let Some(log) = self.logs.get_mut(&app) {
                    match log.notice(epoch, entry) {
                        Noticed::Next(run) => self.tell(run).await,
                        Noticed::Known => {}
                        Noticed::Hole => self.wait(app),
                    }
                }
                // Whoever asked may be gone.
                let _ = reply.send(());
            }
            Ask::Head { app, at_least, reply } => match self.logs.get_mut(&app) {
                Some(log) if log.head >= at_least => {
                    let _ = reply.send(Ok(cursor(log.epoch, log.head)));
                }
                Some(log) => {
                    let asked = !log.waiters.is_empty();
                    log.waiters.push(reply);
                    if !asked {
                        self.ask_heads(vec![app.0]);
                    }
                }
                None => {
                    let waiters = self.fresh.entry(app).or_default();
                    waiters.push(reply);
                    if waiters.len() == 1 {
                        self.ask_heads(vec![app.0]);
                    }
                }
            },
        }
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Waited(app) => {
                let hole = self.logs.get_mut(&app).is_some_and(|log| {
                    log.reading = false;
                    log.has_hole()
                });
                if hole {
                    self.read(app);
                }
            }
            Done::Read(app, after, Ok(response)) => {
                let (head, more) = (response.head, response.more);
                let run = run_of(app, after, response);
                let Some(log) = self.logs.get_mut(&app) else { return };
                log.reading = false;
                let run = log.read(run, head);
                let progress = run.is_some();
                let again = more || log.has_hole() || head > log.head;
                if let Some(run) = run {
                    self.tell(run).await;
                }
                if again && progress {
                    self.read(app);
                }
            }
            Done::Read(app, _, Err(error)) => {
                // The next look at the heads tries again.
                tracing::warn!(%app, %error, "the broadcast log could not be read");
                if let Some(log) = self.logs.get_mut(&app) {
                    log.reading = false;
                }
            }
            Done::Heads(apps, Ok(heads)) => {
                for app in apps {
                    let head = heads.iter().find(|head| head.app == app);
                    self.on_head(AppId(app), head.map_or((0, 0), |head| (head.epoch, head.head)));
                }
            }
            Done::Heads(apps, Err(error)) => {
                tracing::debug!(%error, "the heads of the broadcast logs could not be read");
                for app in apps {
                    let waiters = match self.logs.get_mut(&AppId(app)) {
                        Some(log) => std::mem::take(&mut log.waiters),
                        None => self.fresh.remove(&AppId(app)).unwrap_or_default(),
                    };
                    for waiter in waiters {
                        let _ = waiter.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    fn on_head(&mut self, app: AppId, (epoch, head): (u64, u64)) {
        let place = cursor(epoch, head);
        let waiters = self.fresh.remove(&app).unwrap_or_default();
        if !waiters.is_empty() {
            self.logs.entry(app).or_insert_with(|| AppLog::new(app, place));
            self.publish(app);
        }
        let Some(log) = self.logs.get_mut(&app) else { return };
        let waiters = waiters.into_iter().chain(std::mem::take(&mut log.waiters));
        for waiter in waiters {
            let _ = waiter.send(Ok(place));
        }
        if head > log.head || epoch > log.epoch && head < log.head {
            self.read(app);
        }
    }

    fn ask_all_heads(&mut self) {
        let apps = self.logs.keys().map(|app| app.0).collect();
        self.ask_heads(apps);
    }

    fn ask_heads(&mut self, apps: Vec<u32>) {
        if apps.is_empty() {
            return;
        }
        let services = self.services.clone();
        self.calls.push(Box::pin(async move {
            let heads = services.heads(&apps).await;
            Done::Heads(apps, heads)
        }));
    }

    /// Gives a missing broadcast a moment to come by itself.
    fn wait(&mut self, app: AppId) {
        let Some(log) = self.logs.get_mut(&app).filter(|log| !log.reading) else { return };
        log.reading = true;
        let moment = self.limits.hole_wait;
        self.calls.push(Box::pin(async move {
            tokio::time::sleep(moment).await;
            Done::Waited(app)
        }));
    }

    /// Reads what comes after the head, once at a time.
    fn read(&mut self, app: AppId) {
        let Some(log) = self.logs.get_mut(&app).filter(|log| !log.reading) else { return };
        log.reading = true;
        let after = log.head;
        let request = rpc::LoadBroadcastsRequest {
            app: app.0,
            after_bseq: after,
            max_messages: PAGE_MESSAGES,
            max_bytes: self.limits.page_bytes,
        };
        let services = self.services.clone();
        self.calls.push(Box::pin(async move { Done::Read(app, after, services.log(request).await) }));
    }

    /// Hands a run to every thread.
    async fn tell(&mut self, run: LogRun) {
        self.publish(run.app);
        self.cache.put(&run);
        for thread in &self.threads {
            // A thread that has ended has nobody to tell.
            let _ = thread.send(Order::Log(run.clone())).await;
        }
    }

    fn publish(&self, app: AppId) {
        if let Some(log) = self.logs.get(&app) {
            let head = cursor(log.epoch, log.head);
            self.heads.write().unwrap_or_else(PoisonError::into_inner).insert(app, head);
        }
    }
}
