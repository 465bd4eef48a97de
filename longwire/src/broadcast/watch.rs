//! Follows a broadcast to its end, over centers that go away.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher as _,
    pin::pin,
    time::{Duration, Instant},
};

use client::backoff::{Backoff, Dice};
use proto::v1::{BroadcastState, GetBroadcastRequest};
use service::{ExitError, signals};
use tonic::{Code, Status};

use super::{
    state::{self, End},
    view::View,
};
use crate::api::{Api, refused};

/// Without a word for so long, watching is given up; the broadcast goes on without. A cluster's restart takes less.
const GIVE_UP: Duration = Duration::from_secs(60);

/// Shows how a broadcast goes until it has ended.
pub(super) async fn watch(api: &Api, id: u64, json: bool) -> Result<(), ExitError> {
    let mut view = View::new(json);
    let mut stopped = pin!(signals::shutdown());
    let last = tokio::select! {
        last = follow(api, id, &mut view) => last?,
        signal = &mut stopped => {
            signal.map_err(ExitError::failure)?;
            view.tell(&format!("watching ends, the broadcast does not; see `longwire broadcasts show {id} --watch`"));
            return Ok(());
        }
    };
    view.end(&last);
    match state::end(&last) {
        Some(End::Stopped) => Err(ExitError::failure(format!("the broadcast was {}", last.state))),
        Some(End::Done) | None => Ok(()),
    }
}

/// The last state.
async fn follow(api: &Api, id: u64, view: &mut View) -> Result<BroadcastState, ExitError> {
    let backoff = Backoff { initial: Duration::from_millis(200), cap: Duration::from_secs(5) };
    let mut dice = Dice::new(RandomState::new().hash_one(id));
    let (mut heard, mut failures) = (Instant::now(), 0);
    loop {
        let request = GetBroadcastRequest { app: api.app.clone(), id };
        let ended = match api.push().watch_broadcast(request).await {
            Ok(stream) => {
                let mut states = stream.into_inner();
                loop {
                    match states.message().await {
                        Ok(Some(now)) => {
                            (heard, failures) = (Instant::now(), 0);
                            view.show(&now);
                            if state::end(&now).is_some() {
                                return Ok(now);
                            }
                        }
                        // It drains; another takes over.
                        Ok(None) => break Status::unavailable("the center ended the stream"),
                        Err(status) => break status,
                    }
                }
            }
            Err(status) => status,
        };
        if !is_worth_a_retry(&ended) || heard.elapsed() >= GIVE_UP {
            return Err(refused(&ended));
        }
        if failures == 0 {
            view.tell(&format!("{}; asking again", ended.message()));
        }
        tokio::time::sleep(backoff.delay(failures, &mut dice)).await;
        failures += 1;
    }
}

/// Whether the same question may be answered later: a center that ends shows as a stream that breaks.
fn is_worth_a_retry(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::Unknown
            | Code::Internal
            | Code::Cancelled
            | Code::Aborted
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
    )
}
