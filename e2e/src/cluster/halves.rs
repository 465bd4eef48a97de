//! Two network namespaces, joined by a bridge to this one, which can be cut from each other.
//!
//! Namespaces rather than proxies: every connection of a node is cut, whoever opened it, and in the way a broken switch
//! cuts it, without a word to either side.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
};

use anyhow::{Context as _, ensure};
use tokio::process::Command;

/// What cannot reach what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The halves each other; both reach the stores.
    Between,
    /// The second half cannot reach the first, nor the stores.
    Isolated,
}

/// The network of a cluster. The namespaces go when it is dropped.
#[derive(Debug)]
pub struct Halves {
    /// Number of this network: no other process of tests has it.
    number: u16,
}

impl Halves {
    /// Makes the namespaces.
    ///
    /// # Errors
    /// When this is not root, or `ip` (package iproute2) is missing.
    pub(super) async fn make() -> anyhow::Result<Self> {
        // A block of ports is locked by this process: what belongs to its number is left over from a dead one.
        let halves = Self { number: stores::ports::free().port() / stores::ports::BLOCK };
        halves.remove();
        let bridge = halves.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"]).await?;
        ip(&["addr", "add", &format!("{}/24", halves.here()), "dev", &bridge]).await?;
        ip(&["link", "set", &bridge, "up"]).await?;
        for half in [1, 2] {
            let (space, veth) = (halves.namespace(half), format!("{bridge}{half}"));
            ip(&["netns", "add", &space]).await?;
            ip(&["link", "add", &veth, "type", "veth", "peer", "name", "eth0", "netns", &space]).await?;
            ip(&["link", "set", &veth, "master", &bridge, "up"]).await?;
            let address = format!("{}/24", halves.address(half));
            ip(&["-n", &space, "addr", "add", &address, "dev", "eth0"]).await?;
            ip(&["-n", &space, "link", "set", "eth0", "up"]).await?;
            ip(&["-n", &space, "link", "set", "lo", "up"]).await?;
        }
        Ok(halves)
    }

    /// Address of this namespace, as the nodes see it.
    pub fn here(&self) -> Ipv4Addr {
        self.host(1)
    }

    /// Address of the nodes of a half, 1 or 2.
    pub fn address(&self, half: u8) -> Ipv4Addr {
        self.host(half + 1)
    }

    fn host(&self, last: u8) -> Ipv4Addr {
        // Numbers begin at 200; a block of 10.0.0.0/8 that test machines hardly use.
        Ipv4Addr::new(10, 231, u8::try_from(self.number - 200).unwrap_or(u8::MAX), last)
    }

    fn bridge(&self) -> String {
        format!("lw{}", self.number)
    }

    fn namespace(&self, half: u8) -> String {
        format!("lw{}-{half}", self.number)
    }

    /// What to put before a command so that it runs in a half.
    pub(super) fn inside(&self, half: u8) -> Vec<String> {
        let file = format!("/var/run/netns/{}", self.namespace(half));
        vec!["nsenter".to_owned(), format!("--net={file}")]
    }

    /// Cuts the network until [`Halves::heal`]. `stores`: what an isolated half cannot reach either.
    ///
    /// # Errors
    /// When `nft` (package nftables) is missing or fails.
    pub async fn cut(&self, cut: Cut, stores: &[SocketAddr]) -> anyhow::Result<()> {
        let other = self.address(1);
        let mut rules = format!(
            "add table inet cut\n\
             add chain inet cut in {{ type filter hook input priority 0 ; }}\n\
             add chain inet cut out {{ type filter hook output priority 0 ; }}\n\
             add rule inet cut in ip saddr {other} drop\n\
             add rule inet cut out ip daddr {other} drop\n"
        );
        if cut == Cut::Isolated {
            let here = self.here();
            for port in stores.iter().map(SocketAddr::port) {
                rules += &format!(
                    "add rule inet cut in ip saddr {here} tcp sport {port} drop\n\
                     add rule inet cut out ip daddr {here} tcp dport {port} drop\n"
                );
            }
        }
        self.nft(&rules).await
    }

    /// Everybody reaches everybody again.
    ///
    /// # Errors
    /// When `nft` fails.
    pub async fn heal(&self) -> anyhow::Result<()> {
        self.nft("add table inet cut\ndelete table inet cut\n").await
    }

    /// In the second half's namespace.
    async fn nft(&self, rules: &str) -> anyhow::Result<()> {
        let inside = self.inside(2);
        let output = Command::new(&inside[0])
            .args([&inside[1], "nft", rules])
            .stdin(Stdio::null())
            .output()
            .await
            .context("nft is missing: apt-get install nftables")?;
        ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// What is not there is not missed.
    fn remove(&self) {
        let (first, second) = (self.namespace(1), self.namespace(2));
        for args in [["link", "del", &self.bridge()], ["netns", "del", &first], ["netns", "del", &second]] {
            let _ = std::process::Command::new("ip").args(args).stderr(Stdio::null()).status();
        }
    }
}

impl Drop for Halves {
    fn drop(&mut self) {
        self.remove();
    }
}

async fn ip(args: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output().await;
    let output = output.context("ip is missing: apt-get install iproute2")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {error}(network namespaces take root)", args.join(" "));
    Ok(())
}
