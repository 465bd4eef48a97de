//! The whole session logic in virtual time, with both ends simulated: the SDK's session against the room's sessions, over
//! connections that delay, chop, fill up and break at any byte, and with a cluster whose answers come late, in any order,
//! twice or not at all.
//!
//! The judges: each stored message reaches an app once, in order and without holes, and so does each broadcast, or slice of one,
//! that is meant for it, and none that is not; each of these is counted once, in the archive or in a room; nothing is acked that
//! no app has seen; no bound is passed; and when everybody has gone nothing stays behind.
//!
//! A run that fails prints its seed. `SIMULATION_SEED=<seed>` repeats it alone, `SIMULATION_TRACE=1` prints what happened, and
//! `SIMULATION_RUNS=<n>` makes it more runs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod cluster;
mod cuts;
mod device;
mod histories;
mod inbox;
mod judge;
mod line;
mod log;
mod rooms;
mod weather;
mod wires;
mod world;
