//! Discovery and configuration on etcd.
//!
//! A node takes a node id in a transaction, under a lease ([`claim`]), enters itself below `nodes/`, and keeps both
//! alive ([`keeper`]). It follows the entries of all ([`watch`], [`nodes`]) and its own configuration ([`config`]).
//! Whatever happens to etcd, the last picture stays.

mod admin;
mod backoff;
mod beat;
mod claim;
mod config;
mod discovery;
mod enter;
mod error;
mod folder;
mod ids;
mod keeper;
mod keys;
mod link;
mod membership;
mod metrics;
mod nodes;
mod options;
mod published;
mod registration;
mod watch;

pub use admin::{Admin, ConfigChange};
pub use config::{ConfigText, ConfigTexts, Target, UnknownTarget};
pub use discovery::{EtcdDiscovery, Start};
pub use error::EtcdError;
pub use ids::{Holder, Wanted};
pub use metrics::EtcdMetrics;
pub use options::{EtcdOptions, EtcdTls, MIN_LEASE};
pub use registration::Lost;

/// 128 random bits as a word.
fn random_word() -> String {
    format!("{:032x}", rand::random::<u128>())
}
