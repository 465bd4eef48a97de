//! What a device does on a connection, and what it keeps from one connection to the next.
//!
//! The driver tells the session what happens ([`Session::opened`], [`Session::on_frame`],
//! [`Session::lost`], what the app wants) and then calls [`Session::advance`], which does all that is due.
//! Each call puts bytes, events and perhaps the end of the connection into an [`Output`].

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use smallvec::SmallVec;
use wire::{
    codec::PREAMBLE,
    frame::Connect,
    id::{BindingId, Cursor, Position},
};

mod binding;
mod bindings;
mod broadcasts;
mod ending;
mod inbox;
mod link;
mod output;
mod receive;
mod ups;

pub use binding::{BindSpec, Traits};
pub use output::{Broadcast, Cause, Ending, Event, Message, Output, UpOutcome};
pub use ups::{MAX_UP_PAYLOAD, UpError};

use self::{
    binding::{Binding, Stage},
    inbox::Recent,
    link::{Link, Stage as LinkStage},
    ups::Ups,
};
use crate::{
    backoff::Dice,
    config::{AckPolicy, Config, Confirm},
    moment::Moment,
    snapshot::{SavedBinding, Snapshot},
};

/// Broadcasts remembered where several bindings share an app, 8 bytes each: as many as a room would send in
/// one burst to catch up.
const RECENT_BROADCASTS: usize = 256;

/// A device's side of the protocol.
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    device: Arc<str>,
    link: Link,
    /// Most devices have one.
    bindings: SmallVec<[Binding; 1]>,
    ups: Ups,
    /// Good for one more connection to the room that gave it.
    resume_token: Option<Box<[u8]>>,
    dice: Dice,
    next_binding: u32,
    /// What the driver last said of the device's clock.
    utc_offset_min: Option<i16>,
    /// Only where several bindings share an app: a broadcast frame does not say whose it is.
    recent_broadcasts: Option<Box<Recent>>,
}

impl Session {
    /// A session of the installation `device` (1 to 128 bytes). `seed` should differ between devices and
    /// between lives of a device: jitter and upstream references come from it.
    #[must_use]
    pub fn new(config: Arc<Config>, device: Arc<str>, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        // From the lower half, so that counting up never comes round.
        let first_reference = (dice.roll() >> 1) | 1;
        Self {
            config,
            device,
            link: Link::down(),
            bindings: SmallVec::new(),
            ups: Ups::new(first_reference),
            resume_token: None,
            dice,
            next_binding: 1,
            utc_offset_min: None,
            recent_broadcasts: None,
        }
    }

    /// What the device's clock shows minus UTC, minutes; `None` = not known. Told on each connection that is opened from now on,
    /// unless the configuration says something else.
    pub fn set_utc_offset(&mut self, minutes: Option<i16>) {
        self.utc_offset_min = minutes;
    }

    /// The next connection goes to another room than the last, or comes too late: nothing is gone on with there.
    pub fn forget_resume(&mut self) {
        self.resume_token = None;
        for binding in self.bindings.iter_mut().filter(|binding| binding.stage == Stage::Held) {
            binding.start_over();
        }
    }

    /// A network connection stands: greets the room, and asks to go on where the last connection broke. If it leads to
    /// another room than the last one did, call [`forget_resume`](Self::forget_resume) before.
    pub fn opened(&mut self, now: Moment, out: &mut Output) {
        self.link.greet(now + self.config.handshake_timeout, now);
        out.bytes.extend_from_slice(&PREAMBLE);
        let heartbeat = self.config.heartbeat.unwrap_or(Duration::ZERO).as_secs();
        let held = |binding: &&mut Binding| binding.stage == Stage::Held;
        let resume = self.bindings.iter_mut().filter(held).map(Binding::offer_again).collect();
        let connect = Connect {
            device: self.device.as_ref().to_owned(),
            version: wire::limits::VERSION,
            network: self.config.network.into(),
            heartbeat_s: u32::try_from(heartbeat).unwrap_or(u32::MAX),
            resume_token: self.resume_token.as_deref().map(Bytes::copy_from_slice).unwrap_or_default(),
            sdk: self.config.sdk.clone(),
            resume,
            utc_offset_min: self.config.utc_offset.or_system(self.utc_offset_min).map(i32::from),
        };
        self.link.send(&connect.into(), now, &mut out.bytes);
    }

    /// Does all that is due: binds, acks, upstream frames, pings, time-outs. To be called after any other
    /// call (or after several: after all frames of one read), and at [`next_deadline`](Self::next_deadline).
    pub fn advance(&mut self, now: Moment, out: &mut Output) {
        self.leave_bindings(now, out);
        if let Some(ending) = self.overdue(now) {
            if matches!(ending.cause, Cause::Moved(_)) {
                self.take_leave(now, out);
            }
            return self.end(ending, out);
        }
        if !self.may_bind() {
            return;
        }
        for binding in &mut self.bindings {
            match binding.stage {
                Stage::Idle(at) if at <= now => {
                    self.link.send(&binding.ask().into(), now, &mut out.bytes);
                    binding.stage = Stage::Asked(now + self.config.bind_timeout);
                }
                Stage::NeedsToken(at) if at <= now => {
                    binding.stage = Stage::AwaitsToken;
                    out.events.push(Event::TokenNeeded { binding: binding.id });
                }
                Stage::Bound if binding.ack_at <= now => binding.ack(&mut self.link, now, &mut out.bytes),
                _ => {}
            }
        }
        if !self.link.is_live() {
            return;
        }
        let is_bound = is_bound(&self.bindings);
        self.ups.send_due(is_bound, &mut self.link, &self.config, now, &mut out.bytes);
        self.link.beat(now, &mut out.bytes);
    }

