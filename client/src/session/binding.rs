//! One binding: (app, uid) on this device, over all its connections.

use std::{sync::Arc, time::Duration};

use wire::{
    codec,
    frame::{Bind, Bound, ResumeBinding},
    id::{AppId, AppKey, BindingId, Bseq, Cursor, Position, Uid},
};

use super::{broadcasts::Broadcasts, inbox::Inbox, link::Link};
use crate::{config::AckPolicy, moment::Moment, snapshot::SavedBinding};

/// The ack of a burst of broadcasts waits at most so many times as long as that of one.
const BURST: u32 = 3;

/// What to bind. Cheap to clone, and parts may be shared between many sessions.
#[derive(Debug, Clone)]
pub struct BindSpec {
    /// The app's key.
    pub app: AppKey,
    /// The user.
    pub uid: Uid,
    /// The token; `None` = ask for it with [`Event::TokenNeeded`](super::Event::TokenNeeded).
    pub token: Option<Arc<str>>,
    /// What broadcasts may select it by.
    pub traits: Arc<Traits>,
    /// Place in the inbox that the device has kept.
    pub inbox: Option<Position>,
    /// Cursor in the app's broadcast log that the device has kept.
    pub broadcasts: Option<Cursor>,
}

/// What broadcasts may select a binding by, besides what is known of its connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traits {
    /// At most 32 tags of 1 to 64 bytes.
    pub tags: Vec<String>,
    /// Version of the app: one to four numbers with dots between, at most 32 bytes. Empty = not told; such a binding gets no
    /// broadcast that is meant for some versions only.
    pub app_version: String,
}

impl Traits {
    /// These tags, and no version.
    pub fn tags(tags: impl IntoIterator<Item = String>) -> Self {
        Self { tags: tags.into_iter().collect(), app_version: String::new() }
    }
}

/// How far a binding has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Is to be bound, not before this moment.
    Idle(Moment),
    /// Needs a token, which is to be asked for not before this moment.
    NeedsToken(Moment),
    /// The app has been asked for a token.
    AwaitsToken,
    /// `Bind` has been sent, and is answered before this moment.
    Asked(Moment),
    /// Bound.
    Bound,
    /// Was bound when the connection broke, and may be gone on with on the next one.
    Held,
    /// The app wants it to end; whether there is something to tell the room.
    Leaving { tell: bool },
    /// `Unbind` has been sent.
    Left,
    /// Nothing happens by itself any more.
    Over,
}

#[derive(Debug)]
pub(super) struct Binding {
    pub(super) id: BindingId,
    pub(super) app_id: AppId,
    pub(super) stage: Stage,
    /// Failures in a row, of binds or of tokens.
    pub(super) failures: u32,
    pub(super) app: AppKey,
    pub(super) uid: Uid,
    pub(super) token: Option<Arc<str>>,
    traits: Arc<Traits>,
    pub(super) inbox: Inbox,
    pub(super) broadcasts: Broadcasts,
    /// When what has been confirmed is to be acked; `NEVER` = nothing is.
    pub(super) ack_at: Moment,
}

impl Binding {
    pub(super) fn new(id: BindingId, spec: BindSpec, recent_ids: usize) -> Self {
        let stage = match spec.token {
            Some(_) => Stage::Idle(Moment(0)),
            None => Stage::NeedsToken(Moment(0)),
        };
        Self {
            id,
            app_id: AppId(0),
            stage,
            failures: 0,
            app: spec.app,
            uid: spec.uid,
            token: spec.token,
            traits: spec.traits,
            inbox: Inbox::new(spec.inbox, recent_ids),
            broadcasts: Broadcasts::new(spec.broadcasts),
            ack_at: Moment::NEVER,
        }
    }

    pub(super) fn is_bound(&self) -> bool {
        self.stage == Stage::Bound
    }

    pub(super) fn ask(&mut self) -> Bind {
        Bind {
            binding: self.id.0,
            app: self.app.as_str().to_owned(),
            uid: self.uid.as_str().to_owned(),
            token: self.token.as_deref().unwrap_or_default().to_owned(),
            tags: self.traits.tags.clone(),
            inbox: self.inbox.offer().map(Into::into),
            broadcasts: self.broadcasts.offer().map(Into::into),
            app_version: self.traits.app_version.clone(),
        }
    }

