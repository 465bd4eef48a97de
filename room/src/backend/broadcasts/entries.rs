//! What the savers and centers tell of broadcasts, as the threads have it.

use std::sync::Arc;

use audience::{Filter, FilterValues};
use bytes::Bytes;
use proto::internal as rpc;
use wire::{codec::encode_broadcast, frame::Broadcast, id::AppId};

use crate::exchange::{Body, LogEntry, LogRun, Meant};

/// A broadcast as it was told.
struct Told<'a> {
    app: AppId,
    bseq: u64,
    id: u64,
    payload: Bytes,
    audience: &'a str,
    filter: Option<&'a rpc::Filter>,
    accepted_ms: u64,
    expires_ms: u64,
    recalled: bool,
}

/// The entry of a notice. `before`: an entry of the same broadcast, whose bytes it shares.
pub(super) fn of_notice(notice: &rpc::BroadcastNotice, before: Option<&LogEntry>) -> Option<Arc<LogEntry>> {
    let told = Told {
        app: AppId(notice.app),
        bseq: notice.bseq,
        id: notice.id,
        payload: notice.payload.clone(),
        audience: &notice.audience,
        filter: notice.filter.as_ref(),
        accepted_ms: notice.accepted_ms,
        expires_ms: notice.expires_ms,
        recalled: false,
    };
    entry(told, before)
}

/// A run as a saver answered it.
pub(super) fn run_of(app: AppId, after: u64, response: rpc::LoadBroadcastsResponse) -> LogRun {
    let mut entries: Vec<Arc<LogEntry>> = Vec::with_capacity(response.broadcasts.len());
    for stored in response.broadcasts {
        let before = entries.iter().rev().take(16).find(|entry| entry.id.0 == stored.id);
        let told = Told {
            app,
            bseq: stored.bseq,
            id: stored.id,
            payload: stored.payload,
            audience: &stored.audience,
            filter: stored.filter.as_ref(),
            accepted_ms: stored.accepted_ms,
            expires_ms: stored.expires_ms,
            recalled: stored.recalled,
        };
        let made = entry(told, before.map(|before| &**before));
        entries.extend(made);
    }
    LogRun { app, epoch: response.epoch, after, through: response.through, entries }
}

fn entry(told: Told<'_>, before: Option<&LogEntry>) -> Option<Arc<LogEntry>> {
    let (filter, slice) = match filter(told.filter).map(Filter::split) {
        Ok(parts) => parts,
        Err(error) => return unreadable(&told, &error),
    };
    let audience = match told.audience.parse() {
        Ok(audience) => audience,
        Err(error) => return unreadable(&told, &error),
    };
    let meant = Meant { audience, filter };
    let shared = before.map(|before| &before.meant).filter(|before| ***before == meant);
    let meant = shared.map_or_else(|| Arc::new(meant), Arc::clone);
    let body = match before.map(|before| &before.body) {
        _ if told.recalled => Body::Gone,
        _ if slice.is_whole() => Body::Frame(encode_broadcast(&Broadcast {
            app: told.app.0,
            bseq: told.bseq,
            id: told.id,
            payload: told.payload,
            accepted_ms: told.accepted_ms,
            binding: 0,
        })),
        Some(Body::Parts { payload, .. }) if *payload == told.payload => {
            Body::Parts { app: told.app, payload: payload.clone(), accepted_ms: told.accepted_ms }
        }
        // A copy of its own, lest it keep all that came with it on the wire.
        _ => {
            let payload = Bytes::copy_from_slice(&told.payload);
            Body::Parts { app: told.app, payload, accepted_ms: told.accepted_ms }
        }
    };
    let Told { bseq, id, expires_ms, recalled, .. } = told;
    Some(Arc::new(LogEntry { bseq, id: id.into(), body, meant, slice, expires_ms, recalled }))
}

/// The filter of a broadcast; absent = everyone.
///
/// # Errors
/// What is wrong with it, in words for whoever asked.
pub(crate) fn filter(filter: Option<&rpc::Filter>) -> Result<Filter, audience::FilterError> {
    let Some(filter) = filter else { return Ok(Filter::default()) };
    Filter::new(&FilterValues {
        zones: &filter.zones,
        networks: &filter.networks,
        version_from: &filter.version_from,
        version_below: &filter.version_below,
        hash_from: filter.hash_from,
        hash_below: filter.hash_below,
        utc_offset_min: filter.utc_offset_min,
    })
}

fn unreadable(told: &Told<'_>, error: &dyn std::error::Error) -> Option<Arc<LogEntry>> {
    // The center checks before it stores, so this is a newer center's grammar: better nobody than the wrong ones.
    tracing::error!(app = %told.app, bseq = told.bseq, %error, "an audience cannot be read; nobody gets it");
    None
}
