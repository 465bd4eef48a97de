//! What the API does, for HTTP and gRPC alike. Requests and answers are those of `push.proto`; here they are
//! checked, once, and turned into calls of the other services.

mod apps;
mod asked;
mod broadcast;
mod broadcasts;
mod control;
mod due;
mod fields;
mod idempotency;
mod letter;
mod messages;
mod multicast;
mod preview;
mod push;
mod schedule;
mod stopping;
mod targets;
mod token;
mod upload;
mod users;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, Guard};
use cluster::{Cluster, MessageIds};
use http::HeaderValue;
use peers::{AppDirectory, Centers, Coordinators, Limits, PeerMetrics, Registers, Rooms, Savers};
use proto::internal::App;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use wire::id::AppId;

use crate::{
    auth::{self, Grant, KeyCache, Scope, Scopes},
    config::Config,
    delivery::Delivery,
    error::{Error, Result},
    jobs::Jobs,
    limits::{Budget, Held, Rates},
    metrics::Metrics,
    scheduled::Soon,
    under_way::UnderWay,
};

pub(crate) use apps::{key_request, new_api_key, new_app, parse_scopes};
#[cfg(test)]
pub(crate) use due::Sent;
pub(crate) use upload::{CHUNK_USERS, Upload};

/// What is held of requests, as callers are told of it.
pub(crate) const BODIES: &str = "bytes of requests";

/// Of a drain, which takes seconds anyway.
const IDLE_POLL: Duration = Duration::from_millis(10);

/// Who calls, with a place among the requests under way.
#[derive(Debug)]
pub struct Caller {
    grant: Grant,
    /// Given back when the request was answered.
    _place: Held,
}

/// What the operations need of the rest of the cluster.
#[derive(Clone)]
pub struct Peers {
    /// Store messages, apps and keys.
    pub savers: Savers,
    /// Know where users are.
    pub registers: Registers,
    /// Deliver.
    pub rooms: Rooms,
    /// Kick.
    pub coordinators: Coordinators,
    /// Do their parts of broadcasts.
    pub centers: Centers,
    /// The known apps.
    pub apps: AppDirectory,
}

impl Peers {
    /// Opens lines to all of them; their tasks run in `tasks` until `cancel` fires.
    pub fn new(
        cluster: &Cluster,
        limits: Limits,
        metrics: &PeerMetrics,
        cancel: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Peers {
        let savers = Savers::with_metrics(cluster, limits, metrics, cancel.clone());
        let (apps, directory) = AppDirectory::start(savers.clone(), cancel.clone());
        let peers = Peers {
            registers: Registers::with_metrics(cluster, limits, metrics, cancel.clone()),
            rooms: Rooms::with_metrics(cluster, limits, metrics, cancel.clone()),
            coordinators: Coordinators::with_metrics(cluster, limits, metrics, cancel.clone()),
            centers: Centers::with_metrics(cluster, limits, metrics, cancel.clone()),
            savers,
            apps,
        };
        let all = peers.clone();
        tasks.spawn(async move {
            let _ = directory.await;
            all.savers.closed().await;
            all.registers.closed().await;
            all.rooms.closed().await;
            all.coordinators.closed().await;
            all.centers.closed().await;
        });
        peers
    }
}

/// All operations of the API.
pub struct Ops {
    config: ArcSwap<Config>,
    peers: Peers,
    cluster: Cluster,
    ids: MessageIds,
    keys: KeyCache,
    rates: Rates,
    places: Budget,
    bodies: Budget,
    delivery: Delivery,
    under_way: UnderWay,
    jobs: Jobs,
    /// What was kept here and is due soon.
    soon: Soon,
    metrics: Metrics,
}

impl Ops {
    /// The operations over these peers.
    pub(crate) fn new(
        config: Config,
        peers: Peers,
        cluster: Cluster,
        delivery: Delivery,
        jobs: Jobs,
        metrics: Metrics,
    ) -> Ops {
        Ops {
            keys: KeyCache::new(config.auth.clone()),
            rates: Rates::default(),
            places: Budget::new("requests", config.requests_in_flight),
            bodies: Budget::new(BODIES, config.body_bytes_in_flight),
            config: ArcSwap::from_pointee(config),
            peers,
            ids: MessageIds::new(cluster.me().id()),
            cluster,
            under_way: UnderWay::new(delivery.recalled()),
            delivery,
            jobs,
            soon: Soon::default(),
            metrics,
        }
    }

    /// How the center is configured.
    pub fn config(&self) -> Guard<Arc<Config>> {
        self.config.load()
    }

    /// Takes another configuration: what is judged from the next call on.
    pub(crate) fn apply(&self, config: Config) {
        self.places.set_limit(config.requests_in_flight);
        self.bodies.set_limit(config.body_bytes_in_flight);
        self.config.store(Arc::new(config));
    }

    /// Bytes of request bodies held at once.
    pub fn bodies(&self) -> &Budget {
        &self.bodies
    }

    /// What the center counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What other centers ask of this one.
    pub(crate) fn routes(&self) -> Routes {
        crate::jobs::routes(&self.jobs, self.under_way.clone())
    }

    /// Waits until all that was accepted is at its room, or given up on.
    pub(crate) async fn settled(&self) {
        while !(self.delivery.is_idle() && self.jobs.notices.is_idle()) {
            tokio::time::sleep(IDLE_POLL).await;
        }
    }

    /// Finds out who calls, by the value of the `Authorization` header, and gives the call its place.
    pub async fn authenticate(&self, authorization: Option<&HeaderValue>) -> Result<Caller> {
        let place = self.places.take(1)?;
        let hash = auth::hash_key(auth::bearer(authorization)?);
        let grant = self
            .keys
            .get(hash, |hash| async move {
                self.metrics.key_lookups.inc();
                let key = self.peers.savers.find_key(hash.to_vec()).await?;
                let grant = Grant { app: AppId(key.app), scopes: Scopes::from_names(&key.scopes) };
                Ok(key.found.then_some(grant))
            })
            .await?;
        Ok(Caller { grant, _place: place })
    }

    /// The app that a call is about, if the caller may do such a thing there. An empty name means the key's own app.
    async fn app(&self, caller: &Caller, scope: Scope, name: &str) -> Result<Arc<App>> {
        caller.grant.needs(scope)?;
        let own = self.peers.apps.find(caller.grant.app).await?;
        match own {
            Some(own) if name.is_empty() || own.key == name => Ok(own),
            // The archive never forgets an app, so a key without one is a directory that is behind.
            None if name.is_empty() => Err(Error::UnknownApp { app: caller.grant.app.to_string() }),
            _ => {
                let app = self.known_app(name).await?;
                Err(Error::OtherApp { app: app.key.clone() })
            }
        }
    }

    /// The app of that name.
    async fn known_app(&self, name: &str) -> Result<Arc<App>> {
        let app = self.peers.apps.find_by_key(name).await?;
        app.ok_or_else(|| Error::UnknownApp { app: shortened(name) })
    }

    /// Takes pushes off the app's rate.
    fn take_rate(&self, app: &App, count: usize) -> Result<()> {
        self.rates.take(Instant::now(), AppId(app.id), app.pushes_per_second, count)
    }
}

/// A name that somebody made up, short enough to be told back.
pub(crate) fn shortened(name: &str) -> String {
    let end = name.char_indices().nth(64).map_or(name.len(), |(at, _)| at);
    name[..end].to_owned()
}
