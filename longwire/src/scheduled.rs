//! `longwire scheduled`: what waits for its time.

use proto::v1::{CancelScheduledRequest, ListScheduledRequest};
use serde_json::json;
use service::ExitError;

use crate::{
    api::{Api, refused},
    args,
    table::Table,
};

pub(crate) async fn run(command: args::Scheduled) -> Result<(), ExitError> {
    match command {
        args::Scheduled::List { api, limit, json } => {
            let api = Api::open(&api).await?;
            let request = ListScheduledRequest { app: api.app.clone(), limit };
            let answer = api.push().list_scheduled(request).await.map_err(|s| refused(&s))?.into_inner();
            if json {
                let all = answer.scheduled.iter().map(|s| {
                    json!({ "id": s.id.to_string(), "kind": s.kind, "due_ms": s.due_ms, "targets": s.targets })
                });
                outln!("{:#}", json!(all.collect::<Vec<_>>()));
                return Ok(());
            }
            let mut table = Table::new(&["ID", "KIND", "DUE", "TARGETS"]);
            for s in &answer.scheduled {
                table.row([s.id.to_string(), s.kind.clone(), moment(s.due_ms), s.targets.to_string()]);
            }
            out!("{table}");
        }
        args::Scheduled::Cancel(message) => {
            let api = Api::open(&message.api).await?;
            let request = CancelScheduledRequest { app: api.app.clone(), id: message.id };
            let answer = api.push().cancel_scheduled(request).await.map_err(|s| refused(&s))?.into_inner();
            outln!("{:#}", json!({ "cancelled": answer.cancelled }));
        }
    }
    Ok(())
}

/// In UTC, to the second.
fn moment(ms: u64) -> String {
    let seconds =
        i64::try_from(ms / 1_000).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    seconds.map_or_else(|| format!("{ms} ms"), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::moment;

    #[test]
    fn moments_are_told_in_utc() {
        assert_eq!(moment(1_795_780_406_940), "2026-11-27T11:53:26Z");
        assert_eq!(moment(u64::MAX), format!("{} ms", u64::MAX));
    }
}
