//! What every Longwire process does alike: configuration, telemetry, the admin port, signals and drain.
//!
//! A service implements [`Service`]; [`process::main`] makes a program of it, and [`Node`] runs it inside a
//! process that runs others too. Either way the service is the same code and is called over the same gRPC.

mod admin;
mod admission;
pub mod config;
mod error;
mod health;
mod host;
mod layers;
mod life;
mod live;
mod log_file;
mod memory;
mod metrics;
mod node;
mod node_rpc;
mod peer_io;
pub mod process;
mod profile;
mod rotation;
mod rpc_server;
mod settings;
pub mod signals;
pub mod telemetry;
pub mod tls;

pub use admin::{Admin, Readiness};
pub use error::{ExitError, StartError, exit_code};
pub use host::Host;
pub use layers::check_section;
pub use memory::{BASE_BYTES, NODE_BYTES, memory_bound};
pub use metrics::Metrics;
pub use node::{Identity, Node, Remote};
pub use settings::{
    AdminSettings, DiscoverySettings, EtcdSettings, LogFormat, LogSettings, NodeSettings, RpcSettings,
    TlsSettings,
};

use std::{future::Future, pin::Pin, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

/// A service on its way. Boxed, so that all that it sets going is compiled in its own crate, once, and not in each
/// program that runs it.
pub type Starting<S> = Pin<Box<dyn Future<Output = Result<S, StartError>> + Send>>;

/// One of the six services.
pub trait Service: Send + Sized + 'static {
    /// Which one.
    const ROLE: cluster::Role;

    /// Its section of the configuration. Implementations refuse unknown keys (`deny_unknown_fields`).
    type Config: DeserializeOwned + Serialize + Default + Clone + Send + Sync + 'static;

    /// Judges what the types of the configuration cannot. Called for every service of a process before the first is
    /// started, so that a wrong value is told before any port is bound.
    ///
    /// # Errors
    /// Names the key and what is wrong with its value.
    fn check(_config: &Self::Config) -> Result<(), StartError> {
        Ok(())
    }

    /// The most memory that the configuration allows, bytes: the sum of all its bounds, without what every process has
    /// (see [`memory_bound`]). The formula stands in the documentation of the service's configuration.
    fn memory_bound(_config: &Self::Config) -> u64 {
        0
    }

    /// Keys of the configuration (`max_loads`, `limits.frame`; `limits` for all below it) that [`Service::apply`] takes
    /// while the service runs. A new value of any other key needs a restart.
    const LIVE: &'static [&'static str] = &[];

    /// Takes a new configuration while the service runs. It differs from the one before in keys of [`Service::LIVE`]
    /// only, and `check` has passed.
    fn apply(&self, _config: Self::Config) {}

    /// Starts everything but the gRPC server: binds ports, opens stores, starts workers. It must not wait for
    /// other services: they may not be there yet.
    fn start(config: Self::Config, host: Host) -> Starting<Self>;

    /// What the other services call.
    fn rpc(&self) -> tonic::service::Routes;

    /// Ends what it does without losing anything, within `deadline`: stops taking work, finishes what it has,
    /// flushes. When it returns, the host's cancel token fires and the tasks that are left have to end.
    fn drain(self, deadline: Duration) -> impl Future<Output = ()> + Send;
}
