//! Upstream frames that wait for their answer.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use wire::{
    frame::{Up, UpAck, UpCode},
    id::BindingId,
    limits::{MAX_CLIENT_FRAME, MAX_FRAME_OVERHEAD, MAX_KIND_BYTES},
};

use super::{Event, UpOutcome, link::Link};
use crate::{backoff::Dice, config::Config, moment::Moment};

/// Longest payload of an upstream frame.
pub const MAX_UP_PAYLOAD: usize = MAX_CLIENT_FRAME - MAX_KIND_BYTES - MAX_FRAME_OVERHEAD;

/// Why an upstream frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpError {
    /// As many wait for their answer as may.
    #[error("{0} upstream frames wait for their answer already")]
    Full(usize),
    /// The payload is too long.
    #[error("the payload has {0} bytes; it may have {MAX_UP_PAYLOAD}")]
    TooLarge(usize),
    /// The routing word is empty or too long.
    #[error("the kind has {0} bytes; it must have 1 to {MAX_KIND_BYTES}")]
    BadKind(usize),
    /// There is no such binding.
    #[error("there is no such binding")]
    NoBinding,
}

#[derive(Debug)]
struct Pending {
    reference: u64,
    binding: BindingId,
    kind: Arc<str>,
    payload: Bytes,
    due: Moment,
    refusals: u32,
}

#[derive(Debug)]
pub(super) struct Ups {
    /// Made with the first: most devices at rest have none.
    #[expect(clippy::box_collection, reason = "24 bytes less in each of a million sessions at rest")]
    pending: Option<Box<VecDeque<Pending>>>,
    next_reference: u64,
}

impl Ups {
    /// References begin at `first`, which should differ from life to life of a device: the backend tells
    /// repeats by them.
    pub(super) fn new(first: u64) -> Self {
        Self { pending: None, next_reference: first }
    }

    pub(super) fn add(
        &mut self,
        binding: BindingId,
        kind: Arc<str>,
        payload: Bytes,
        limit: usize,
    ) -> Result<u64, UpError> {
        if self.pending.as_ref().map_or(0, |pending| pending.len()) >= limit {
            return Err(UpError::Full(limit));
        }
        if payload.len() > MAX_UP_PAYLOAD {
            return Err(UpError::TooLarge(payload.len()));
        }
        if kind.is_empty() || kind.len() > MAX_KIND_BYTES {
            return Err(UpError::BadKind(kind.len()));
        }
        let reference = self.next_reference;
        // 0 is what a frame without a reference would carry.
        self.next_reference = reference.checked_add(1).unwrap_or(1);
        let up = Pending { reference, binding, kind, payload, due: Moment(0), refusals: 0 };
        self.pending.get_or_insert_default().push_back(up);
        Ok(reference)
    }

    pub(super) fn send_due(
        &mut self,
        is_bound: impl Fn(BindingId) -> bool,
        link: &mut Link,
        config: &Config,
        now: Moment,
        out: &mut Vec<u8>,
    ) {
        for up in self.pending.iter_mut().flat_map(|pending| pending.iter_mut()) {
            if up.due <= now && is_bound(up.binding) {
                let frame = Up {
                    binding: up.binding.0,
                    kind: up.kind.as_ref().to_owned(),
                    payload: up.payload.clone(),
                    r#ref: up.reference,
                };
                link.send(&frame.into(), now, out);
                up.due = now + config.up_timeout;
            }
        }
    }

    pub(super) fn answered(
        &mut self,
        ack: &UpAck,
        config: &Config,
        dice: &mut Dice,
        now: Moment,
    ) -> Option<Event> {
        // An answer to a frame that was sent twice may come twice.
        let pending = self.pending.as_mut()?;
        let index = pending.iter().position(|up| up.reference == ack.r#ref)?;
        let up = &mut pending[index];
        let outcome = match ack.code() {
            UpCode::Ok => UpOutcome::Accepted,
            UpCode::Rejected => UpOutcome::Rejected,
            UpCode::Retry | UpCode::Unspecified if up.refusals + 1 >= config.max_up_attempts => {
                UpOutcome::GivenUp
            }
            UpCode::Retry | UpCode::Unspecified => {
                let told = std::time::Duration::from_millis(ack.retry_after_ms.into());
                up.due = now + told.max(config.backoff.delay(up.refusals, dice));
                up.refusals += 1;
                return None;
            }
        };
        pending.remove(index);
        if pending.is_empty() {
            self.pending = None;
        }
        Some(Event::UpDone { reference: ack.r#ref, outcome })
    }

    /// Ends those of a binding that is no more.
    pub(super) fn drop_binding(&mut self, binding: BindingId, events: &mut Vec<Event>) {
        let Some(pending) = &mut self.pending else { return };
        pending.retain(|up| {
            let stays = up.binding != binding;
            if !stays {
                events.push(Event::UpDone { reference: up.reference, outcome: UpOutcome::NoBinding });
            }
            stays
        });
        if pending.is_empty() {
            self.pending = None;
        }
    }

    /// The connection is gone: what is unanswered goes out again on the next.
    pub(super) fn disconnected(&mut self) {
        for up in self.pending.iter_mut().flat_map(|pending| pending.iter_mut()) {
            up.due = Moment(0);
        }
    }

    pub(super) fn next_deadline(&self, is_bound: impl Fn(BindingId) -> bool) -> Moment {
        let pending = self.pending.iter().flat_map(|pending| pending.iter());
        let due = pending.filter(|up| is_bound(up.binding)).map(|up| up.due);
        due.min().unwrap_or(Moment::NEVER)
    }
}
