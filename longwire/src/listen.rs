//! `longwire listen`: a device on the command line.

use std::{collections::BTreeSet, io::Write as _, path::Path, pin::pin};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use client::{
    Config, Device, Event, Snapshot, Tls,
    session::{Cause, Traits},
};
use serde_json::{Value, json};
use service::{ExitError, signals};
use wire::{
    frame::{BindCode, UnboundReason},
    id::{AppKey, Uid},
};

use crate::{api::Api, args, operate};

pub(crate) async fn run(args: args::Listen) -> Result<(), ExitError> {
    let app: AppKey = args.api.app.parse().map_err(|e| ExitError::usage(format!("--app: {e}")))?;
    let uid: Uid = args.uid.parse().map_err(|e| ExitError::usage(format!("--uid: {e}")))?;
    let config = Config {
        network: args.network.unwrap_or_default(),
        utc_offset: args.utc_offset.unwrap_or_default(),
        ..Config::default()
    };
    let mut builder = Device::builder(&device_name(&args))
        .dispatcher(&args.route)
        .config(config)
        .transport(args.transport)
        .websocket_path(&args.path);
    if args.transport.is_secure() {
        builder = builder.tls(trust(&args)?);
    }
    builder = match args.token.clone() {
        Some(token) => builder.token(move |_, _| {
            let token = token.clone();
            async move { Ok(token) }
        }),
        None => {
            let api = Api::open(&args.api).await?;
            // Asked anew before each bind, so that a listener outlives its first token.
            builder.token(move |_, uid| {
                let api = api.clone();
                async move {
                    let issued = operate::issue(&api, uid.as_str(), None).await;
                    issued.map_err(|e| e.to_string().into()).inspect_err(|e: &client::device::BoxError| {
                        eprintln!("longwire: no token: {e}; asking again");
                    })
                }
            })
        }
    };
    let saved = args.state.as_deref().map(restore).transpose()?.unwrap_or_default();
    let (device, mut events) = builder.restore(saved).start().map_err(ExitError::usage)?;
    let traits = Traits { tags: args.tags.clone(), app_version: args.app_version.clone() };
    device.bind_with(app, uid, traits).await.map_err(ExitError::failure)?;

    let mut printer = Printer::new(&args);
    // One for all the time: a signal that comes while a message is printed must not be missed.
    let mut shutdown = pin!(signals::shutdown());
    let ended = loop {
        let event = tokio::select! {
            event = events.next() => event,
            signal = &mut shutdown => {
                signal.map_err(ExitError::failure)?;
                break Ok(());
            }
        };
        let Some(event) = event else { break Err(ExitError::failure("the device gave up connecting")) };
        match printer.print(&event) {
            Ok(After::GoOn) => {}
            Ok(After::Keep) => {
                // What is printed is done with: it is confirmed, and kept, before the next is asked for.
                events.confirm_last();
                if let Some(file) = &args.state {
                    keep(file, &device.snapshot().await.map_err(ExitError::failure)?)?;
                }
                if printer.is_done() {
                    break Ok(());
                }
            }
            // Whoever reads our output has gone: as for any filter, that is the end and no error.
            Err(Stop::OutputClosed) => break Ok(()),
            Err(Stop::Failed(reason)) => break Err(ExitError::failure(reason)),
        }
    };
    let last = device.close().await;
    if let Some(file) = &args.state {
        keep(file, &last)?;
    }
    ended
}

/// Whom to trust, and by which name.
fn trust(args: &args::Listen) -> Result<Tls, ExitError> {
    let tls = match &args.ca {
        Some(file) => {
            let pem = std::fs::read(file)
                .map_err(|e| ExitError::usage(format!("--ca: cannot read {}: {e}", file.display())))?;
            Tls::with_roots(&pem).map_err(|e| ExitError::usage(format!("--ca: {}: {e}", file.display())))?
        }
        None => Tls::platform().map_err(ExitError::failure)?,
    };
    match &args.server_name {
        Some(name) => tls.server_name(name).map_err(|e| ExitError::usage(format!("--server-name: {e}"))),
        None => Ok(tls),
    }
}

/// Stable for one user on one machine, so that the room's log tells the same device from another.
fn device_name(args: &args::Listen) -> String {
    let name = format!("cli-{}-{}", args.api.app, args.uid);
    name.chars().take(64).collect()
}

fn restore(file: &Path) -> Result<Snapshot, ExitError> {
    match std::fs::read(file) {
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|e| ExitError::usage(format!("{} is no state of a listener: {e}", file.display()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Snapshot::default()),
        Err(e) => Err(ExitError::usage(format!("cannot read {}: {e}", file.display()))),
    }
}

fn keep(file: &Path, state: &Snapshot) -> Result<(), ExitError> {
    let fail = |e: std::io::Error| ExitError::failure(format!("cannot write {}: {e}", file.display()));
    let text = serde_json::to_vec(state).map_err(ExitError::failure)?;
    let new = file.with_extension("new");
    std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, file)).map_err(fail)
}

/// What follows an event.
enum After {
    GoOn,
    /// It was a message: the app is done with it.
    Keep,
}

