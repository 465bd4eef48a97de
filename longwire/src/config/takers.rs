//! What became of a configuration that was written.

use std::{fmt, time::Duration};

use cluster::{
    NodeInfo, Role,
    etcd::{Admin, Target},
};
use service::ExitError;
use tokio::time::{Instant, sleep};

/// Nodes see a change in milliseconds, and tell of it with their next report.
const WAIT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What a node has made of a revision.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    Yes,
    Restart(Vec<String>),
    Refused(String),
    Unknown,
}

impl Taken {
    fn of(node: &NodeInfo, revision: u64) -> Self {
        let report = &node.config;
        match &report.refused {
            Some(refused) if refused.revision >= revision => Self::Refused(refused.reason.clone()),
            _ if report.revision < revision => Self::Unknown,
            _ if !report.restart.is_empty() => Self::Restart(report.restart.clone()),
            _ => Self::Yes,
        }
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes => f.write_str("took it"),
            Self::Restart(keys) => write!(f, "took it; needs a restart for {}", keys.join(", ")),
            Self::Refused(reason) => write!(f, "refused it: {reason}"),
            Self::Unknown => f.write_str("has not answered yet"),
        }
    }
}

/// Waits until each node that the configuration is for has told what it made of it, or 5 s.
pub(super) async fn wait(admin: &Admin, role: Role, target: Target, revision: u64) -> Result<(), ExitError> {
    let concerned =
        |node: &NodeInfo| node.role == role && (target == Target::Default || target == Target::Node(node.id));
    let deadline = Instant::now() + WAIT;
    let all = loop {
        let nodes = admin.nodes().await.map_err(ExitError::failure)?;
        let concerned = nodes.iter().filter(|node| concerned(node));
        let all: Vec<_> = concerned.map(|node| (node.id, Taken::of(node, revision))).collect();
        if Instant::now() >= deadline || all.iter().all(|(_, taken)| *taken != Taken::Unknown) {
            break all;
        }
        sleep(LOOK_EVERY).await;
    };
    for (id, taken) in &all {
        outln!("  {role}/{id} {taken}");
    }
    if all.is_empty() {
        outln!("  no such node is running: it is taken when one starts");
    }
    match all.iter().filter(|(_, taken)| matches!(taken, Taken::Refused(_))).count() {
        0 => Ok(()),
        n => Err(ExitError::failure(format!(
            "refused by {n} of {} nodes, which go on with what they had",
            all.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use cluster::{ConfigReport, NodeId, Refused};

    use super::*;

    #[test]
    fn a_report_is_understood() {
        let taken = |revision, refused: Option<u64>, restart: &[&str]| {
            let refused = refused.map(|revision| Refused { revision, reason: "why".to_owned() });
            let restart = restart.iter().map(|k| (*k).to_owned()).collect();
            let config = ConfigReport { revision, refused, restart };
            Taken::of(&NodeInfo { config, ..NodeInfo::new(Role::Room, NodeId(1)) }, 10).to_string()
        };
        assert_eq!(taken(9, None, &[]), "has not answered yet");
        assert_eq!(taken(10, None, &[]), "took it");
        assert_eq!(taken(11, Some(9), &[]), "took it");
        assert_eq!(taken(10, None, &["listen", "threads"]), "took it; needs a restart for listen, threads");
        assert_eq!(taken(9, Some(10), &[]), "refused it: why");
        assert_eq!(taken(9, Some(8), &["old"]), "has not answered yet");
    }
}
