//! From the configuration to what threads, backend and drains are made with.

use std::{net::SocketAddr, time::Duration};

use super::{Config, WebSocketConfig};
use crate::{
    admission::Rules,
    backend::BackendLimits,
    event_loop::{Bounds, Doors, Setup, WebSocketDoor},
    exchange::DrainOrder,
    session::Limits,
};

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn ms32(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

impl Config {
    /// Broken connections that are kept.
    pub(crate) fn ghosts(&self) -> usize {
        self.ghosts_max.unwrap_or(self.connections_max)
    }

    /// Each thread gets its share of the room's bounds.
    pub(crate) fn setup(&self, number: u8) -> Setup {
        let share = |whole: usize| whole.div_ceil(self.threads);
        Setup {
            number,
            max_frame: self.max_frame_bytes,
            partial_bytes: share(self.partial_bytes_total),
            doors: Doors::default(),
            bounds: Bounds {
                connection: self.queued_bytes,
                // A few hundred answers.
                reserve: 16 * 1024,
                thread: share(self.queued_bytes_total),
            },
            limits: Limits {
                // The room's own, for every thread: its admission counts them all.
                connections: self.connections_max,
                bindings: share(self.bindings_max),
                bindings_per_connection: self.bindings_per_connection,
                frames_per_second: self.frames_per_second,
                frames_burst: self.frames_burst,
                bytes_per_second: self.admission.bytes_per_second,
                bytes_burst: self.admission.bytes_burst,
                ups_in_flight: self.ups_in_flight,
                up_bytes: self.work.up_bytes,
                tags_per_app: self.tags_per_app,
                handshake_ms: ms(self.handshake_timeout),
                first_bind_ms: ms(self.first_bind_timeout),
                slow_ms: ms(self.slow_timeout),
                heartbeat: self.heartbeat.negotiable(),
                tail_bytes: self.log_bytes,
                resume_ms: self.resume.then(|| ms(self.resume_grace)),
                ghosts: share(self.ghosts()),
                retry_after_ms: ms32(self.retry_after),
                ..Limits::default()
            },
        }
    }

    /// Whom a WebSocket is given to, by the room of this number.
    pub(crate) fn websocket_door(&self, room: u32) -> Option<WebSocketDoor> {
        let WebSocketConfig { enabled, origins, cookie, path } = &self.websocket;
        enabled.then(|| WebSocketDoor {
            path: path.clone(),
            origins: origins.clone(),
            cookie: cookie.then_some(room),
        })
    }

    /// What is asked of who connects.
    pub(crate) fn rules(&self) -> Rules {
        self.admission.rules(ms32(self.retry_after))
    }

    pub(crate) fn backend(&self) -> BackendLimits {
        BackendLimits {
            binds: self.work.binds,
            loads: self.work.loads,
            acks: self.work.acks,
            ends: self.work.ends,
            ups: self.work.ups,
            events: self.work.events,
            page_messages: self.work.page_messages,
            page_bytes: self.work.page_bytes,
            cache_bytes: self.log_bytes,
            patience: self.work.patience,
            heads_interval: self.work.heads_interval,
            ..BackendLimits::default()
        }
    }

    pub(crate) fn drain_order(&self) -> DrainOrder {
        DrainOrder {
            per_second: self.drain.per_second.max(1).div_ceil(self.threads as u32),
            spread_ms: ms32(self.drain.spread),
            linger_ms: ms32(self.drain.linger),
        }
    }

    /// What devices are told, given where the room listens.
    pub(crate) fn endpoints(&self, bound: SocketAddr) -> Vec<String> {
        if !self.advertise.is_empty() {
            return self.advertise.clone();
        }
        let reachable = match bound {
            SocketAddr::V4(v4) if v4.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], v4.port())),
            other => other,
        };
        vec![reachable.to_string()]
    }
}
