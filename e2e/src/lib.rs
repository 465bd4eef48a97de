//! Starts real clusters and does with them what their users do.
//!
//! A [`Stack`] is Longwire running in one of its [`Shape`]s: all services in this process, or a cluster of real
//! processes on free ports. Tests are written once against the stack and run against both.

pub mod api;
pub mod backend;
pub mod device;
mod in_process;
mod ports;
pub mod problems;
mod processes;
mod programs;
pub mod raw;
mod stack;
pub mod up_process;
mod wait;

pub use api::{ApiClient, App};
pub use backend::Backend;
pub use device::TestDevice;
pub use processes::Processes;
pub use programs::program;
pub use raw::RawDevice;
pub use stack::{Shape, Stack, Tuning};
pub use up_process::UpProcess;
pub use wait::eventually;
