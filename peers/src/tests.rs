//! Whole calls: real clients over cluster's local transport to services made up for the test. Time is paused.

mod directory;
mod fake_room;
mod fake_saver;
mod fakes;
mod rooms;
mod routing;
mod savers;
mod town;
