//! Certificates of a cluster: `longwire cert init`, once for each run of the tests' cluster.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use stores::EtcdTls;

use crate::up_process::{describe, finish, longwire};

/// A folder of certificates.
#[derive(Clone, Debug)]
pub(super) struct Certs {
    folder: PathBuf,
}

impl Certs {
    /// Makes a CA and the certificates of all roles. `hosts`: what etcd is reached by besides localhost.
    pub(super) async fn make(folder: &Path, hosts: &[String]) -> anyhow::Result<Self> {
        let folder = folder.join("certs");
        let mut command = longwire(folder.parent().unwrap_or(&folder))?;
        command.args(["cert", "init", "--out"]).arg(&folder);
        for host in hosts {
            command.args(["--host", host]);
        }
        let output = finish(command).await?;
        ensure!(output.status.success(), "longwire cert init: {}", describe(&output));
        Ok(Self { folder })
    }

    pub(super) fn etcd(&self) -> EtcdTls {
        EtcdTls { ca: self.file("ca.pem"), cert: self.file("etcd.pem"), key: self.file("etcd.key") }
    }

    /// Section `[tls]` of a role.
    pub(super) fn section(&self, role: &str) -> String {
        let file = |name: String| self.file(&name).display().to_string();
        format!(
            "[tls]\nmode = \"mutual\"\nca = {:?}\ncert = {:?}\nkey = {:?}\n",
            file("ca.pem".to_owned()),
            file(format!("{role}.pem")),
            file(format!("{role}.key"))
        )
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
