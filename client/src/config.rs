//! Settings of a session; one value is shared by all sessions of a process.

use std::time::Duration;

use wire::frame::Network;

use crate::backoff::Backoff;

/// Settings of a session.
#[derive(Debug, Clone)]
pub struct Config {
    /// The network that the device is on; the room may choose its heartbeat by it.
    pub network: Network,
    /// What the device's clock shows minus UTC, for what is due at a local time.
    pub utc_offset: UtcOffset,
    /// Heartbeat that the device would like; `None` = the room's default. Whole seconds.
    pub heartbeat: Option<Duration>,
    /// Name and version of the SDK, at most 64 bytes.
    pub sdk: String,
    /// When and how messages are acked.
    pub ack: AckPolicy,
    /// How long `Connected` may take. 10 s: three retransmissions of a slow mobile network.
    pub handshake_timeout: Duration,
    /// How long an answer to `Bind` may take. 20 s: a room waits for the register and the saver, which may be
    /// failing over.
    pub bind_timeout: Duration,
    /// How long the room may stay silent after a `Ping`. 10 s, as for the handshake.
    pub pong_timeout: Duration,
    /// How long an `UpAck` may take before the frame is sent again. 30 s: the backend's time-out and one retry.
    pub up_timeout: Duration,
    /// Most upstream frames that wait for their `UpAck`, in one session. Worst case in memory: this many
    /// times 64 KiB.
    pub max_pending_ups: usize,
    /// `RETRY` answers to one upstream frame after which it is given up.
    pub max_up_attempts: u32,
    /// Token refusals in a row after which a binding is given up.
    pub max_token_attempts: u32,
    /// Waits between attempts to bind, send up and connect.
    pub backoff: Backoff,
    /// Message ids remembered per binding, 8 bytes each, taken up only as messages come: they catch a message
    /// that comes again under another number after the inbox was rebuilt.
    pub recent_ids: usize,
    /// Whether a session drops a token once it is bound, and asks for a new one on the next connection: a token is as long
    /// as the rest of a session at rest, and who makes tokens has no need to keep them.
    pub forget_tokens: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            network: Network::Unspecified,
            utc_offset: UtcOffset::System,
            heartbeat: None,
            sdk: concat!("longwire-rust/", env!("CARGO_PKG_VERSION")).to_owned(),
            ack: AckPolicy::default(),
            handshake_timeout: Duration::from_secs(10),
            bind_timeout: Duration::from_secs(20),
            pong_timeout: Duration::from_secs(10),
            up_timeout: Duration::from_secs(30),
            max_pending_ups: 64,
            max_up_attempts: 10,
            max_token_attempts: 5,
            backoff: Backoff::default(),
            recent_ids: 64,
            forget_tokens: false,
        }
    }
}

/// What a device tells of its clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UtcOffset {
    /// What the system's time zone says when a connection is opened, if it can be read. A [`Session`](crate::Session) by itself
    /// has no clock: its driver tells it, as [`Device`](crate::Device) does.
    #[default]
    System,
    /// This, in minutes: -720 to 840.
    Minutes(i16),
    /// Nothing; the cluster takes UTC.
    Untold,
}

impl UtcOffset {
    /// The minutes to tell, where the system says `system`.
    pub(crate) fn or_system(self, system: Option<i16>) -> Option<i16> {
        match self {
            Self::System => system,
            Self::Minutes(minutes) => Some(minutes),
            Self::Untold => None,
        }
    }
}

/// When and how messages are acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckPolicy {
    /// Who says that a message is done with.
    pub confirm: Confirm,
    /// How long an ack may wait for others to join it. Acks are cumulative, so one does for all.
    pub max_delay: Duration,
    /// How long the ack of a broadcast may wait; each waits for a time between half of it and all. Another that comes meanwhile
    /// begins the wait anew, up to three times as long in all. No more than 20 s.
    pub broadcast_delay: Duration,
    /// Messages after which an ack does not wait.
    pub max_unacked: u32,
}

impl Default for AckPolicy {
    /// 100 ms and 32 messages: a trickle costs the radio one packet for each burst, and a flood one for 32. 2 s for
    /// broadcasts: no store waits for their acks, and a room that has just sent to all its devices is not answered by all of
    /// them at once. The radio is still awake then.
    fn default() -> Self {
        Self {
            confirm: Confirm::Auto,
            max_delay: Duration::from_millis(100),
            broadcast_delay: Duration::from_secs(2),
            max_unacked: 32,
        }
    }
}

/// Who says that a message is done with, so that the cluster may forget it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirm {
    /// The session, as soon as it has handed the message out.
    Auto,
    /// The app, by [`Session::confirm`](crate::Session::confirm).
    ByApp,
}
