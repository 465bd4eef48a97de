//! What a coordinator reads that others wrote, for the fuzz targets.

use std::time::Duration;

use reqwest::Response;

use crate::{
    event::{Event, Kind},
    webhook::{Verdict, judge},
};

/// How a backend's answer is taken: whether it has the event, and how long it asks to be left alone.
pub async fn answered(answer: axum::http::Response<Vec<u8>>) -> (bool, Option<Duration>) {
    match judge(Response::from(answer)).await {
        Verdict::Delivered => (true, None),
        Verdict::Refused(_) => (false, None),
        Verdict::Failed { retry_after, .. } => (false, retry_after),
    }
}

/// Reads an event of the spill queue, and writes it again and the body of its request.
#[must_use]
pub fn stored(up: bool, bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let event = Event::decode(if up { Kind::Up } else { Kind::State }, bytes).ok()?;
    Some((event.encode(), event.body("demo")))
}
