//! The gateway: holds the devices' connections, binds users, delivers to them, fans broadcasts out.
//!
//! - [`session`]: all sessions of a thread as one state machine without I/O;
//! - [`event_loop`]: one thread's sockets;
//! - [`admission`]: who may connect;
//! - [`exchange`]: what a thread and the rest of the room say to each other;
//! - [`backend`]: the rest of the room, on tokio;
//! - [`token`]: device tokens;
//! - [`resume`]: the tokens by which a device goes on after its connection broke.
//!
//! What this crate must never know: SQL, HTTP, other rooms.

pub mod admission;
pub mod backend;
mod bounds;
pub mod clock;
pub mod config;
pub mod error;
pub mod event_loop;
pub mod exchange;
pub mod metrics;
mod orders;
pub mod resume;
mod room;
mod rpc;
pub mod session;
pub mod token;
pub mod wheel;

pub use config::Config;
pub use room::Room;
