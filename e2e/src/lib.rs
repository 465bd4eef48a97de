//! Starts real clusters and does with them what their users do.
//!
//! A [`Stack`] is Longwire running in one of its [`Shape`]s: all services in this process, or a cluster of real
//! processes on free ports, with real servers of etcd, Redis and MariaDB behind them. Tests are written once against
//! the stack and run against both. [`faults`] break parts of a cluster while [`judge`] watches its promises.

pub mod api;
pub mod backend;
pub mod cluster;
pub mod crowd;
pub mod device;
mod external;
pub mod faults;
mod in_process;
pub mod judge;
pub mod problems;
mod programs;
mod proxy;
pub mod raw;
mod room_tls;
mod stack;
pub mod up_process;
mod wait;

pub use api::{ApiClient, App};
pub use backend::Backend;
pub use cluster::{Backing, Cut, Layout, Processes};
pub use crowd::Crowd;
pub use device::{Profile, TestDevice};
pub use programs::program;
pub use proxy::{Proxy, Traffic};
pub use raw::RawDevice;
pub use stack::{Shape, Stack, Tuning};
pub use up_process::UpProcess;
pub use wait::eventually;
