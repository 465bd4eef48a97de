//! Starts real etcd, Redis and MariaDB servers in temporary folders, for tests.
//!
//! Every server listens on a free port of the loopback interface, ends when its value is dropped, and dies with the
//! process that started it, even if that is killed. None reads the system's configuration.

mod etcd;
mod mariadb;
pub mod ports;
mod programs;
mod redis;
mod redis_cluster;
mod resp;
mod server;
mod spawner;

pub use etcd::{Etcd, EtcdTls, Member};
pub use mariadb::{MariaDb, create_database};
pub use programs::{find, missing};
pub use redis::{Data, Redis};
pub use redis_cluster::RedisCluster;
pub use server::Server;
pub use spawner::{command, spawn};
