//! What can be done to a cluster, and undone.

mod disk;
mod random;

use std::{fmt, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use rand::{SeedableRng as _, rngs::StdRng};
use stores::Data;
use tokio::time::sleep;

pub use self::{disk::SmallDisk, random::random};
use crate::{Cut, Processes, Traffic};

/// The seed of everything that happens at random: `E2E_SEED`, or another one each time. It is printed.
pub fn dice() -> (u64, StdRng) {
    let seed =
        std::env::var("E2E_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("E2E_SEED={seed}");
    (seed, StdRng::seed_from_u64(seed))
}

/// Something that breaks. [`Fault::strike`] begins it, [`Fault::heal`] ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// kill -9 of these processes at once; they are started again.
    Kill(Vec<String>),
    /// SIGSTOP of a process: it wakes as if no time had passed.
    Pause(String),
    /// kill -9 of Redis, which comes back with its data or without.
    Redis(Kept),
    /// SIGSTOP of Redis.
    PauseRedis,
    /// kill -9 of the primary of Redis; its replica is promoted at once, and it comes back as a replica.
    FailOver,
    /// kill -9 of MariaDB.
    MariaDb,
    /// SIGSTOP of MariaDB.
    PauseMariaDb,
    /// kill -9 of etcd's leader.
    EtcdLeader,
    /// SIGSTOP of etcd's leader.
    PauseEtcdLeader,
    /// kill -9 of all members of etcd.
    Etcd,
    /// The network between the halves of the cluster.
    Network(Cut),
    /// The clock of a process is wrong by so much: `+1h`, `-1h`.
    Clock(String, &'static str),
    /// Every call to a process takes a second.
    Slow(String),
}

/// Whether Redis finds what it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It does.
    All,
    /// It does not.
    Nothing,
}

/// How much slower a slow process' answers come.
pub const SLOW: Duration = Duration::from_secs(1);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Fault {
    /// It happens.
    ///
    /// # Errors
    /// When it cannot be done: a process has ended by itself, or the layout of the cluster does not allow it.
    pub async fn strike(&self, cluster: &Processes) -> anyhow::Result<()> {
        match self {
            Self::Kill(names) => {
                for name in names {
                    cluster.kill(name).await?;
                }
                Ok(())
            }
            Self::Pause(name) => cluster.pause(name),
            Self::Redis(_) => cluster.own_stores()?.primary().await?.kill().await,
            Self::PauseRedis => cluster.own_stores()?.primary().await?.server().pause(),
            Self::FailOver => {
                let own = cluster.own_stores()?;
                let old = own.primary().await?;
                let new = own.other(old).context("no replica to promote")?;
                old.kill().await?;
                new.promote().await
            }
            Self::MariaDb => cluster.own_stores()?.db.kill().await,
            Self::PauseMariaDb => cluster.own_stores()?.db.server().pause(),
            Self::EtcdLeader | Self::PauseEtcdLeader => {
                let etcd = &cluster.own_stores()?.etcd;
                let leader = etcd.member(etcd.leader().await?);
                if *self == Self::EtcdLeader { leader.kill().await } else { leader.server().pause() }
            }
            Self::Etcd => {
                for member in cluster.own_stores()?.etcd.members() {
                    member.kill().await?;
                }
                Ok(())
            }
            Self::Network(cut) => cluster.halves()?.cut(*cut, &stores_ports(cluster)?).await,
            Self::Clock(name, by) => cluster.clock(name)?.jump(by),
            Self::Slow(name) => {
                cluster.proxy(name)?.set(Traffic::Slow(SLOW));
                Ok(())
            }
        }
    }

    /// It is repaired; what was killed is started, and ready where that is cheap to wait for.
    ///
    /// # Errors
    /// When something does not start.
    pub async fn heal(&self, cluster: &Processes) -> anyhow::Result<()> {
        match self {
            Self::Kill(names) => names.iter().try_for_each(|name| cluster.spawn(name)),
            Self::Pause(name) => cluster.resume(name),
            Self::Redis(kept) => {
                let data = if *kept == Kept::All { Data::Keep } else { Data::Wipe };
                for redis in cluster.own_stores()?.redises().filter(|r| !r.server().is_running()) {
                    redis.start_again(data).await?;
                }
                Ok(())
            }
            Self::PauseRedis => cluster.own_stores()?.redises().try_for_each(|redis| redis.server().resume()),
            Self::FailOver => {
                let own = cluster.own_stores()?;
                let new = own.primary().await?;
                own.other(new).context("no other Redis")?.come_back_behind(new).await
            }
            Self::MariaDb => cluster.own_stores()?.db.start_again().await,
            Self::PauseMariaDb => cluster.own_stores()?.db.server().resume(),
            Self::PauseEtcdLeader => {
                cluster.own_stores()?.etcd.members().iter().try_for_each(|m| m.server().resume())
            }
            Self::EtcdLeader | Self::Etcd => {
                let members = cluster.own_stores()?.etcd.members();
                let dead: Vec<_> = members.iter().filter(|m| !m.server().is_running()).collect();
                dead.iter().try_for_each(|m| m.server().start())?;
                for member in dead {
                    member.ready().await?;
                }
                Ok(())
            }
            Self::Network(_) => cluster.halves()?.heal().await,
            Self::Clock(name, _) => cluster.clock(name)?.jump("+0"),
            Self::Slow(name) => {
                cluster.proxy(name)?.set(Traffic::Pass);
                Ok(())
            }
        }
    }

    /// Strikes, waits, heals, and waits until all processes are ready.
    ///
    /// # Errors
    /// When the cluster does not recover.
    pub async fn last(&self, cluster: &Processes, time: Duration) -> anyhow::Result<()> {
        self.strike(cluster).await.with_context(|| format!("{self} strikes"))?;
        sleep(time).await;
        self.heal(cluster).await.with_context(|| format!("{self} is healed"))?;
        cluster.ready().await.with_context(|| format!("after {self}"))
    }
}

/// Where the nodes reach the stores.
fn stores_ports(cluster: &Processes) -> anyhow::Result<Vec<SocketAddr>> {
    Ok(cluster.own_stores()?.proxies.iter().map(crate::Proxy::address).collect())
}
