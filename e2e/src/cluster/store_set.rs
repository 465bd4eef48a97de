//! The servers behind a cluster: its own, or those that many tests share.

use std::{
    env,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use stores::{Etcd, EtcdTls, MariaDb, Redis};

use crate::{Proxy, cluster::layout::Backing};

/// etcd, Redis and MariaDB of a cluster.
#[derive(Debug)]
pub struct StoreSet {
    /// Name of the cluster in etcd and Redis, and of the database.
    pub cluster: String,
    /// Endpoints of etcd, as the nodes are told.
    pub etcd_endpoints: Vec<String>,
    /// URLs of Redis, as the nodes are told.
    pub redis_urls: Vec<String>,
    /// URL of the database, as the nodes are told.
    pub mysql_url: String,
    /// Folders of the files of Redis and MariaDB.
    pub folders: Vec<PathBuf>,
    /// Its own servers, unless they are shared.
    pub own: Option<OwnStores>,
}

/// Servers that only one cluster uses.
#[derive(Debug)]
pub struct OwnStores {
    /// Discovery.
    pub etcd: Etcd,
    /// Inboxes.
    pub redis: Redis,
    /// What follows it, if the layout has one.
    pub replica: Option<Redis>,
    /// Archive.
    pub db: MariaDb,
    /// In front of all of them, if the nodes cannot reach the loopback interface.
    pub proxies: Vec<Proxy>,
}

impl OwnStores {
    /// Redis and its replica.
    pub fn redises(&self) -> impl Iterator<Item = &Redis> {
        std::iter::once(&self.redis).chain(&self.replica)
    }

    /// The Redis that is the primary now.
    ///
    /// # Errors
    /// When none says so.
    pub async fn primary(&self) -> anyhow::Result<&Redis> {
        for redis in self.redises() {
            if redis.server().is_running() && redis.is_primary().await? {
                return Ok(redis);
            }
        }
        anyhow::bail!("no Redis is a primary")
    }

    /// The other Redis.
    pub fn other(&self, one: &Redis) -> Option<&Redis> {
        self.redises().find(|redis| redis.addr() != one.addr())
    }
}

impl StoreSet {
    /// Starts or finds the servers. `seen_from`: the address by which nodes in other network namespaces see this one.
    pub(super) async fn start(
        backing: &Backing,
        tls: EtcdTls,
        seen_from: Option<Ipv4Addr>,
    ) -> anyhow::Result<Self> {
        let cluster = format!("e2e_{:016x}", rand::random::<u64>());
        let (etcd, mariadb, replica) = match backing {
            Backing::Own { etcd, mariadb, replica } => (*etcd, mariadb.clone(), *replica),
            _ => match Self::shared(&cluster).await? {
                Some(shared) => return Ok(shared),
                None => (1, None, false),
            },
        };
        let temp = env::temp_dir();
        let tls = (etcd > 1).then_some(tls);
        let (etcd, redis, db) = tokio::try_join!(
            Etcd::start_cluster(etcd, tls),
            Redis::start(),
            MariaDb::start_in(mariadb.as_deref().unwrap_or(&temp))
        )?;
        let replica = if replica { Some(Redis::replica_of(&redis).await?) } else { None };
        let mysql_url = db.url(&cluster).await?;
        let mut set = Self {
            cluster,
            etcd_endpoints: vec![],
            redis_urls: vec![],
            mysql_url: String::new(),
            folders: [redis.folder(), db.folder()].map(Path::to_owned).to_vec(),
            own: Some(OwnStores { etcd, redis, replica, db, proxies: Vec::new() }),
        };
        set.tell(&mysql_url, seen_from).await?;
        Ok(set)
    }

    /// Notes how the nodes reach its own servers: directly, or by proxies at this address.
    async fn tell(&mut self, mysql_url: &str, seen_from: Option<Ipv4Addr>) -> anyhow::Result<()> {
        let Some(own) = &mut self.own else { return Ok(()) };
        let OwnStores { etcd, redis, replica, db, proxies } = own;
        let mut told = async |url: &str, to: SocketAddr| {
            let Some(address) = seen_from else { return Ok(url.to_owned()) };
            let proxy = Proxy::start((address, to.port()).into(), to).await?;
            let url = url.replace(&to.to_string(), &proxy.address().to_string());
            proxies.push(proxy);
            anyhow::Ok(url)
        };
        for member in etcd.members() {
            self.etcd_endpoints.push(told(&member.endpoint(), member.addr()).await?);
        }
        for redis in [&*redis].into_iter().chain(replica.as_ref()) {
            self.redis_urls.push(told(&redis.url(), redis.addr()).await?);
        }
        self.mysql_url = told(mysql_url, db.addr()).await?;
        Ok(())
    }

    /// The servers that were started for all tests.
    async fn shared(cluster: &str) -> anyhow::Result<Option<Self>> {
        let (Ok(etcd), Ok(redis), Ok(mysql)) =
            (env::var("E2E_ETCD"), env::var("E2E_REDIS"), env::var("E2E_MYSQL"))
        else {
            return Ok(None);
        };
        let server = mysql.rsplit('@').next().unwrap_or_default().parse().context("E2E_MYSQL")?;
        stores::create_database(server, cluster).await?;
        Ok(Some(Self {
            etcd_endpoints: etcd.split(',').map(str::to_owned).collect(),
            redis_urls: vec![redis],
            mysql_url: format!("{mysql}/{cluster}"),
            folders: env::var_os("E2E_FOLDERS").iter().flat_map(env::split_paths).collect(),
            own: None,
            cluster: cluster.to_owned(),
        }))
    }
}