/// Why listening ends.
enum Stop {
    OutputClosed,
    Failed(String),
}

impl From<std::io::Error> for Stop {
    fn from(_: std::io::Error) -> Self {
        Stop::OutputClosed
    }
}

/// Messages go to standard output, a line each; what happens to the connection to standard error.
struct Printer {
    app: String,
    uid: String,
    json: bool,
    count: Option<u64>,
    printed: u64,
    /// What went wrong since the last connection, so that a long outage is told once.
    outage: BTreeSet<String>,
}

impl Printer {
    fn new(args: &args::Listen) -> Self {
        Self {
            app: args.api.app.clone(),
            uid: args.uid.clone(),
            json: args.json,
            count: args.count,
            printed: 0,
            outage: BTreeSet::new(),
        }
    }

    fn is_done(&self) -> bool {
        self.count.is_some_and(|count| self.printed >= count)
    }

    fn print(&mut self, event: &Event) -> Result<After, Stop> {
        match event {
            Event::Message(m) => {
                let (kind, seq) = match m.position {
                    Some(position) => ("push", Some(position.seq.0)),
                    None => ("transient", None),
                };
                let text = || match seq {
                    Some(seq) => format!("#{seq} {}", String::from_utf8_lossy(&m.payload)),
                    None => format!("(transient) {}", String::from_utf8_lossy(&m.payload)),
                };
                self.line(text, || {
                    let mut value = json!({
                        "type": kind, "app": self.app, "uid": self.uid, "id": m.id.0.to_string(),
                        "accepted_ms": m.accepted_ms
                    });
                    if let Some(seq) = seq {
                        value["seq"] = json!(seq);
                    }
                    if let Some(key) = &m.collapse_key {
                        value["collapse_key"] = json!(key);
                    }
                    with_payload(value, &m.payload)
                })?;
                self.printed += 1;
                Ok(After::Keep)
            }
            Event::Broadcast(b) => {
                let text =
                    || format!("(broadcast {}) {}", b.cursor.bseq.0, String::from_utf8_lossy(&b.payload));
                self.line(text, || {
                    let value = json!({
                        "type": "broadcast", "app": self.app, "uid": self.uid, "id": b.id.0.to_string(),
                        "bseq": b.cursor.bseq.0, "accepted_ms": b.accepted_ms
                    });
                    with_payload(value, &b.payload)
                })?;
                self.printed += 1;
                Ok(After::Keep)
            }
            Event::Recalled { id, .. } => {
                let text = || format!("(recalled) message {}", id.0);
                self.line(
                    text,
                    || json!({ "type": "recall", "app": self.app, "uid": self.uid, "id": id.0.to_string() }),
                )?;
                Ok(After::GoOn)
            }
            Event::Connected { conn, .. } => {
                self.outage.clear();
                eprintln!("longwire: connected (connection {})", conn.0);
                Ok(After::GoOn)
            }
            Event::Bound { .. } => {
                eprintln!("longwire: listening as {}/{}", self.app, self.uid);
                Ok(After::GoOn)
            }
            Event::Disconnected(ending) => {
                if ending.cause != Cause::Requested {
                    self.trouble(&ending.cause.to_string());
                }
                Ok(After::GoOn)
            }
            Event::Unreachable { reason } => {
                self.trouble(reason);
                Ok(After::GoOn)
            }
            Event::BindFailed { code, message, gives_up, .. } => {
                let reason = format!("{message} ({})", bind_code(*code));
                if *gives_up {
                    return Err(Stop::Failed(format!("cannot listen: {reason}")));
                }
                eprintln!("longwire: cannot listen yet: {reason}");
                Ok(After::GoOn)
            }
            Event::Unbound { reason, .. } => match reason {
                UnboundReason::Replaced => {
                    Err(Stop::Failed(format!("replaced: {} listens elsewhere now", self.uid)))
                }
                UnboundReason::Kicked => Err(Stop::Failed("kicked by the app's backend".to_owned())),
                UnboundReason::Unspecified | UnboundReason::Requested | UnboundReason::Lost => {
                    Ok(After::GoOn)
                }
            },
            // A listener sends nothing, and its token provider answers for tokens.
            Event::UpDone { .. } | Event::TokenNeeded { .. } => Ok(After::GoOn),
        }
    }

    /// Tells each cause once an outage.
    fn trouble(&mut self, cause: &str) {
        if self.outage.insert(cause.to_owned()) {
            eprintln!("longwire: {cause}; trying again");
        }
    }

    fn line(&self, text: impl Fn() -> String, json: impl Fn() -> Value) -> Result<(), Stop> {
        let mut out = std::io::stdout().lock();
        let line = if self.json { json().to_string() } else { text() };
        writeln!(out, "{line}")?;
        out.flush()?;
        Ok(())
    }
}

fn with_payload(mut value: Value, payload: &[u8]) -> Value {
    match std::str::from_utf8(payload) {
        Ok(text) => value["payload"] = json!(text),
        Err(_) => value["payload_base64"] = json!(BASE64.encode(payload)),
    }
    value
}

fn bind_code(code: BindCode) -> String {
    format!("{code:?}")
}
