//! The gateway: holds the devices' connections, binds users, delivers to them, fans broadcasts out.
//!
//! - [`session`]: all sessions of a thread as one state machine without I/O;
//! - [`event_loop`]: one thread's sockets;
//! - [`exchange`]: what a thread and the rest of the room say to each other.
//!
//! What this crate must never know: SQL, HTTP, other rooms.

pub mod clock;
pub mod event_loop;
pub mod exchange;
pub mod session;
pub mod wheel;