    /// The room has bound it. With `forget_token` the next connection asks for a new token.
    pub(super) fn bound(&mut self, frame: &Bound, forget_token: bool) {
        if forget_token {
            self.token = None;
        }
        self.app_id = AppId(frame.app);
        self.inbox.continue_at(frame.inbox.unwrap_or_default().into());
        self.broadcasts.bound(frame.broadcasts.unwrap_or_default().into());
        self.failures = 0;
        self.stage = Stage::Bound;
    }

    /// What to go on with after a broken connection.
    pub(super) fn offer_again(&mut self) -> ResumeBinding {
        let (inbox, confirmed) = self.inbox.offer_again();
        let (log, broadcast_confirmed) = self.broadcasts.offer_again();
        ResumeBinding {
            binding: self.id.0,
            epoch: inbox.epoch.0,
            received: inbox.seq.0,
            confirmed: confirmed.0,
            log_epoch: log.epoch.0,
            broadcast_received: log.bseq.0,
            broadcast_confirmed: broadcast_confirmed.0,
        }
    }

    /// The room goes on with it.
    pub(super) fn resumed(&mut self) {
        self.inbox.resumed();
        self.failures = 0;
        self.stage = Stage::Bound;
    }

    /// It has to be bound again.
    pub(super) fn start_over(&mut self) {
        self.stage = match self.token {
            Some(_) => Stage::Idle(Moment(0)),
            None => Stage::NeedsToken(Moment(0)),
        };
    }

    /// The connection is gone; `holds`: the next one may go on with it. Whether the binding is gone, too.
    pub(super) fn disconnected(&mut self, holds: bool) -> bool {
        self.ack_at = Moment::NEVER;
        match self.stage {
            Stage::Bound | Stage::Held if holds => self.stage = Stage::Held,
            Stage::Asked(_) | Stage::Bound | Stage::Held => self.start_over(),
            Stage::Leaving { .. } | Stage::Left => return true,
            _ => {}
        }
        false
    }

    /// Something may have been confirmed: set the moment of its ack.
    pub(super) fn plan_ack(&mut self, policy: &AckPolicy, now: Moment) {
        let (messages, broadcasts) = (self.inbox.unacked(), u64::from(self.broadcasts.unacked()));
        if !self.is_bound() || messages + broadcasts == 0 {
            self.ack_at = Moment::NEVER;
        } else if messages + broadcasts >= policy.max_unacked.into() {
            self.ack_at = now;
        } else if messages > 0 {
            self.ack_at = self.ack_at.min(now + policy.max_delay);
        } else {
            // Each broadcast of a burst may be followed by another: they are acked together, and the room is not answered while it
            // still sends.
            let waited = Duration::from_millis(self.broadcasts.unacked_ms(now).into());
            let most = (policy.broadcast_delay * BURST).saturating_sub(waited);
            self.ack_at = now + policy.broadcast_delay.min(most);
        }
    }

    /// Acks what has been confirmed.
    pub(super) fn ack(&mut self, link: &mut Link, now: Moment, out: &mut Vec<u8>) {
        self.ack_at = Moment::NEVER;
        // Twice where messages of an earlier epoch and of this one have been confirmed.
        loop {
            let (inbox, bseq) = (self.inbox.to_ack(), self.broadcasts.to_ack());
            if inbox.is_none() && bseq.is_none() {
                return;
            }
            let held_ms = bseq.map_or(0, |_| self.broadcasts.held_ms(now));
            codec::ack_into(self.id, inbox.unwrap_or_default(), bseq.unwrap_or(Bseq::ZERO), held_ms, out);
            link.sent(now);
            if let Some(at) = inbox {
                self.inbox.acked(at);
            }
            if let Some(bseq) = bseq {
                self.broadcasts.acked(bseq);
            }
        }
    }

    pub(super) fn next_deadline(&self, may_bind: bool) -> Moment {
        match self.stage {
            // It waits for the room's word on what it goes on with.
            Stage::Leaving { tell: true } if !may_bind => Moment::NEVER,
            Stage::Leaving { .. } => Moment(0),
            _ if !may_bind => Moment::NEVER,
            Stage::Idle(at) | Stage::NeedsToken(at) | Stage::Asked(at) => at,
            Stage::Bound => self.ack_at,
            Stage::AwaitsToken | Stage::Held | Stage::Left | Stage::Over => Moment::NEVER,
        }
    }

    pub(super) fn saved(&self) -> SavedBinding {
        SavedBinding {
            app: self.app.clone(),
            uid: self.uid.clone(),
            inbox: self.inbox.resume(),
            broadcasts: self.broadcasts.resume(),
        }
    }
}
