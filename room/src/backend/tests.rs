//! The tokio side against simulated services and a simulated thread, in paused time.

mod binds;
mod cluster;
mod logs;
mod over;
mod renewals;
mod rest;
mod speed;
mod storm;
mod together;
