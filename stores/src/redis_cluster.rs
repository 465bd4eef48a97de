//! A Redis Cluster of masters.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::{Instant, sleep};

use crate::{Redis, ports};

/// Hash slots of every Redis Cluster.
const SLOTS: usize = 16_384;
/// The nodes tell each other what they serve within about two seconds.
const FORMED_WITHIN: Duration = Duration::from_secs(30);

/// Masters that share the hash slots evenly; no replicas.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts `masters` servers and waits until all of them serve.
    ///
    /// # Errors
    /// When `redis-server` is missing, or they do not become a cluster.
    pub async fn start(masters: usize) -> anyhow::Result<Self> {
        let mut nodes = vec![];
        for _ in 0..masters {
            let bus = ports::free().port().to_string();
            // A quarter of the default: a test that kills one does not want to wait.
            let args = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "4000"];
            nodes.push((Redis::start_with(&args).await?, bus));
        }
        for (n, (node, _)) in nodes.iter().enumerate() {
            let (first, last) = (n * SLOTS / masters, (n + 1) * SLOTS / masters - 1);
            node.call(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await?;
            node.call(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]).await?;
        }
        let (first, _) = nodes.first().context("a cluster has a node at least")?;
        for (node, bus) in &nodes[1..] {
            let port = node.addr().port().to_string();
            first.call(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]).await?;
        }
        let cluster = Self { nodes: nodes.into_iter().map(|(node, _)| node).collect() };
        cluster.formed().await?;
        Ok(cluster)
    }

    /// Waits until every node says that all slots are served.
    ///
    /// # Errors
    /// When one does not.
    pub async fn formed(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + FORMED_WITHIN;
        for node in &self.nodes {
            loop {
                let info = node.call(&["CLUSTER", "INFO"]).await?;
                let known = format!("cluster_known_nodes:{}\r", self.nodes.len());
                if info.contains("cluster_state:ok") && info.contains(&known) {
                    break;
                }
                ensure!(Instant::now() < deadline, "no cluster of {} yet: {info}", self.nodes.len());
                sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// The servers.
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// `redis://HOST:PORT` of each.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }
}
