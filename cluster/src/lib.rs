//! Nodes, discovery, ids and sharding: how the services of Longwire know each other.
//!
//! A [`Discovery`] back end keeps a [`Picture`] of the cluster up to date; a [`Cluster`] is a service's handle
//! to it: who is there, who owns a key ([`rendezvous`]), and a [`Transport`] to call a node with. When
//! discovery goes away the picture freezes and service goes on.

mod discovery;
mod embedded;
pub mod etcd;
mod handle;
mod incarnation;
mod message_id;
mod node;
mod picture;
pub mod rendezvous;
mod static_peers;
pub mod tls;
mod transport;

pub use discovery::{Discovery, DiscoveryError};
pub use embedded::Embedded;
pub use handle::Cluster;
pub use incarnation::{Incarnation, IncarnationError};
pub use message_id::{EPOCH_2025_MS, MAX_NODE_ID, MessageIds, accepted_ms_of, now_ms};
pub use node::{ConfigReport, Load, Me, NodeId, NodeInfo, NodeState, Refused, Role, UnknownRole};
pub use picture::Picture;
pub use static_peers::{Peer, StaticPeers, check_peers};
pub use tls::{PublicFiles, PublicTls, Tls, TlsError, TlsFiles};
pub use transport::{LocalServices, Transport};
