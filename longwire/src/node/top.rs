//! `longwire node top`.

use std::{
    collections::HashMap,
    fmt,
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use cluster::{NodeId, NodeInfo, NodeState, Role};
use futures::{StreamExt as _, stream};
use proto::internal as rpc;
use service::{ExitError, signals};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::table::{self, Table};
use crate::{args, operator::Operator};

/// Nodes tell discovery their load every second or two.
const REFRESH: Duration = Duration::from_secs(2);
/// A node that takes longer is shown without an answer.
const ASK_TIMEOUT: Duration = Duration::from_millis(900);
/// Nodes asked at the same time; a cluster has tens, the ids allow a thousand.
const AT_ONCE: usize = 64;
/// For the first picture.
const FIRST_PICTURE: Duration = Duration::from_secs(5);
/// ANSI: to the first line, and clear what is below.
const HOME: &str = "\x1b[H\x1b[J";

type Clients = HashMap<(Role, NodeId, String), rpc::node_client::NodeClient<cluster::Transport>>;

pub(super) async fn run(args: args::NodeTop) -> Result<(), ExitError> {
    let operator = Operator::open(&args.operator).await?;
    let mut top = Top { operator, clients: HashMap::new(), before: HashMap::new() };
    if !std::io::stdout().is_terminal() {
        let nodes = top.operator.admin.nodes().await.map_err(ExitError::failure)?;
        out!("{}", top.look(&nodes).await);
        return Ok(());
    }
    let cancel = CancellationToken::new();
    let _stop = cancel.clone().drop_guard();
    // The last picture stays when etcd goes away: then the nodes still answer for themselves.
    let mut picture = top.operator.admin.follow(cancel);
    // If none comes, etcd has just gone; the screen shows an empty cluster until it is back.
    let _ = timeout(FIRST_PICTURE, picture.changed()).await;
    let mut tick = interval(REFRESH);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shutdown = std::pin::pin!(signals::shutdown());
    loop {
        tokio::select! {
            signal = &mut shutdown => return signal.map(drop).map_err(ExitError::failure),
            _ = tick.tick() => {}
        }
        let nodes = picture.borrow_and_update().nodes().to_vec();
        let screen = top.look(&nodes).await.to_string();
        let mut out = std::io::stdout().lock();
        // A terminal that has gone is the end, and no error.
        if write!(out, "{HOME}{screen}").and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
    }
}

struct Top {
    operator: Operator,
    clients: Clients,
    /// Connections at the last look.
    before: HashMap<(Role, NodeId), (u64, Instant)>,
}

/// What a node answered.
struct Answer {
    connections: u64,
    capacity: u64,
    state: NodeState,
    took: Duration,
}

impl Top {
    async fn look(&mut self, nodes: &[NodeInfo]) -> Table {
        let asked = stream::iter(nodes).map(|node| {
            let address = node.rpc.clone().unwrap_or_default();
            let known = self.clients.get(&(node.role, node.id, address.clone())).cloned();
            let client = known.map_or_else(|| self.operator.client(node), Ok);
            async move {
                let answer = match &client {
                    Ok(client) => ask(client.clone()).await,
                    Err(e) => Err(e.to_string()),
                };
                (node, address, client, answer)
            }
        });
        let answers: Vec<_> = asked.buffered(AT_ONCE).collect().await;
        self.clients.clear();
        let head = ["ROLE", "ID", "ZONE", "STATE", "CONNECTIONS", "FULL", "CHANGE/S", "ANSWERS IN"];
        let mut table = Table::new(&head);
        let before = std::mem::take(&mut self.before);
        let (mut total, mut capacity) = (0, 0);
        for (node, address, client, answer) in answers {
            if let Ok(client) = client {
                self.clients.insert((node.role, node.id, address), client);
            }
            let name = (node.role, node.id);
            let (connections, of, state) = match &answer {
                Ok(a) => (a.connections, a.capacity, a.state),
                Err(_) => (node.load.connections, node.load.capacity, node.state),
            };
            let now = Instant::now();
            let rate = before
                .get(&name)
                .filter(|_| of > 0)
                .map(|(last, at)| Rate::of(*last, connections, now - *at));
            self.before.insert(name, (connections, now));
            (total, capacity) = (total + connections, capacity + of);
            table.row([
                node.role.to_string(),
                node.id.to_string(),
                node.zone.clone(),
                table::state(state).to_owned(),
                table::load(connections, of),
                full(connections, of),
                rate.map_or_else(|| "-".to_owned(), |rate| rate.to_string()),
                answer.map_or_else(|reason| reason, |a| format!("{:.1} ms", a.took.as_secs_f64() * 1000.0)),
            ]);
        }
        let dash = || "-".to_owned();
        let (nodes, load) = (format!("all {}", nodes.len()), table::load(total, capacity));
        table.row([
            nodes,
            String::new(),
            String::new(),
            String::new(),
            load,
            full(total, capacity),
            dash(),
            String::new(),
        ]);
        table
    }
}

async fn ask(mut client: rpc::node_client::NodeClient<cluster::Transport>) -> Result<Answer, String> {
    let began = Instant::now();
    let answer = timeout(ASK_TIMEOUT, client.status(rpc::StatusRequest::default())).await;
    let status =
        answer.map_err(|_| "no answer".to_owned())?.map_err(|s| s.message().to_owned())?.into_inner();
    let state = match status.state() {
        rpc::NodeState::Starting => NodeState::Starting,
        rpc::NodeState::Ready => NodeState::Ready,
        rpc::NodeState::Draining => NodeState::Draining,
    };
    let (connections, capacity) = (status.connections, status.capacity);
    Ok(Answer { connections, capacity, state, took: began.elapsed() })
}

fn full(connections: u64, capacity: u64) -> String {
    if capacity == 0 {
        "-".to_owned()
    } else {
        format!("{:.1}%", connections as f64 * 100.0 / capacity as f64)
    }
}

/// Connections gained or lost a second.
struct Rate(f64);

impl Rate {
    fn of(before: u64, now: u64, elapsed: Duration) -> Self {
        Self((now as f64 - before as f64) / elapsed.as_secs_f64().max(0.001))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:+.0}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_fill_are_told() {
        assert_eq!(Rate::of(100, 300, Duration::from_secs(2)).to_string(), "+100");
        assert_eq!(Rate::of(300, 100, Duration::from_secs(2)).to_string(), "-100");
        assert_eq!(full(1, 8), "12.5%");
        assert_eq!(full(0, 0), "-");
    }
}
