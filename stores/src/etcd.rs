//! etcd, alone or as a cluster.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{Data, Server, ports};

/// A member on this machine answers in less, unless it hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Files of a certificate for servers and peers (names `localhost`, 127.0.0.1), and of the CA that clients are of too.
#[derive(Clone, Debug)]
pub struct EtcdTls {
    /// PEM.
    pub ca: PathBuf,
    /// PEM.
    pub cert: PathBuf,
    /// PEM.
    pub key: PathBuf,
}

/// One or more members. With TLS, clients need a certificate of the CA.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    // After `members`: the processes end before their folder goes.
    #[expect(dead_code, reason = "kept until the members have ended")]
    folder: TempDir,
}

/// A server of an [`Etcd`].
#[derive(Debug)]
pub struct Member {
    server: Server,
    endpoint: String,
    client: SocketAddr,
    /// Health and metrics, without TLS.
    metrics: SocketAddr,
    data: PathBuf,
}

struct Ports {
    client: SocketAddr,
    peer: SocketAddr,
    metrics: SocketAddr,
}

impl Etcd {
    /// A single member without TLS, healthy.
    ///
    /// # Errors
    /// When `etcd` is missing or does not start.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_cluster(1, None).await
    }

    /// Members that have elected a leader.
    ///
    /// # Errors
    /// When `etcd` is missing or does not start.
    pub async fn start_cluster(members: usize, tls: Option<EtcdTls>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("longwire-etcd-").tempdir()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let all: Vec<_> = (0..members)
            .map(|_| Ports { client: ports::free(), peer: ports::free(), metrics: ports::free() })
            .collect();
        let cluster: Vec<_> =
            all.iter().enumerate().map(|(n, p)| format!("etcd-{n}={scheme}://{}", p.peer)).collect();
        let cluster = cluster.join(",");
        let members: anyhow::Result<Vec<_>> = all
            .iter()
            .enumerate()
            .map(|(n, ports)| Member::new(folder.path(), n, ports, scheme, &cluster, tls.as_ref()))
            .collect();
        let etcd = Self { members: members?, folder };
        for member in &etcd.members {
            member.server.start()?;
        }
        for member in &etcd.members {
            member.ready().await?;
        }
        Ok(etcd)
    }

    /// `http://HOST:PORT` (`https` with TLS) of every member.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Member::endpoint).collect()
    }

    /// How many there are, running or not.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Never: there is one at least.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The n-th, from 0.
    ///
    /// # Panics
    /// When there is none.
    pub fn member(&self, n: usize) -> &Member {
        &self.members[n]
    }

    /// All of them.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member that leads now.
    ///
    /// # Errors
    /// When none says so.
    pub async fn leader(&self) -> anyhow::Result<usize> {
        for (n, member) in self.members.iter().enumerate() {
            let metrics = member.get("/metrics").await.unwrap_or_default();
            if metrics.lines().any(|l| l == "etcd_server_is_leader 1") {
                return Ok(n);
            }
        }
        anyhow::bail!("no member of etcd leads")
    }
}

impl Member {
    fn new(
        folder: &Path,
        n: usize,
        ports: &Ports,
        scheme: &str,
        cluster: &str,
        tls: Option<&EtcdTls>,
    ) -> anyhow::Result<Self> {
        let name = format!("etcd-{n}");
        let data = folder.join(&name);
        let Ports { client, peer, metrics } = ports;
        let mut command = vec![crate::find("etcd")?.into_os_string()];
        for (option, value) in [
            ("name", name.clone()),
            ("listen-client-urls", format!("{scheme}://{client}")),
            ("advertise-client-urls", format!("{scheme}://{client}")),
            ("listen-peer-urls", format!("{scheme}://{peer}")),
            ("initial-advertise-peer-urls", format!("{scheme}://{peer}")),
            ("listen-metrics-urls", format!("http://{metrics}")),
            ("initial-cluster", cluster.to_owned()),
            ("initial-cluster-token", "longwire-test".to_owned()),
            ("log-level", "warn".to_owned()),
            ("logger", "zap".to_owned()),
        ] {
            command.push(format!("--{option}={value}").into());
        }
        command.push(joined("--data-dir=", &data));
        if let Some(tls) = tls {
            for side in ["", "peer-"] {
                command.push(joined(&format!("--{side}cert-file="), &tls.cert));
                command.push(joined(&format!("--{side}key-file="), &tls.key));
                command.push(joined(&format!("--{side}trusted-ca-file="), &tls.ca));
                command.push(format!("--{side}client-cert-auth").into());
            }
        }
        let server = Server::new(&name, command, folder.join(format!("{name}.log")));
        Ok(Self {
            server,
            endpoint: format!("{scheme}://{client}"),
            client: *client,
            metrics: *metrics,
            data,
        })
    }

    /// Where clients find it.
    pub fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// Where clients find it, without the scheme.
    pub fn addr(&self) -> SocketAddr {
        self.client
    }

    /// Process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// Its process: to pause it, for example.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// kill -9.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.server.kill().await
    }

    /// Starts it again after it was killed, and waits until it is healthy, which takes a leader. Only a member that is
    /// alone can start without its data: the others would refuse it.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_again(&self, data: Data) -> anyhow::Result<()> {
        if data == Data::Wipe {
            fs::remove_dir_all(&self.data)?;
        }
        self.server.start()?;
        self.ready().await
    }

    /// Waits until it is healthy.
    ///
    /// # Errors
    /// When it ends or does not get there.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let healthy = async || {
            let health = self.get("/health").await?;
            ensure!(health.contains("\"true\""), "{health}");
            Ok(())
        };
        self.server.ready(healthy).await.context("starting etcd")
    }

    /// What its metrics port answers.
    async fn get(&self, path: &str) -> anyhow::Result<String> {
        let answer = async {
            let mut connection = TcpStream::connect(self.metrics).await?;
            let request = format!("GET {path} HTTP/1.0\r\n\r\n");
            connection.write_all(request.as_bytes()).await?;
            let mut text = String::new();
            connection.read_to_string(&mut text).await?;
            anyhow::Ok(text)
        };
        timeout(ANSWER_WITHIN, answer).await.context("etcd does not answer")?
    }
}

fn joined(option: &str, path: &Path) -> OsString {
    let mut text = OsString::from(option);
    text.push(path);
    text
}
