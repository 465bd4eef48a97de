//! What a broadcast would reach and cost now.

use std::collections::BTreeMap;

use cluster::Role;
use prost::Message as _;
use proto::{internal::CountAudienceRequest, v1};
use wire::frame::{Broadcast, ServerFrame};

use super::{Caller, Ops};
use crate::{
    auth::Scope,
    error::Result,
    when::{self, Due},
};

/// Between the first clocks of the world and the last.
const AROUND_THE_WORLD_MS: u64 = (when::STEPS as u64 - 1) * 15 * 60_000;
/// A paced broadcast goes in steps of a quarter of a second, and no step to more than a twentieth of all places of the ring.
const STEP_MS: u64 = 250;
const STEP_PLACES: u64 = (1 << 32) / 20;

impl Ops {
    /// Counts whom a broadcast would reach who is online; nothing is sent, nor kept.
    pub async fn preview_broadcast(
        &self,
        caller: &Caller,
        request: v1::BroadcastRequest,
    ) -> Result<v1::BroadcastPreview> {
        let app = self.app(caller, Scope::Read, &request.app).await?;
        self.check_payload(&request.payload)?;
        let asked = self.asked(&app, &request)?;
        let (frame, below) = (frame_bytes(app.id, &request), asked.filter.hash_below);
        let count =
            CountAudienceRequest { app: app.id, audience: asked.audience, filter: Some(asked.filter) };
        let told = self.peers.rooms.count_audience(count).await;
        let picture = self.cluster.now();
        let mut zones = BTreeMap::<String, u64>::new();
        let (mut users, mut most) = (0, 0);
        for (room, bindings) in told.answer {
            let zone = picture.node(Role::Room, room).map(|node| node.zone.clone()).unwrap_or_default();
            *zones.entry(zone).or_default() += bindings;
            users += bindings;
            most = most.max(bindings);
        }
        // Without a speed each room sends to its own as fast as it can, all at the same time.
        let (work, speed) = match asked.users_per_second {
            0 => (most, self.config().broadcasts.room_frames_per_second.max(1)),
            speed => (users, speed),
        };
        let places = if below == 0 { 1 << 32 } else { below };
        let least = if asked.users_per_second == 0 { 0 } else { places / STEP_PLACES * STEP_MS };
        let around = if matches!(asked.due, Due::Local(_)) { AROUND_THE_WORLD_MS } else { 0 };
        Ok(v1::BroadcastPreview {
            users,
            zones: zones
                .into_iter()
                .map(|(zone, users)| v1::broadcast_preview::Zone { zone, users })
                .collect(),
            bytes: users.saturating_mul(frame),
            duration_ms: around + (work.saturating_mul(1_000)).div_ceil(u64::from(speed)).max(least),
            rooms_missed: u32::try_from(told.missed.len()).unwrap_or(u32::MAX),
        })
    }
}

/// What one device is sent: the frame as its numbers will about be, and its length before it.
fn frame_bytes(app: u32, request: &v1::BroadcastRequest) -> u64 {
    let now = cluster::now_ms();
    let frame = ServerFrame::from(Broadcast {
        app,
        bseq: 1 << 20,
        id: 1,
        payload: request.payload.clone(),
        accepted_ms: now,
        ..Default::default()
    });
    let length = frame.encoded_len();
    (prost::length_delimiter_len(length) + length) as u64
}
