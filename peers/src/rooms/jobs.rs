//! What broadcast jobs ask of rooms that are named one by one.

use std::sync::Arc;

use cluster::{NodeId, Role};
use futures::future::join_all;
use proto::internal as rpc;

use super::{Rooms, Told, line::RoomLine};
use crate::{
    PeerError,
    call::Repeat,
    links::{To, not_down},
};

impl Rooms {
    /// How many bindings an audience has now, in each room that may be up.
    pub async fn count_audience(&self, request: rpc::CountAudienceRequest) -> Told<Vec<(NodeId, u64)>> {
        let nodes = not_down(&self.links.view().picture, Role::Room);
        let call = |line: Arc<RoomLine>| {
            let request = request.clone();
            async move { line.control.call(line.client().count_audience(request)).await }
        };
        let mut told = Told { answer: Vec::with_capacity(nodes.len()), reached: 0, missed: Vec::new() };
        for (node, result) in self.links.call_each(nodes, call).await {
            match result {
                Ok(part) => {
                    told.answer.push((node, part.bindings));
                    told.reached += 1;
                }
                Err(error) => told.missed.push((node, error)),
            }
        }
        told
    }

    /// Hands a broadcast to these rooms, to each in the order of these calls; answers those that did not take it. They find
    /// it in the log.
    pub async fn broadcast_to(
        &self,
        rooms: &[NodeId],
        notice: &rpc::BroadcastNotice,
    ) -> Vec<(NodeId, PeerError)> {
        let calls = rooms.iter().map(|room| {
            let call = |line: Arc<RoomLine>| {
                let notice = notice.clone();
                async move { line.broadcast.submit(notice).await }
            };
            async move { (*room, self.links.call(To::Node(*room), Repeat::Harmless, call).await) }
        });
        let told = join_all(calls).await;
        told.into_iter().filter_map(|(room, result)| result.err().map(|error| (room, error))).collect()
    }

    /// What each of these rooms has sent and got acked of the request's broadcasts. A room is asked once: who wants to know asks
    /// again.
    pub async fn progress_of(
        &self,
        rooms: &[NodeId],
        request: &rpc::ProgressRequest,
    ) -> Vec<(NodeId, Result<rpc::ProgressResponse, PeerError>)> {
        let calls = rooms.iter().map(|room| {
            let call = |line: Arc<RoomLine>| {
                let request = request.clone();
                async move { line.control.call(line.client().progress(request)).await }
            };
            async move { (*room, self.links.call(To::Node(*room), Repeat::Needless, call).await) }
        });
        join_all(calls).await
    }
}

/// Adds what one room told of a broadcast to a sum.
pub fn add_progress(total: &mut rpc::Progress, one: &rpc::Progress) {
    total.targets += one.targets;
    total.sent += one.sent;
    total.acked += one.acked;
    total.pending += one.pending;
    total.ripe += one.ripe;
    total.ripe_acked += one.ripe_acked;
    total.expired += one.expired;
    total.recalled += one.recalled;
    if total.latency.len() < one.latency.len() {
        total.latency.resize(one.latency.len(), 0);
    }
    for (sum, count) in total.latency.iter_mut().zip(&one.latency) {
        *sum += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_whatever_buckets_they_have() {
        let mut sum = rpc::Progress { id: 7, pending: 1, latency: vec![1], ..Default::default() };
        let one = rpc::Progress {
            id: 7,
            targets: 2,
            sent: 3,
            acked: 4,
            pending: 5,
            latency: vec![1, 0, 2],
            ripe: 6,
            ripe_acked: 7,
            expired: 8,
            recalled: 9,
        };
        add_progress(&mut sum, &one);
        let whole = rpc::Progress { pending: 6, latency: vec![2, 0, 2], ..one };
        assert_eq!(sum, whole);
    }
}
