//! The register: the cluster's session store, which knows where each user is.
//!
//! Sessions are in memory only. They belong to the rooms, which tell them again when a register starts; a room that
//! dies takes its sessions with it. What orders the binds of one user is the *fence*, which grows with each of them,
//! also over lives of the register and from one register to the next: whatever carries an older one is ignored.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cluster::Incarnation;
use flow::FlowMetrics;
use peers::{PeerMetrics, Rooms};
use proto::internal::register_server::RegisterServer;
use service::{Host, Service, StartError, Starting};

mod bounds;
mod config;
mod error;
mod homes;
mod horizon;
mod kicks;
mod lives;
mod metrics;
mod ownership;
mod purge;
mod rebuild;
mod records;
mod rpc;
mod shard;
mod store;

pub use config::{Config, KicksConfig};
pub use homes::{Fate, RoomLife};
pub use shard::{Bind, Bound, Displaced, Restored, StoreFull, Whereabouts};
pub use store::Store;

use kicks::Kicks;
use lives::Lives;
use metrics::RegisterMetrics;
use ownership::Ownership;
use purge::Purger;
use rebuild::Rebuild;

/// A running register.
pub struct Register {
    store: Arc<Store>,
    ownership: Arc<Ownership>,
    kicks: Kicks,
    lives: Lives,
    metrics: RegisterMetrics,
}

impl Service for Register {
    const ROLE: cluster::Role = cluster::Role::Register;
    type Config = Config;

    fn check(config: &Config) -> Result<(), StartError> {
        if config.sessions_max == 0 {
            return Err(StartError::config("register.sessions_max", "must be at least 1"));
        }
        if config.kicks.workers == 0 {
            return Err(StartError::config("register.kicks.workers", "must be at least 1"));
        }
        Ok(())
    }

    fn memory_bound(config: &Config) -> u64 {
        bounds::memory_bound(config)
    }

    fn start(config: Config, host: Host) -> Starting<Self> {
        Box::pin(start(config, host))
    }

    fn rpc(&self) -> tonic::service::Routes {
        let server = RegisterServer::new(rpc::RegisterRpc {
            store: self.store.clone(),
            ownership: self.ownership.clone(),
            kicks: self.kicks.clone(),
            lives: self.lives.clone(),
            metrics: self.metrics.clone(),
        });
        tonic::service::Routes::new(server.max_decoding_message_size(rpc::MAX_REQUEST))
    }

    /// Nothing to flush: the sessions are the rooms', and no answer is ever owed.
    async fn drain(self, _deadline: Duration) {}
}

async fn start(config: Config, host: Host) -> Result<Register, StartError> {
    let store = Arc::new(Store::with_bound(host.me().incarnation().0, config.sessions_max));
    let metrics = RegisterMetrics::register(&host.metrics, store.clone());
    let flow = FlowMetrics::default();
    let peer_metrics = PeerMetrics::new(&flow);
    host.metrics.register("register", |registry| {
        flow.register(registry);
        peer_metrics.register(registry);
    });
    let rooms = Rooms::with_metrics(&host.cluster, config.peers, &peer_metrics, host.cancel.clone());
    let (kicks, kicks_end) = Kicks::spawn(
        &config.kicks,
        rooms.clone(),
        host.cluster.clone(),
        &flow,
        metrics.clone(),
        host.cancel.clone(),
    );
    let ended = metrics.clone();
    host.spawn(async move {
        // The rooms go on without the kicks that are left: the users' new sessions are what counts.
        let left = kicks_end.await.map_or(0, |left| left.len());
        ended.kicks_dropped.inc_by(left as u64);
        rooms.closed().await;
    });
    // In its first life a register has had no sessions that rooms could have to tell again.
    let patience =
        if host.me().incarnation() > Incarnation(1) { config.rebuild_at_most } else { Duration::ZERO };
    let rebuild = Rebuild::new(Instant::now(), patience, config.rebuild_at_most);
    let ownership = Ownership::new(host.cluster.clone(), rebuild, store.clone(), metrics.clone());
    let ownership = Arc::new(ownership);
    host.spawn(ownership.clone().run(host.cancel.clone()));
    let (lives, new_lives) = Lives::new();
    let purger = Purger {
        store: store.clone(),
        metrics: metrics.clone(),
        lives: new_lives,
        cancel: host.cancel.clone(),
    };
    host.spawn(purger.run(host.cluster.clone()));
    Ok(Register { store, ownership, kicks, lives, metrics })
}
