//! What a message is apart from its users: read and checked once, for all ways to send it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cluster::accepted_ms_of;
use proto::{
    internal::{App, Append, ScheduledPush},
    v1,
};

use super::{
    Ops,
    fields::Lifetime,
    idempotency::{self, Fingerprint, Reserved},
};
use crate::{
    error::{Error, Result},
    when::Due,
};

/// Longest collapse key, bytes: the savers keep it beside each stored message.
const COLLAPSE_KEY_MAX: usize = 64;

/// What a request says of its message, besides the users.
pub(super) struct Wish {
    pub(super) payload: Bytes,
    pub(super) ttl_s: Option<u32>,
    pub(super) transient: bool,
    pub(super) idempotency_key: String,
    pub(super) collapse_key: String,
    pub(super) priority: i32,
    pub(super) when: Option<v1::When>,
}

/// A wish that can be fulfilled.
pub(super) struct Draft {
    wish: Wish,
    ttl: Duration,
    urgent: bool,
    due: Due,
}

/// A message that has its id.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    pub(super) app: Arc<App>,
    pub(super) id: u64,
    /// An earlier call with the same idempotency key got the id.
    pub(super) repeated: bool,
    /// To more than one user.
    pub(super) multicast: bool,
    pub(super) payload: Bytes,
    pub(super) collapse_key: String,
    pub(super) urgent: bool,
    pub(super) transient: bool,
    ttl: Duration,
    due: Due,
}

impl Ops {
    /// Checks what is wished for; the error names the field.
    pub(super) fn draft(&self, app: &App, wish: Wish) -> Result<Draft> {
        self.check_payload(&wish.payload)?;
        let ttl = self.ttl(wish.ttl_s, app.default_ttl_s)?;
        if wish.transient {
            idempotency::refuse_for_transient(&wish.idempotency_key)?;
        }
        check_collapse_key(&wish)?;
        let urgent = priority(wish.priority)?;
        let due = self.due(&wish, cluster::now_ms())?;
        Ok(Draft { wish, ttl, urgent, due })
    }

    /// Gives the message its id: a new one, or that of the call that this one repeats. `asked` is what has to be the same
    /// again, besides what is in the draft.
    pub(super) async fn seal(&self, app: &Arc<App>, draft: Draft, asked: Fingerprint) -> Result<Letter> {
        let Draft { wish, ttl, urgent, mut due } = draft;
        let Reserved { id, repeated } = if wish.idempotency_key.is_empty() {
            Reserved { id: self.ids.next(), repeated: false }
        } else {
            let asked = asked.and(&wish.payload).and_ttl(wish.ttl_s).and_manner(&wish);
            // Boxed: few pushes have a key, and the others should not carry its state.
            Box::pin(self.reserve(app, wish.idempotency_key.clone(), asked)).await?
        };
        if repeated {
            // "09:00" is that of the first call, and not of the next day.
            due = self.due(&wish, accepted_ms_of(id))?;
        }
        let Wish { payload, collapse_key, transient, .. } = wish;
        let app = Arc::clone(app);
        Ok(Letter { app, id, repeated, multicast: false, payload, collapse_key, urgent, transient, ttl, due })
    }

    fn due(&self, wish: &Wish, now_ms: u64) -> Result<Due> {
        match &wish.when {
            None => Ok(Due::Now),
            when => Due::parse(when.as_ref(), now_ms, self.config().schedule_ahead_max),
        }
    }
}

impl Letter {
    /// The same to more than one user.
    pub(super) fn into_multicast(self) -> Letter {
        Letter { multicast: true, ..self }
    }

    /// One that was kept for its time.
    pub(super) fn kept(app: Arc<App>, push: &ScheduledPush) -> Letter {
        Letter {
            app,
            id: push.id,
            repeated: false,
            multicast: push.multicast,
            payload: push.payload.clone(),
            collapse_key: push.collapse_key.clone(),
            urgent: push.urgent,
            transient: push.transient,
            ttl: Duration::from_millis(push.ttl_ms),
            due: Due::Now,
        }
    }

    /// When it is to be sent, if that is not now.
    pub(super) fn later(&self) -> Option<Due> {
        let waits = match self.due {
            Due::Now => false,
            Due::At(ms) => ms > cluster::now_ms(),
            // Whose clock has shown it already is found out where the offsets are asked for.
            Due::Local(_) => true,
        };
        waits.then_some(self.due)
    }

    /// Its life, if it is sent now.
    pub(super) fn lifetime(&self) -> Lifetime {
        match self.due {
            Due::At(ms) => Lifetime::from(self.id, ms, self.ttl),
            Due::Now | Due::Local(_) => Lifetime::of(self.id, self.ttl),
        }
    }

    /// Its life, if it was due at that time.
    pub(super) fn lifetime_from(&self, due_ms: u64) -> Lifetime {
        Lifetime::from(self.id, due_ms, self.ttl)
    }

    /// What stores it for these users.
    pub(super) fn append(&self, uids: Vec<String>, Lifetime { accepted_ms, expires_ms }: Lifetime) -> Append {
        Append {
            id: self.id,
            app: self.app.id,
            uids,
            payload: self.payload.clone(),
            accepted_ms,
            expires_ms,
            durability: self.app.durability,
            inbox_cap: self.app.inbox_cap,
            multicast: self.multicast,
            collapse_key: self.collapse_key.clone(),
        }
    }

    /// What keeps a part of it for these users until its time.
    pub(super) fn schedule(&self, due: Due, part: u32, uids: Vec<String>) -> ScheduledPush {
        ScheduledPush {
            id: self.id,
            app: self.app.id,
            due_ms: due.first_ms(),
            local_minutes: match due {
                Due::Local(minutes) => Some(minutes),
                Due::Now | Due::At(_) => None,
            },
            uids,
            payload: self.payload.clone(),
            ttl_ms: u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX),
            transient: self.transient,
            urgent: self.urgent,
            collapse_key: self.collapse_key.clone(),
            part,
            multicast: self.multicast,
            accepted_ms: accepted_ms_of(self.id),
            users: 0,
        }
    }
}

impl Fingerprint {
    /// What came later to the API is left out where it is not used, so that keys from before go on.
    fn and_manner(mut self, wish: &Wish) -> Fingerprint {
        if !wish.collapse_key.is_empty() {
            self = self.and(b"collapse_key").and(wish.collapse_key.as_bytes());
        }
        if let Some(when) = &wish.when {
            self = self.and(b"when").and(&when.at_ms.to_le_bytes());
            self = self.and(when.local_time.as_bytes()).and(when.time_zone.as_bytes());
        }
        self
    }
}

fn check_collapse_key(wish: &Wish) -> Result<()> {
    let bytes = wish.collapse_key.len();
    if bytes > COLLAPSE_KEY_MAX {
        let message = format!("has {bytes} bytes; it must have 1 to {COLLAPSE_KEY_MAX}");
        return Err(Error::invalid("collapse_key", message));
    }
    if bytes > 0 && wish.transient {
        let message = "a transient message is not stored, so it takes the place of none: leave the key out";
        return Err(Error::invalid("collapse_key", message));
    }
    Ok(())
}

/// Whether it is urgent.
pub(super) fn priority(number: i32) -> Result<bool> {
    match v1::Priority::try_from(number) {
        Ok(v1::Priority::Unspecified | v1::Priority::Normal) => Ok(false),
        Ok(v1::Priority::Urgent) => Ok(true),
        Err(_) => Err(Error::invalid("priority", format!("is {number}; it must be normal or urgent"))),
    }
}
