//! `longwire push`.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    time::Duration,
};

use proto::v1::{BroadcastRequest, MulticastRequest, Outcome, PushRequest};
use serde_json::{Value, json};
use service::ExitError;

use crate::{
    api::{Api, refused},
    args,
};

pub(crate) async fn run(args: args::Push) -> Result<(), ExitError> {
    let payload = match (&args.text, &args.file) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(file)) => read(file)?,
        (None, None) => return Err(ExitError::usage("give the message, or --file")),
    };
    let ttl_s = args.ttl.map(ttl_seconds).transpose()?;
    let api = Api::open(&args.api).await?;
    let (line, json) = if args.all {
        broadcast(&api, &args, payload, ttl_s).await?
    } else if let Some(list) = &args.list {
        let uids = String::from_utf8(read(list)?)
            .map_err(|_| ExitError::usage(format!("{} is not UTF-8", list.display())))?;
        let uids = uids.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
        multicast(&api, &args, uids, payload, ttl_s).await?
    } else {
        unicast(&api, &args, payload, ttl_s).await?
    };
    let shown = if args.json { json.to_string() } else { line };
    println!("{shown}");
    Ok(())
}

async fn unicast(
    api: &Api,
    args: &args::Push,
    payload: Vec<u8>,
    ttl_s: Option<u32>,
) -> Result<(String, Value), ExitError> {
    let request = PushRequest {
        app: api.app.clone(),
        uid: args.uid.clone().unwrap_or_default(),
        payload: payload.into(),
        ttl_s,
        transient: args.transient,
        idempotency_key: args.idempotency_key.clone().unwrap_or_default(),
        ..Default::default()
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
    payload: Vec<u8>,
    ttl_s: Option<u32>,
) -> Result<(String, Value), ExitError> {
    let request = MulticastRequest {
        app: api.app.clone(),
        uids,
        payload: payload.into(),
        ttl_s,
        transient: args.transient,
        idempotency_key: args.idempotency_key.clone().unwrap_or_default(),
        ..Default::default()
    };
    let answer = api.push().multicast(request).await.map_err(|s| refused(&s))?.into_inner();
    for failed in &answer.failed {
        let reason = failed.error.as_ref().map_or("", |e| e.message.as_str());
        eprintln!("longwire: not accepted for {}: {reason}", failed.uid);
    }
    let line = format!("accepted as {} for {} of {} users", answer.id, answer.accepted, answer.targets);
    let json = json!({
        "id": answer.id.to_string(), "targets": answer.targets, "accepted": answer.accepted,
        "failed": answer.failed.len(), "repeated": answer.repeated
    });
    Ok((line + repeated(answer.repeated), json))
}

async fn broadcast(
    api: &Api,
    args: &args::Push,
    payload: Vec<u8>,
    ttl_s: Option<u32>,
) -> Result<(String, Value), ExitError> {
    let request = BroadcastRequest {
        app: api.app.clone(),
        payload: payload.into(),
        ttl_s,
        audience: args.audience.clone().unwrap_or_default(),
        idempotency_key: args.idempotency_key.clone().unwrap_or_default(),
        ..Default::default()
    };
    let answer = api.push().broadcast(request).await.map_err(|s| refused(&s))?.into_inner();
    let line = format!("broadcast as {}, number {} of the log", answer.id, answer.bseq);
    let json = json!({ "id": answer.id.to_string(), "bseq": answer.bseq, "repeated": answer.repeated });
    Ok((line + repeated(answer.repeated), json))
}

fn repeated(repeated: bool) -> &'static str {
    if repeated { " (by an earlier call with the same idempotency key)" } else { "" }
}

fn ttl_seconds(ttl: Duration) -> Result<u32, ExitError> {
    u32::try_from(ttl.as_secs())
        .ok()
        .filter(|s| *s > 0)
        .ok_or_else(|| ExitError::usage("--ttl is at least 1s"))
}

/// A file, or standard input for `-`.
fn read(path: &PathBuf) -> Result<Vec<u8>, ExitError> {
    let mut bytes = Vec::new();
    let result = if path == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).map(|_| ())
    } else {
        std::fs::read(path).map(|content| bytes = content)
    };
    result.map_err(|e| ExitError::usage(format!("cannot read {}: {e}", path.display())))?;
    Ok(bytes)
}