    /// Whether binds may be sent. Where nothing is to be gone on with, the room's answer to `Connect` says nothing that a bind
    /// depends on: they go right behind it, which spares a round trip.
    fn may_bind(&self) -> bool {
        match self.link.stage {
            LinkStage::Down => false,
            LinkStage::Greeting(_) => self.resume_token.is_none(),
            LinkStage::Live => true,
        }
    }

    /// When [`advance`](Self::advance) has something to do if nothing else happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        let may_bind = self.may_bind();
        let mut next = self.link.next_deadline(self.config.pong_timeout);
        for binding in &self.bindings {
            next = next.min(binding.next_deadline(may_bind));
        }
        if self.link.is_live() {
            next = next.min(self.ups.next_deadline(is_bound(&self.bindings)));
        }
        next.ever()
    }

    /// The driver does not read at the moment, because the app has not taken what came: the room's silence
    /// is its own doing. Pings go on.
    pub fn excuse(&mut self, now: Moment) {
        self.link.heard(now);
    }

    /// The app is done with all messages of a binding up to and including `at`.
    pub fn confirm(&mut self, id: BindingId, at: Position, now: Moment) {
        let policy = self.ack_policy();
        if let Some(binding) = self.find(id)
            && binding.inbox.confirm(at)
        {
            binding.plan_ack(&policy, now);
        }
    }

    /// The app is done with all broadcasts to a binding up to and including `at`.
    pub fn confirm_broadcast(&mut self, id: BindingId, at: Cursor, now: Moment) {
        let policy = self.ack_policy();
        if let Some(binding) = self.find(id)
            && binding.broadcasts.confirm(at, now)
        {
            binding.plan_ack(&policy, now);
        }
    }

    /// Sends data to the app's backend, at least once; [`Event::UpDone`] with the number returned here tells
    /// what became of it.
    ///
    /// # Errors
    /// [`UpError`] says what the caller can change.
    pub fn up(&mut self, id: BindingId, kind: Arc<str>, payload: Bytes) -> Result<u64, UpError> {
        let gone = |binding: &Binding| matches!(binding.stage, Stage::Leaving { .. } | Stage::Left);
        if !self.bindings.iter().any(|binding| binding.id == id && !gone(binding)) {
            return Err(UpError::NoBinding);
        }
        self.ups.add(id, kind, payload, self.config.max_pending_ups)
    }

    /// Whether a room has answered on the present connection.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.link.is_live()
    }

    /// Whether the binding is bound on the present connection.
    #[must_use]
    pub fn is_bound(&self, id: BindingId) -> bool {
        self.link.is_live() && is_bound(&self.bindings)(id)
    }

    /// The user of a binding, for whoever makes its token.
    #[must_use]
    pub fn who(&self, id: BindingId) -> Option<(&wire::id::AppKey, &wire::id::Uid)> {
        self.bindings.iter().find(|binding| binding.id == id).map(|binding| (&binding.app, &binding.uid))
    }

    /// Whether there is anything to connect for: a binding that is not replaced, kicked or given up.
    #[must_use]
    pub fn wants_connection(&self) -> bool {
        self.bindings.iter().any(|binding| binding.stage != Stage::Over)
    }

    /// Whoever the device is to its first app: the dispatcher routes by it.
    #[must_use]
    pub fn first_uid(&self) -> Option<&wire::id::Uid> {
        self.bindings.first().map(|binding| &binding.uid)
    }

    /// The places to keep over a restart.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let known = |saved: &SavedBinding| saved.inbox.is_some() || saved.broadcasts.is_some();
        let bindings = self.bindings.iter().map(Binding::saved).filter(known).collect();
        Snapshot { address: None, bindings }
    }

    /// When to ack; what broadcasts wait is drawn, because devices that got one together must not answer together.
    fn ack_policy(&mut self) -> AckPolicy {
        let policy = self.config.ack;
        let longest = u64::try_from(policy.broadcast_delay.as_millis()).unwrap_or(u64::MAX);
        let wait = longest / 2 + self.dice.below(longest / 2 + 1);
        AckPolicy { broadcast_delay: Duration::from_millis(wait), ..policy }
    }

    fn confirms_itself(&self) -> bool {
        self.config.ack.confirm == Confirm::Auto
    }
}

fn is_bound(bindings: &[Binding]) -> impl Fn(BindingId) -> bool {
    move |id| bindings.iter().any(|binding| binding.id == id && binding.is_bound())
}
