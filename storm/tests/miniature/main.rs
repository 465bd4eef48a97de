//! Storms against a center and a room in miniature.

mod fake;
mod judge;
mod scenarios;
