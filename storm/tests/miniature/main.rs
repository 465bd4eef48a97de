//! Storms against a center and a room in miniature.

#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;
mod judge;
mod lines;
mod runs;
mod scenarios;
