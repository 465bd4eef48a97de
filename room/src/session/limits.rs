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
    /// Bytes a second that a connection may send on average.
    pub bytes_per_second: u32,
    /// Bytes that it may send at once.
    pub bytes_burst: u32,
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
    /// The archive is told of what became of broadcasts that are older than this, ms, even of bindings that stay.
    pub keep_ms: u64,
    /// Bytes of an app's newest broadcasts that are kept.
    pub tail_bytes: usize,
    /// Connections that get broadcasts before others have their turn. A write takes about 7 µs, so 256 are 2 ms.
    pub slice: usize,
    /// Looks at bindings that take as long as a write to one does, and some more; at least 1.
    pub looks: usize,
    /// A connection whose socket broke is kept for so long for the device to resume it, ms; `None` = not at all.
    pub resume_ms: Option<u64>,
    /// Connections that are kept so; the next one to break ends at once.
    pub ghosts: usize,
    /// Who is told to come back is told a random time between this and twice this, ms.
    pub retry_after_ms: u32,
}

/// How often a device has to send something, seconds. What a device wishes holds, within the bounds of its network.
#[derive(Debug, Clone, Copy)]
pub struct Heartbeat {
    /// Nobody has to, or may, send more often than this.
    pub min_s: u16,
    /// On a wire or Wi-Fi.
    pub fixed: Pace,
    /// On a mobile network, where the carriers' translation tables forget sooner.
    pub mobile: Pace,
}

/// Heartbeats of one kind of network, seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// When the device does not say.
    pub usual_s: u16,
    /// Never more rarely than this.
    pub max_s: u16,
}

impl Heartbeat {
    /// What holds for a device that would like `wish_s` (0 = no wish).
    pub fn negotiate(&self, network: Network, wish_s: u32) -> u16 {
        let pace = match network {
            Network::Wired | Network::Wifi => self.fixed,
            Network::Network2g | Network::Network3g | Network::Network4g | Network::Network5g => self.mobile,
            // It may be any, so what does for all.
            Network::Unspecified => Pace {
                usual_s: self.fixed.usual_s.min(self.mobile.usual_s),
                max_s: self.fixed.max_s.min(self.mobile.max_s),
            },
        };
        let wish = match wish_s {
            0 => pace.usual_s,
            wish => u16::try_from(wish).unwrap_or(u16::MAX),
        };
        wish.clamp(self.min_s, pace.max_s.max(self.min_s))
    }

    /// Silence after which a connection counts as dead, ms: a lost Ping and the way there and back are forgiven.
    pub fn timeout_ms(heartbeat_s: u16) -> u64 {
        u64::from(heartbeat_s) * 1_500 + 5_000
    }
}

impl Default for Heartbeat {
    /// Five minutes; up to eight where no carrier's tables are in between.
    fn default() -> Self {
        Self {
            min_s: 10,
            fixed: Pace { usual_s: 300, max_s: 480 },
            mobile: Pace { usual_s: 300, max_s: 300 },
        }
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
            bytes_per_second: 1 << 20,
            bytes_burst: 4 << 20,
            ups_in_flight: 32,
            up_bytes: 32 << 20,
            tags_per_app: 10_000,
            handshake_ms: 10_000,
            first_bind_ms: 30_000,
            linger_ms: 2_000,
            slow_ms: 120_000,
            heartbeat: Heartbeat::default(),
            asks: 8_192,
            keep_ms: 10 * 60 * 1_000,
            tail_bytes: 4 << 20,
            slice: 256,
            looks: 64,
            resume_ms: Some(30_000),
            ghosts: 1_000_000,
            retry_after_ms: 1_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_network_has_its_own_bounds() {
        let heartbeat = Heartbeat::default();
        for (network, usual, longest) in [
            (Network::Wired, 300, 480),
            (Network::Wifi, 300, 480),
            (Network::Network2g, 300, 300),
            (Network::Network3g, 300, 300),
            (Network::Network4g, 300, 300),
            (Network::Network5g, 300, 300),
            (Network::Unspecified, 300, 300),
        ] {
            let negotiated = |wish| heartbeat.negotiate(network, wish);
            assert_eq!(negotiated(0), usual, "{network:?}");
            assert_eq!(negotiated(u32::MAX), longest, "{network:?}");
            assert_eq!(negotiated(400), 400.min(longest), "{network:?}");
            // Where reactions have to be instant.
            assert_eq!(negotiated(60), 60, "{network:?}");
            assert_eq!(negotiated(1), 10, "{network:?}");
        }
    }

    #[test]
    fn an_unknown_network_gets_what_does_for_all() {
        let fixed = Pace { usual_s: 400, max_s: 500 };
        let mobile = Pace { usual_s: 120, max_s: 600 };
        let heartbeat = Heartbeat { min_s: 10, fixed, mobile };
        assert_eq!(heartbeat.negotiate(Network::Unspecified, 0), 120);
        assert_eq!(heartbeat.negotiate(Network::Unspecified, 900), 500);
        assert_eq!(heartbeat.negotiate(Network::Wifi, 0), 400);
        assert_eq!(heartbeat.negotiate(Network::Network4g, 900), 600);
    }

    #[test]
    fn a_lost_ping_is_forgiven() {
        // The device pings at three quarters of it, and again a heartbeat later.
        assert!(Heartbeat::timeout_ms(60) > 60_000 + 60_000 / 4);
    }
}
