//! How much memory a process may take, and how much it has.
//!
//! A service adds up the bounds of its configuration ([`Service::memory_bound`]); here comes on top what every process
//! has. In words, for a process of one service:
//!
//! > base + what the service's configuration allows
//! > + 3 × `RPC_BODY_BYTES` where other nodes call it (a request is there as bytes, decoded, and in parts as its answer)
//! > + `NODE_BYTES` for each node in the picture of the cluster
//!
//! and a quarter on top of everything but the base, which is what an allocator keeps in pages that are partly free. The
//! figure is told by `--check` and, with the nodes that there are, as `longwire_memory_bound_bytes`; beside it stands
//! `process_resident_memory_bytes`.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use cluster::{Picture, Role};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::sync::watch;

use crate::{
    Service,
    rpc_server::{NODE_WINDOW, RPC_BODY_BYTES},
};

/// Code, its constants, the runtime with its threads' stacks and the allocator's arenas for them, the admin port with a
/// CPU profile being taken: 30 to 50 MiB were seen in a release build, and up to 80 MiB in one for debugging.
pub const BASE_BYTES: u64 = 96 << 20;

/// For each other node: the windows of the two connections to and from it, and their buffers of TLS and HTTP/2.
pub const NODE_BYTES: u64 = 2 * (NODE_WINDOW as u64) + (256 << 10);

/// The bound of a process of one service, in a cluster of so many nodes. Bytes.
#[must_use]
pub fn memory_bound<S: Service>(config: &S::Config, nodes: usize) -> u64 {
    with_nodes(S::ROLE, S::memory_bound(config), nodes)
}

fn with_nodes(role: Role, service: u64, nodes: usize) -> u64 {
    let called = match role {
        // Nobody in the cluster calls them for more than their state.
        Role::Center | Role::Dispatcher => 0,
        Role::Coordinator | Role::Register | Role::Room | Role::Saver => 3 * RPC_BODY_BYTES as u64,
    };
    let held = service.saturating_add(called).saturating_add(NODE_BYTES.saturating_mul(nodes as u64));
    BASE_BYTES.saturating_add(held).saturating_add(held / 4)
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RoleLabel {
    role: &'static str,
}

struct Of {
    service: u64,
    picture: watch::Receiver<Arc<Picture>>,
}

/// The gauges of a process. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    bounds: Arc<Mutex<BTreeMap<Role, Of>>>,
    bound: Family<RoleLabel, Gauge>,
    resident: Gauge,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl Memory {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("process_resident_memory_bytes", "Memory in use", self.resident.clone());
        registry.register(
            "longwire_memory_bound_bytes",
            "The most memory that the configuration allows, by service",
            self.bound.clone(),
        );
    }

    /// This is what the service's configuration allows, from now on.
    pub(crate) fn set(&self, role: Role, service: u64, picture: watch::Receiver<Arc<Picture>>) {
        let mut bounds = self.bounds.lock().unwrap_or_else(PoisonError::into_inner);
        bounds.insert(role, Of { service, picture });
    }

    /// Brings the gauges up to date.
    pub(crate) fn refresh(&self) {
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.resident.set(signed(resident().unwrap_or(0)));
        for (role, of) in &*self.bounds.lock().unwrap_or_else(PoisonError::into_inner) {
            let bytes = with_nodes(*role, of.service, of.picture.borrow().nodes().len());
            self.bound.get_or_create(&RoleLabel { role: role.as_str() }).set(signed(bytes));
        }
    }
}

/// Bytes of this process in memory, where the system tells.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Bytes for people: `312 MiB`.
pub(crate) fn readable(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use cluster::{NodeId, NodeInfo};

    use super::*;

    #[test]
    fn the_bound_grows_with_the_cluster_and_is_shown_beside_what_is_used() {
        let nodes = vec![NodeInfo::new(Role::Room, NodeId(1)), NodeInfo::new(Role::Saver, NodeId(2))];
        let (pictures, picture) = watch::channel(Arc::new(Picture::default()));
        let memory = Memory::default();
        memory.set(Role::Room, 100 << 20, picture);
        memory.refresh();
        let shown = |memory: &Memory| memory.bound.get_or_create(&RoleLabel { role: "room" }).get() as u64;
        let alone = shown(&memory);
        assert_eq!(alone, BASE_BYTES + ((100 << 20) + 3 * RPC_BODY_BYTES as u64) / 4 * 5);
        pictures.send_replace(Arc::new(Picture::new(1, nodes)));
        memory.refresh();
        assert_eq!(shown(&memory), alone + 2 * NODE_BYTES / 4 * 5);
        assert!(memory.resident.get() > 1 << 20, "a test takes more than a megabyte");
    }
}
