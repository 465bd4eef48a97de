//! The connection under a session: greeting, heartbeat, and the order to move.

use std::time::Duration;

use wire::{codec, frame::ClientFrame};

use crate::moment::Moment;

/// A room that names no heartbeat gets this one: short enough for the NATs of mobile networks.
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(60);
/// Longer heartbeats are taken as this: no network keeps an idle connection for a day.
const MAX_HEARTBEAT: Duration = Duration::from_secs(24 * 60 * 60);

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// There is none.
    Down,
    /// `Connect` has been sent, and is answered before this moment.
    Greeting(Moment),
    /// `Connected` has come.
    Live,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) stage: Stage,
    heartbeat_ms: u32,
    sent_at: Moment,
    heard_at: Moment,
    /// The oldest Ping that nothing has answered; `NEVER` = none.
    ping_at: Moment,
    pub(super) moving: Option<Box<Moving>>,
}

/// The order to move to another room.
#[derive(Debug)]
pub(super) struct Moving {
    pub(super) at: Moment,
    pub(super) addresses: Vec<String>,
    pub(super) reason: String,
}

impl Link {
    pub(super) fn down() -> Self {
        Self {
            stage: Stage::Down,
            heartbeat_ms: 0,
            sent_at: Moment(0),
            heard_at: Moment(0),
            ping_at: Moment::NEVER,
            moving: None,
        }
    }

    pub(super) fn greet(&mut self, deadline: Moment, now: Moment) {
        *self = Self { stage: Stage::Greeting(deadline), heard_at: now, ..Self::down() };
    }

    pub(super) fn go_live(&mut self, heartbeat_s: u32) {
        self.stage = Stage::Live;
        let told = Duration::from_secs(heartbeat_s.into());
        let heartbeat = if told.is_zero() { DEFAULT_HEARTBEAT } else { told.min(MAX_HEARTBEAT) };
        self.heartbeat_ms = heartbeat.as_millis() as u32;
    }

    pub(super) fn is_live(&self) -> bool {
        self.stage == Stage::Live
    }

    pub(super) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms.into())
    }

    pub(super) fn send(&mut self, frame: &ClientFrame, now: Moment, out: &mut Vec<u8>) {
        codec::encode_client_frame_into(frame, out);
        self.sent(now);
    }

    pub(super) fn sent(&mut self, now: Moment) {
        self.sent_at = now;
    }

    pub(super) fn heard(&mut self, now: Moment) {
        self.heard_at = now;
        self.ping_at = Moment::NEVER;
    }

    /// When the next Ping is due: a quarter of the heartbeat before the room would miss the device, and also
    /// when the room has been silent for a heartbeat, because sending alone does not show that it is there.
    fn ping_due(&self) -> Moment {
        let heartbeat = self.heartbeat();
        let missed = self.sent_at + heartbeat * 3 / 4;
        if self.ping_at == Moment::NEVER { missed.min(self.heard_at + heartbeat) } else { missed }
    }

    pub(super) fn beat(&mut self, now: Moment, out: &mut Vec<u8>) {
        if self.is_live() && now >= self.ping_due() {
            out.extend_from_slice(&codec::ping());
            self.sent(now);
            self.ping_at = self.ping_at.min(now);
        }
    }

    /// Whether a Ping has gone unanswered for too long.
    pub(super) fn is_silent(&self, timeout: Duration, now: Moment) -> bool {
        self.is_live() && now >= self.ping_at + timeout
    }

    pub(super) fn next_deadline(&self, pong_timeout: Duration) -> Moment {
        match self.stage {
            Stage::Down => Moment::NEVER,
            Stage::Greeting(deadline) => deadline,
            Stage::Live => {
                let moving = self.moving.as_ref().map_or(Moment::NEVER, |moving| moving.at);
                self.ping_due().min(self.ping_at + pong_timeout).min(moving)
            }
        }
    }
}
