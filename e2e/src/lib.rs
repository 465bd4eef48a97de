//! Starts real clusters and does with them what their users do.
//!
//! A [`Stack`] is Longwire running in one of its [`Shape`]s: all services in this process, or a cluster of real
//! processes on free ports. Tests are written once against the stack and run against both.

pub mod api;
pub mod backend;
pub mod device;
mod in_process;
mod ports;
mod processes;
mod programs;
mod stack;
pub mod up_process;

pub use device::TestDevice;
pub use processes::Processes;
pub use programs::program;
pub use stack::{Shape, Stack, Tuning};
