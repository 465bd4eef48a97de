//! The bounds of a thread's sessions.

use wire::frame::Network;

/// Bounds of one thread; the configuration divides the room's by its threads.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections.
    pub connections: usize,
    /// Bindings, those that are being ended included.
    pub bindings: usize,
    /// Bindings of one connection.
    pub bindings_per_connection: u8,
    /// Frames a second that a connection may send on average.
    pub frames_per_second: u32,
    /// Frames that it may send at once.
    pub frames_burst: u32,
    /// Upstream frames of one connection that are not answered yet.
    pub ups_in_flight: u8,
    /// Bytes of upstream payloads that are not answered yet.
    pub up_bytes: usize,
    /// Different tags of one app.
    pub tags_per_app: usize,
    /// Time from accept to Connect, ms.
    pub handshake_ms: u64,
    /// Time from Connect to the first binding, ms.
    pub first_bind_ms: u64,
    /// A closed connection may take this long to read the Close frame, ms.
    pub linger_ms: u64,
    /// A socket that takes nothing for so long is closed, ms.
    pub slow_ms: u64,
    /// Heartbeats.
    pub heartbeat: Heartbeat,
    /// Asks of each kind that may wait to be handed over.
    pub asks: usize,
    /// Bytes of an app's newest broadcasts that are kept.
    pub tail_bytes: usize,
    /// Connections that get broadcasts before others have their turn. A write takes about 7 µs, so 256 are 2 ms.
    pub slice: usize,
    /// Who is told to come back is told a random time between this and twice this, ms.
    pub retry_after_ms: u32,
}

/// How often a device has to send something, seconds.
#[derive(Debug, Clone, Copy)]
pub struct Heartbeat {
    /// Never less often asked for than this.
    pub min_s: u16,
    /// Nor more rarely than this.
    pub max_s: u16,
    /// When the device does not say, on a wire or Wi-Fi.
    pub fixed_s: u16,
    /// When the device does not say, on a mobile network: translation tables of carriers forget sooner.
    pub mobile_s: u16,
}

impl Heartbeat {
    /// What holds for a device that would like `wish_s` (0 = no wish).
    pub fn negotiate(&self, network: Network, wish_s: u32) -> u16 {
        let wish = match (wish_s, network) {
            (0, Network::Unspecified | Network::Wired | Network::Wifi) => self.fixed_s,
            (0, _) => self.mobile_s,
            (wish, _) => u16::try_from(wish).unwrap_or(u16::MAX),
        };
        wish.clamp(self.min_s, self.max_s.max(self.min_s))
    }

    /// Silence after which a connection counts as dead, ms: a lost Ping and the way there and back are forgiven.
    pub fn timeout_ms(heartbeat_s: u16) -> u64 {
        u64::from(heartbeat_s) * 1_500 + 5_000
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_000_000,
            bindings: 2_000_000,
            bindings_per_connection: 16,
            frames_per_second: 500,
            frames_burst: 2_000,
            ups_in_flight: 32,
            up_bytes: 32 << 20,
            tags_per_app: 10_000,
            handshake_ms: 10_000,
            first_bind_ms: 30_000,
            linger_ms: 2_000,
            slow_ms: 120_000,
            heartbeat: Heartbeat { min_s: 10, max_s: 600, fixed_s: 300, mobile_s: 240 },
            asks: 8_192,
            tail_bytes: 4 << 20,
            slice: 256,
            retry_after_ms: 1_000,
        }
    }
}
