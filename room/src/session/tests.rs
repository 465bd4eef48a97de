//! The sessions in virtual time, with both ends simulated.

mod broadcasts;
mod ghosts;
mod greeting;
mod harness;
mod inboxes;
mod ledger;
mod lifecycle;
mod model;
mod sizes;
mod tokens;
