//! `longwire targets`: what became of a message for each of its users.

use std::io::{BufWriter, Write as _};

use proto::v1::ListTargetsRequest;
use serde_json::json;
use service::ExitError;

use crate::{
    api::{Api, refused},
    args,
};

pub(crate) async fn run(args: args::Targets) -> Result<(), ExitError> {
    let api = Api::open(&args.message.api).await?;
    let request = ListTargetsRequest { app: api.app.clone(), id: args.message.id };
    let mut targets = api.push().list_targets(request).await.map_err(|s| refused(&s))?.into_inner();
    let mut out = BufWriter::new(std::io::stdout());
    while let Some(target) = targets.message().await.map_err(|s| refused(&s))? {
        let written = if args.json {
            writeln!(out, "{}", json!({ "uid": target.uid, "state": target.state }))
        } else {
            writeln!(out, "{}\t{}", target.uid, target.state)
        };
        // Whoever reads our output has gone: as for any filter, that is the end and no error.
        if written.is_err() {
            return Ok(());
        }
    }
    // Likewise.
    let _ = out.flush();
    Ok(())
}
