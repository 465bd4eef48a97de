//! `longwire broadcast` and `longwire broadcasts`.

mod speed;
mod state;
mod view;
mod watch;

use proto::v1::{
    BroadcastPreview, BroadcastRequest, BroadcastState, ControlBroadcastRequest, Feedback,
    GetBroadcastRequest, ListBroadcastsRequest, RecallRequest,
};
use serde_json::json;
use service::ExitError;

use crate::{
    api::{Api, refused},
    args,
    payload::{self, Payload},
    push::repeated,
    table::Table,
};

/// `broadcast`.
pub(crate) async fn run(args: args::Broadcast) -> Result<(), ExitError> {
    let payload = payload::payload(&args.payload)?;
    let api = Api::open(&args.api).await?;
    let request = request(&api, &args, payload)?;
    if args.preview {
        let preview = api.push().preview_broadcast(request).await.map_err(|s| refused(&s))?.into_inner();
        print_preview(&preview, args.json);
        return Ok(());
    }
    let answer = api.push().broadcast(request).await.map_err(|s| refused(&s))?.into_inner();
    if args.watch {
        if !args.json {
            outln!("broadcast as {}{}", answer.id, repeated(answer.repeated));
        }
        return watch::watch(&api, answer.id, args.json).await;
    }
    if args.json {
        let (id, bseq) = (answer.id.to_string(), answer.bseq);
        outln!("{}", json!({ "id": id, "bseq": bseq, "state": answer.state, "repeated": answer.repeated }));
    } else {
        outln!("broadcast as {} ({}){}", answer.id, answer.state, repeated(answer.repeated));
    }
    Ok(())
}

fn request(api: &Api, args: &args::Broadcast, payload: Payload) -> Result<BroadcastRequest, ExitError> {
    let feedback = Feedback {
        min_ack_ratio: args.min_acks.unwrap_or(0.0),
        max_latency_ms: args.max_latency.map_or(Ok(0), |latency| {
            u32::try_from(latency.as_millis())
                .ok()
                .filter(|ms| *ms > 0)
                .ok_or_else(|| ExitError::usage("--max-latency is at least 1ms"))
        })?,
    };
    let audience = args.audience.clone();
    Ok(BroadcastRequest {
        app: api.app.clone(),
        payload: payload.bytes.into(),
        ttl_s: payload.ttl_s,
        idempotency_key: payload.idempotency_key,
        audience: audience.audience.unwrap_or_default(),
        zones: audience.zones,
        networks: audience.networks,
        version_from: audience.version_from.unwrap_or_default(),
        version_below: audience.version_below.unwrap_or_default(),
        percent: audience.percent,
        users_per_second: args.rate.unwrap_or(0),
        start: payload::when(&args.timing)?,
        priority: payload::priority(&args.timing),
        feedback: (feedback != Feedback::default()).then_some(feedback),
    })
}

/// `broadcasts`.
pub(crate) async fn manage(command: args::Broadcasts) -> Result<(), ExitError> {
    match command {
        args::Broadcasts::List(args) => list(args).await,
        args::Broadcasts::Show(args) if args.watch => {
            let api = Api::open(&args.message.api).await?;
            watch::watch(&api, args.message.id, args.json).await
        }
        args::Broadcasts::Show(args) => {
            let api = Api::open(&args.message.api).await?;
            show(&api, args.message.id).await
        }
        args::Broadcasts::Pause(message) => control(&message, "pause", None).await,
        args::Broadcasts::Resume(message) => control(&message, "resume", None).await,
        args::Broadcasts::Cancel(message) => control(&message, "cancel", None).await,
        args::Broadcasts::Rate(args) => control(&args.message, "", Some(args.rate)).await,
        args::Broadcasts::Recall(message) => {
            let api = Api::open(&message.api).await?;
            let request = RecallRequest { app: api.app.clone(), id: message.id };
            api.push().recall(request).await.map_err(|s| refused(&s))?;
            show(&api, message.id).await
        }
    }
}

async fn show(api: &Api, id: u64) -> Result<(), ExitError> {
    let request = GetBroadcastRequest { app: api.app.clone(), id };
    let state = api.push().get_broadcast(request).await.map_err(|s| refused(&s))?.into_inner();
    print(&state);
    Ok(())
}

async fn control(message: &args::Message, action: &str, rate: Option<u32>) -> Result<(), ExitError> {
    let api = Api::open(&message.api).await?;
    let request = ControlBroadcastRequest {
        app: api.app.clone(),
        id: message.id,
        action: action.to_owned(),
        users_per_second: rate,
    };
    let state = api.push().control_broadcast(request).await.map_err(|s| refused(&s))?.into_inner();
    print(&state);
    Ok(())
}

async fn list(args: args::BroadcastList) -> Result<(), ExitError> {
    let api = Api::open(&args.api).await?;
    let before_id = args.before.unwrap_or(0);
    let request = ListBroadcastsRequest { app: api.app.clone(), before_id, limit: args.limit };
    let answer = api.push().list_broadcasts(request).await.map_err(|s| refused(&s))?.into_inner();
    if args.json {
        let all: Vec<_> = answer.broadcasts.iter().map(state::json).collect();
        outln!("{:#}", json!(all));
        return Ok(());
    }
    let mut table =
        Table::new(&["ID", "STATE", "RELEASED", "TARGETS", "ACKED", "STORED", "SPEED", "AUDIENCE"]);
    for b in &answer.broadcasts {
        table.row([
            b.id.to_string(),
            b.state.clone(),
            state::released(b),
            b.targets.to_string(),
            b.acked.to_string(),
            b.stored.to_string(),
            state::rate(b.users_per_second),
            if b.audience.is_empty() { "-".to_owned() } else { b.audience.clone() },
        ]);
    }
    out!("{table}");
    Ok(())
}

fn print(state: &BroadcastState) {
    outln!("{:#}", state::json(state));
}

fn print_preview(preview: &BroadcastPreview, json: bool) {
    if json {
        let zones: Vec<_> =
            preview.zones.iter().map(|z| json!({ "zone": z.zone, "users": z.users })).collect();
        outln!(
            "{}",
            json!({
                "users": preview.users, "zones": zones, "bytes": preview.bytes,
                "duration_ms": preview.duration_ms, "rooms_missed": preview.rooms_missed
            })
        );
        return;
    }
    let takes = humantime::format_duration(std::time::Duration::from_millis(preview.duration_ms));
    outln!("{} users online, {} bytes to send, about {takes}", preview.users, preview.bytes);
    for zone in &preview.zones {
        let name = if zone.zone.is_empty() { "(no zone)" } else { &zone.zone };
        outln!("  {name}: {} users", zone.users);
    }
    if preview.rooms_missed > 0 {
        eprintln!("longwire: {} rooms did not answer; their users are not counted", preview.rooms_missed);
    }
}
