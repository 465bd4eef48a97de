//! The storage layer: inboxes, broadcast logs, ledger and app directory.
//!
//! The saver knows nothing of connections and sessions. It works over two seams: an [`inbox::InboxStore`], which holds
//! the unacked messages of each user close at hand, and an [`archive::Archive`], which holds everything that was
//! answered. [`engine::Engine`] is the work; the rest is around it: `rpc` translates, `sweep` offers again what stays
//! unacked, `cleanup` keeps the archive small. `embedded` and `clustered` put a pair of stores together.

pub mod archive;
pub mod cleanup;
#[cfg(feature = "cluster-stores")]
mod clustered;
pub mod config;
mod embedded;
pub mod engine;
pub mod error;
pub mod inbox;
pub mod metrics;
pub mod model;
mod nudge;
pub mod rpc;
mod shard;
pub mod sweep;

use std::time::Duration;

use cluster::Role;
use futures::future::BoxFuture;
use proto::internal::saver_server::SaverServer;
use service::{Host, Service, StartError, Starting};
use tonic::service::Routes;

use archive::Archive;
use config::{Config, Kind};
use engine::Engine;
use inbox::InboxStore;

/// Idle inboxes are looked for this often, a part of them each time; gauges are set with it.
const UPKEEP: Duration = Duration::from_millis(500);
/// Largest request: callers batch up to 1 MiB, or one message with a long list.
const MAX_REQUEST: usize = 16 << 20;

/// The saver, on whichever stores.
pub struct Saver(Parts);

/// What is left of a saver when its stores' types are forgotten.
struct Parts {
    routes: Routes,
    /// Takes a new configuration while it works.
    apply: Box<dyn Fn(Config) + Send + Sync>,
    /// Ends it, after what was taken in is written.
    drain: BoxFuture<'static, ()>,
}

impl Service for Saver {
    const ROLE: Role = Role::Saver;
    type Config = Config;

    const LIVE: &'static [&'static str] = &[
        "default_inbox_cap",
        "max_inbox_cap",
        "max_loads",
        "sweep_after",
        "sweep_per_second",
        "retention",
        "cleanup_per_second",
        "durability",
    ];

    fn check(config: &Config) -> Result<(), StartError> {
        config.check().map_err(|(key, reason)| StartError::config(key, reason))
    }

    fn memory_bound(config: &Config) -> u64 {
        config.memory_bound()
    }

    fn apply(&self, config: Config) {
        (self.0.apply)(config);
    }

    fn start(config: Config, host: Host) -> Starting<Self> {
        Box::pin(async move {
            match config.stores.kind {
                Kind::Embedded => embedded::start(config, &host).await.map(Self),
                #[cfg(feature = "cluster-stores")]
                Kind::Cluster => clustered::start(config, &host).await.map(Self),
                #[cfg(not(feature = "cluster-stores"))]
                Kind::Cluster => {
                    Err(StartError::config("saver.stores.kind", "built without Redis and MySQL"))
                }
            }
        })
    }

    fn rpc(&self) -> Routes {
        self.0.routes.clone()
    }

    async fn drain(self, _: Duration) {
        self.0.drain.await;
    }
}

fn routes<I: InboxStore, A: Archive>(engine: Engine<I, A>) -> Routes {
    Routes::new(SaverServer::new(rpc::Rpc(engine)).max_decoding_message_size(MAX_REQUEST))
}
