//! HTTP for operators: dead letters and their replay.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{Query, State, rejection::JsonRejection, rejection::QueryRejection},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use peers::AppDirectory;
use serde::Deserialize;
use serde_json::{Value, json};
use service::{Host, StartError};
use tokio::net::TcpListener;

use crate::{
    error::OperatorError,
    event::Event,
    lane::Lanes,
    spill::{DeadLetter, RowId, Spill},
};

/// Letters in an answer.
const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;

#[derive(Clone)]
pub(crate) struct Operators {
    pub(crate) spill: Arc<dyn Spill>,
    pub(crate) lanes: Lanes,
    pub(crate) directory: AppDirectory,
}

impl Operators {
    /// Listens until the host's cancel token fires. Answers where.
    pub(crate) async fn start(self, listen: SocketAddr, host: &Host) -> Result<SocketAddr, StartError> {
        let fail =
            |source| StartError::Listen { key: "coordinator.operators".to_owned(), address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        tracing::info!(%address, "dead letters are served here");
        let ended = host.cancel.clone().cancelled_owned();
        let serve = axum::serve(listener, self.router()).with_graceful_shutdown(ended);
        host.spawn(async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "the operators' port ended");
            }
        });
        Ok(address)
    }

    fn router(self) -> Router {
        Router::new()
            .route("/v1/dead-letters", get(list))
            .route("/v1/dead-letters/replay", post(replay))
            .with_state(self)
    }

    async fn app(&self, key: &str) -> Result<u32, OperatorError> {
        match self.directory.find_by_key(key).await {
            Ok(Some(app)) => Ok(app.id),
            Ok(None) => Err(OperatorError::UnknownApp(key.to_owned())),
            Err(error) => Err(OperatorError::Peer(error)),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    app: String,
    #[serde(default)]
    after: RowId,
    limit: Option<u32>,
}

async fn list(
    State(operators): State<Operators>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, OperatorError> {
    let Query(query) = query.map_err(|error| OperatorError::Malformed(error.body_text()))?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if limit == 0 || limit > MAX_LIMIT {
        return Err(OperatorError::BadLimit { max: MAX_LIMIT });
    }
    let app = operators.app(&query.app).await?;
    let letters = operators.spill.dead(app, query.after, limit).await?;
    Ok(Json(json!({ "dead_letters": letters.iter().map(show).collect::<Vec<_>>() })))
}

fn show(letter: &DeadLetter) -> Value {
    let mut shown = json!({
        "row": letter.row,
        "callback": letter.kind.as_str(),
        "reason": letter.reason,
        "attempts": letter.attempts,
        "taken_ms": letter.spilled_ms,
        "died_ms": letter.died_ms,
    });
    match &letter.event {
        Ok(event) => {
            shown["id"] = event.id().to_string().into();
            shown["uid"] = event.uid().into();
            if let Event::Up(up) = event {
                shown["kind"] = up.kind.as_str().into();
                shown["payload"] = BASE64.encode(&up.payload).into();
            }
        }
        Err(bytes) => shown["unreadable"] = BASE64.encode(bytes).into(),
    }
    shown
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayRequest {
    app: String,
    /// Up to and including this row; absent = all.
    up_to: Option<RowId>,
}

async fn replay(
    State(operators): State<Operators>,
    request: Result<Json<ReplayRequest>, JsonRejection>,
) -> Result<Json<Value>, OperatorError> {
    let Json(request) = request.map_err(|error| OperatorError::Malformed(error.body_text()))?;
    let app = operators.app(&request.app).await?;
    let up_to = request.up_to.unwrap_or(RowId::MAX);
    let events = operators.lanes.replay(app, up_to).await?;
    Ok(Json(json!({ "replayed": events })))
}
