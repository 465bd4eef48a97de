//! `longwire node`: the nodes of a cluster.

mod drain;
mod table;
mod top;

use service::ExitError;

use crate::{args, operator::Operator};

pub(crate) async fn run(command: args::Node) -> Result<(), ExitError> {
    match command {
        args::Node::List(args) => list(args).await,
        args::Node::Top(args) => top::run(args).await,
        args::Node::Drain(args) => drain::run(args).await,
    }
}

async fn list(args: args::NodeList) -> Result<(), ExitError> {
    let operator = Operator::open(&args.operator).await?;
    let nodes = operator.admin.nodes().await.map_err(ExitError::failure)?;
    if args.json {
        outln!("{}", serde_json::to_string_pretty(&nodes).map_err(ExitError::failure)?);
    } else {
        out!("{}", table::list(&nodes));
    }
    Ok(())
}
