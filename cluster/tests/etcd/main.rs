//! Discovery against a real etcd: what happens to a node when etcd, its lease or its id goes away.

#![allow(clippy::unwrap_used, reason = "the lint knows only functions marked as tests")]

mod config;
mod failures;
mod harness;
mod nodes;
mod tls;
