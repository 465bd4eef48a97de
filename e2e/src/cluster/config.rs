//! The configuration files of the processes.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use super::store_set::StoreSet;

/// Where a process listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listens {
    /// gRPC of the services.
    pub(super) rpc: SocketAddr,
    /// Health and metrics.
    pub(super) admin: SocketAddr,
    /// Devices, API or routes; others do not use it.
    pub(super) public: SocketAddr,
}

impl Listens {
    /// Free ports at an address.
    pub(super) fn at(address: IpAddr) -> Self {
        let free = || SocketAddr::new(address, stores::ports::free().port());
        Self { rpc: free(), admin: free(), public: free() }
    }
}

/// Sections of a process of this role, but for those that say where its peers and stores are.
pub(super) fn of_role(role: &str, folder: &Path, name: &str, listens: &Listens, key_file: &Path) -> String {
    let Listens { admin, public, .. } = listens;
    let mut own = format!(
        "[admin]\nlisten = \"{admin}\"\n[node]\ndata = {:?}\n",
        folder.join(name).display().to_string()
    );
    let role_section = match role {
        "room" | "dispatcher" => format!("[{role}]\nlisten = \"{public}\"\n"),
        "center" => format!(
            "[center]\nlisten = \"{public}\"\n[center.auth]\nunknown_key_ttl = \"200ms\"\n\
             [center.bootstrap]\napp = \"demo\"\nkey_file = {key_file:?}\n"
        ),
        _ => String::new(),
    };
    own += &role_section;
    own
}

/// Sections that say so for a fixed list of peers and an embedded archive.
pub(super) fn embedded(role: &str, id: u32, peers: &str, folder: &Path) -> String {
    let archive = folder.join("archive.db").display().to_string();
    let saver = if role == "saver" { format!("[saver]\narchive = {archive:?}\n") } else { String::new() };
    format!(
        "[node]\nid = {id}\n[tls]\nmode = \"plaintext\"\n[discovery]\nkind = \"static\"\npeers = [\n{peers}]\n{saver}"
    )
}

/// Sections that say so for etcd, Redis and MariaDB. `advertise`: what others call its rpc port by.
pub(super) fn backed(role: &str, rpc: SocketAddr, advertise: SocketAddr, stores: &StoreSet) -> String {
    let StoreSet { cluster, etcd_endpoints, redis_urls, mysql_url, .. } = stores;
    let mut own = format!(
        "[discovery]\nkind = \"etcd\"\nendpoints = {etcd_endpoints:?}\ncluster = \"{cluster}\"\n\
         [rpc]\nlisten = \"{rpc}\"\nadvertise = \"{advertise}\"\n"
    );
    if role == "saver" {
        // Writing to a string does not fail.
        let _ = write!(
            own,
            "[saver.stores]\nkind = \"cluster\"\n[saver.redis]\nname = \"{cluster}\"\nnodes = {redis_urls:?}\n[saver.mysql]\nurl = \"{mysql_url}\"\n"
        );
    }
    own
}
