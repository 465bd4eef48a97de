//! Jobs over several centers and rooms of one process, in virtual time.

mod control;
mod pacing;
mod takeover;
mod times;
mod town;

use super::*;
