//! Nodes as lines of text.

use cluster::{ConfigReport, NodeInfo, NodeState};

pub(super) use crate::table::Table;

/// What `node list` prints.
pub(super) fn list(nodes: &[NodeInfo]) -> Table {
    let head = ["ROLE", "ID", "ZONE", "STATE", "ADDRESS", "VERSION", "CONNECTIONS", "CONFIGURATION"];
    let mut table = Table::new(&head);
    for node in nodes {
        table.row([
            node.role.to_string(),
            node.id.to_string(),
            node.zone.clone(),
            state(node.state).to_owned(),
            node.rpc.clone().unwrap_or_else(|| "-".to_owned()),
            node.version.clone(),
            load(node.load.connections, node.load.capacity),
            config(&node.config),
        ]);
    }
    table
}

pub(super) fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Starting => "starting",
        NodeState::Ready => "ready",
        NodeState::Draining => "draining",
        NodeState::Down => "down",
    }
}

/// Connections of how many; only rooms have any.
pub(super) fn load(connections: u64, capacity: u64) -> String {
    if capacity == 0 { "-".to_owned() } else { format!("{connections}/{capacity}") }
}

fn config(report: &ConfigReport) -> String {
    let mut text = match report.revision {
        0 => "its own".to_owned(),
        revision => format!("revision {revision}"),
    };
    if !report.restart.is_empty() {
        text += &format!(", needs a restart for {}", report.restart.join(", "));
    }
    if let Some(refused) = &report.refused {
        text += &format!(", refused {}: {}", refused.revision, refused.reason);
    }
    text
}

#[cfg(test)]
mod tests {
    use cluster::{Load, NodeId, Refused, Role};

    use super::*;

    #[test]
    fn a_list_is_aligned_and_tells_of_configuration() {
        let saver = NodeInfo {
            rpc: Some("10.0.0.1:7801".to_owned()),
            state: NodeState::Ready,
            version: "0.1.0".to_owned(),
            zone: "eu".to_owned(),
            config: ConfigReport {
                revision: 7,
                refused: Some(Refused {
                    revision: 9,
                    reason: "saver.max_loads: must be at least 1".to_owned(),
                }),
                restart: vec!["archive".to_owned()],
            },
            ..NodeInfo::new(Role::Saver, NodeId(1))
        };
        let room = NodeInfo {
            load: Load { connections: 12, capacity: 1000 },
            config: ConfigReport::default(),
            ..NodeInfo { id: NodeId(12), role: Role::Room, ..saver.clone() }
        };
        assert_eq!(
            list(&[room, saver]).to_string(),
            "ROLE   ID  ZONE  STATE  ADDRESS        VERSION  CONNECTIONS  CONFIGURATION\n\
             room   12  eu    ready  10.0.0.1:7801  0.1.0    12/1000      its own\n\
             saver  1   eu    ready  10.0.0.1:7801  0.1.0    -            revision 7, needs a restart for archive, \
             refused 9: saver.max_loads: must be at least 1\n"
        );
    }
}
