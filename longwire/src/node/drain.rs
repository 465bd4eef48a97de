//! `longwire node drain`.

use std::time::Duration;

use cluster::NodeInfo;
use proto::internal::DrainNodeRequest;
use service::ExitError;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    args::{self, NodeName},
    operator::Operator,
};

/// For the node to answer that it will drain.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) async fn run(args: args::NodeDrain) -> Result<(), ExitError> {
    let operator = Operator::open(&args.operator).await?;
    let name = args.node;
    let Some(node) = find(&operator, name).await? else {
        return Err(ExitError::usage(format!(
            "there is no {name}: `longwire node list` shows those that are"
        )));
    };
    let mut client = operator.client(&node)?;
    match timeout(ASK_TIMEOUT, client.drain(DrainNodeRequest {})).await {
        Ok(Ok(_)) => {}
        Ok(Err(status)) => {
            return Err(ExitError::failure(format!("{name} does not drain: {}", status.message())));
        }
        Err(_) => return Err(ExitError::failure(format!("{name} does not answer"))),
    }
    outln!("{name} drains");
    let (began, mut left) = (Instant::now(), None);
    while began.elapsed() < args.timeout {
        let now = find(&operator, name).await?.filter(|now| now.joined == node.joined);
        let Some(now) = now else {
            outln!("{name} is gone, after {:.1} s", began.elapsed().as_secs_f64());
            return Ok(());
        };
        if now.load.capacity > 0 && left != Some(now.load.connections) {
            left = Some(now.load.connections);
            outln!("  {} connections", now.load.connections);
        }
        sleep(LOOK_EVERY).await;
    }
    let waited = humantime::format_duration(args.timeout);
    Err(ExitError::failure(format!("{name} is still there after {waited}; it goes on draining")))
}

async fn find(operator: &Operator, NodeName(role, id): NodeName) -> Result<Option<NodeInfo>, ExitError> {
    let nodes = operator.admin.nodes().await.map_err(ExitError::failure)?;
    Ok(nodes.into_iter().find(|node| node.role == role && node.id == id))
}
