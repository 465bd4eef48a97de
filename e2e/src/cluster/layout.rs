//! How a cluster of processes is to be laid out.

use std::path::PathBuf;

/// What a test wants otherwise than a cluster of its usual kind. The default is that kind: discovery by etcd, inboxes
/// in Redis, archive in MariaDB, all of them shared with other tests if `./test` started them, and TLS.
#[derive(Clone, Debug)]
pub struct Layout {
    /// How many rooms. A process may open as many files as the system lets it, so many devices take many rooms.
    pub rooms: u32,
    /// Where the nodes find each other and keep what they store.
    pub backing: Backing,
    /// Processes by name whose rpc port is behind a [`crate::Proxy`], which can slow it down. Not with `halves`: it
    /// would be a way around the cut.
    pub proxied: Vec<String>,
    /// The processes run in two network namespaces, which can be cut from each other. Takes root.
    pub halves: bool,
    /// Processes by name whose clock can be changed.
    pub clocks: Vec<String>,
}

impl Default for Layout {
    fn default() -> Self {
        Self { rooms: 2, backing: Backing::default(), proxied: Vec::new(), halves: false, clocks: Vec::new() }
    }
}

impl Layout {
    /// Names of all processes, with their roles, in the order in which they start.
    pub(super) fn names(&self) -> impl Iterator<Item = (&'static str, String)> {
        let nodes = [
            ("saver", 2),
            ("register", 2),
            ("coordinator", 1),
            ("room", self.rooms),
            ("center", 2),
            ("dispatcher", 1),
        ];
        nodes.into_iter().flat_map(|(role, count)| (1..=count).map(move |n| (role, format!("{role}-{n}"))))
    }
}

/// Where the nodes of a cluster find each other and keep what they store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Backing {
    /// A fixed list of peers in plain text; savers in one process's memory, and SQLite.
    Embedded,
    /// The servers that the variables `E2E_ETCD`, `E2E_REDIS` and `E2E_MYSQL` name, else as `Own` with one etcd.
    #[default]
    Shared,
    /// Servers of its own, which a test may break.
    Own {
        /// Members of etcd, with TLS if there are more than one.
        etcd: usize,
        /// Where MariaDB's data goes; default: the folder for temporary files.
        mariadb: Option<PathBuf>,
        /// A replica of Redis, which can be promoted.
        replica: bool,
    },
}

impl Backing {
    /// Servers of its own: three etcd members, Redis, MariaDB.
    pub fn own() -> Self {
        Self::Own { etcd: 3, mariadb: None, replica: false }
    }
}

/// Whether a process belongs to the second half of a cluster whose network is in two halves.
pub(super) fn in_second_half(name: &str) -> bool {
    name.ends_with("-2") || name.starts_with("dispatcher")
}
