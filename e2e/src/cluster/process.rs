//! One process of a cluster.

use std::{ffi::OsString, net::SocketAddr, path::Path};

use stores::Server;

use super::{Clock, config::Listens};
use crate::{Proxy, program};

#[derive(Debug)]
pub(super) struct Process {
    pub(super) role: &'static str,
    pub(super) server: Server,
    pub(super) admin: SocketAddr,
    pub(super) rpc: SocketAddr,
    /// In front of its rpc port.
    pub(super) proxy: Option<Proxy>,
    /// That its system clock seems to be.
    pub(super) clock: Option<Clock>,
}

impl Process {
    /// Not started yet. `inside`: what to put before its command.
    pub(super) fn new(
        role: &'static str,
        name: &str,
        folder: &Path,
        listens: &Listens,
        inside: Vec<String>,
        clock: Option<Clock>,
        proxy: Option<Proxy>,
    ) -> anyhow::Result<Self> {
        let mut command: Vec<OsString> = inside.into_iter().map(Into::into).collect();
        command.push(program(role)?.into());
        command.push("--config".into());
        command.push(folder.join(format!("{name}.toml")).into());
        let env = clock.as_ref().map_or_else(|| Ok(vec![]), Clock::env)?;
        let server = Server::new(name, command, folder.join(format!("{name}.log"))).with_env(env);
        Ok(Self { role, server, admin: listens.admin, rpc: listens.rpc, proxy, clock })
    }
}
