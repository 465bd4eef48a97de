//! Whole calls: real clients over cluster's local transport to services made up for the test, in paused time; and
//! once over real connections, whose failures look different.

mod directory;
mod fake_room;
mod fake_saver;
mod fakes;
mod membership;
mod network;
mod parcels;
mod rooms;
mod routing;
mod savers;
mod town;
