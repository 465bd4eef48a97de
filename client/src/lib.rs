//! The device SDK.
//!
//! - [`session::Session`]: what a device does on a connection and keeps between connections, as a state
//!   machine: frames and `now` in, bytes and events out. It knows neither sockets nor clocks, so that a load
//!   generator can run tens of thousands on one thread, and tests run in virtual time.
//! - [`dialer::Dialer`]: where and when to connect next, as a state machine too.
//! - [`device::Device`]: both on tokio, for programs that want messages and not a protocol.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use client::{device::Device, session::Event};
//!
//! let (device, mut events) = Device::builder("laptop-1")
//!     .dispatcher("http://127.0.0.1:7700")
//!     .token(|_app, _uid| async { Ok("a JWT of your backend".to_owned()) })
//!     .start()?;
//! device.bind("demo".parse()?, "alice".parse()?, ["beta".to_owned()]).await?;
//! while let Some(event) = events.next().await {
//!     if let Event::Message(message) = event {
//!         println!("{}: {:?}", message.id, message.payload);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

pub mod backoff;
pub mod config;
pub mod device;
pub mod dialer;
mod local_time;
pub mod moment;
pub mod route;
pub mod session;
pub mod snapshot;
pub mod tls;
pub mod transport;

pub use config::{AckPolicy, Config, Confirm, UtcOffset};

pub use device::Device;
pub use dialer::Dialer;
pub use moment::Moment;
pub use session::{Event, Output, Session};
pub use snapshot::Snapshot;
pub use tls::Tls;
pub use transport::Transport;
