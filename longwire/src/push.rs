//! `longwire push`.

use proto::v1::{BroadcastRequest, MulticastRequest, MulticastResponse, Outcome, PushRequest};
use serde_json::{Value, json};
use service::ExitError;

use crate::{
    api::{Api, refused},
    args,
    payload::{self, Payload},
};

pub(crate) async fn run(args: args::Push) -> Result<(), ExitError> {
    let payload = payload::payload(&args.payload)?;
    let api = Api::open(&args.api).await?;
    let (line, json) = if args.all {
        broadcast(&api, &args, payload).await?
    } else if let Some(list) = &args.list {
        let uids = String::from_utf8(payload::read(list)?)
            .map_err(|_| ExitError::usage(format!("{} is not UTF-8", list.display())))?;
        let uids = uids.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
        multicast(&api, &args, uids, payload).await?
    } else {
        unicast(&api, &args, payload).await?
    };
    let shown = if args.json { json.to_string() } else { line };
    outln!("{shown}");
    Ok(())
}

async fn unicast(api: &Api, args: &args::Push, payload: Payload) -> Result<(String, Value), ExitError> {
    let request = PushRequest {
        app: api.app.clone(),
        uid: args.uid.clone().unwrap_or_default(),
        payload: payload.bytes.into(),
        ttl_s: payload.ttl_s,
        transient: args.transient,
        idempotency_key: payload.idempotency_key,
        collapse_key: args.collapse_key.clone().unwrap_or_default(),
        priority: payload::priority(&args.timing),
        when: payload::when(&args.timing)?,
    };
    let answer = api.push().push(request).await.map_err(|s| refused(&s))?.into_inner();
    let (outcome, line) = match answer.outcome() {
        Outcome::Stored => ("stored", format!("stored as {}, number {} of the inbox", answer.id, answer.seq)),
        Outcome::Sent => ("sent", format!("sent as {}", answer.id)),
        Outcome::Offline => ("offline", "nobody is there; a transient message is not kept".to_owned()),
        Outcome::Scheduled => ("scheduled", format!("kept as {} until its time", answer.id)),
        Outcome::Unspecified => ("unknown", format!("accepted as {}", answer.id)),
    };
    let json = json!({
        "id": answer.id.to_string(), "outcome": outcome, "seq": answer.seq, "repeated": answer.repeated
    });
    Ok((line + repeated(answer.repeated), json))
}

async fn multicast(
    api: &Api,
    args: &args::Push,
    uids: Vec<String>,
    payload: Payload,
) -> Result<(String, Value), ExitError> {
    let request = MulticastRequest {
        app: api.app.clone(),
        uids,
        payload: payload.bytes.into(),
        ttl_s: payload.ttl_s,
        transient: args.transient,
        idempotency_key: payload.idempotency_key,
        collapse_key: args.collapse_key.clone().unwrap_or_default(),
        priority: payload::priority(&args.timing),
        when: payload::when(&args.timing)?,
    };
    let answer = api.push().multicast(request).await.map_err(|s| refused(&s))?.into_inner();
    for failed in &answer.failed {
        let reason = failed.error.as_ref().map_or("", |e| e.message.as_str());
        eprintln!("longwire: not accepted for {}: {reason}", failed.uid);
    }
    Ok(multicasted(&answer))
}

/// What became of a multicast, as a line and as JSON.
pub(crate) fn multicasted(answer: &MulticastResponse) -> (String, Value) {
    let (id, accepted, targets) = (answer.id, answer.accepted, answer.targets);
    let line = if answer.scheduled {
        format!("kept as {id} until its time for {accepted} of {targets} users")
    } else {
        format!("accepted as {id} for {accepted} of {targets} users")
    };
    let json = json!({
        "id": answer.id.to_string(), "targets": answer.targets, "accepted": answer.accepted,
        "failed": answer.failures, "scheduled": answer.scheduled, "repeated": answer.repeated
    });
    (line + repeated(answer.repeated), json)
}

async fn broadcast(api: &Api, args: &args::Push, payload: Payload) -> Result<(String, Value), ExitError> {
    let request = BroadcastRequest {
        app: api.app.clone(),
        payload: payload.bytes.into(),
        ttl_s: payload.ttl_s,
        audience: args.audience.clone().unwrap_or_default(),
        idempotency_key: payload.idempotency_key,
        priority: payload::priority(&args.timing),
        start: payload::when(&args.timing)?,
        ..Default::default()
    };
    let answer = api.push().broadcast(request).await.map_err(|s| refused(&s))?.into_inner();
    let line = match answer.bseq {
        0 => format!("broadcast as {} ({})", answer.id, answer.state),
        bseq => format!("broadcast as {}, number {bseq} of the log", answer.id),
    };
    let json = json!({ "id": answer.id.to_string(), "bseq": answer.bseq, "repeated": answer.repeated });
    Ok((line + repeated(answer.repeated), json))
}

pub(crate) fn repeated(repeated: bool) -> &'static str {
    if repeated { " (by an earlier call with the same idempotency key)" } else { "" }
}
