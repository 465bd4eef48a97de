//! The rooms: where the connections are.

mod jobs;
mod line;

use std::sync::Arc;

use bytes::Bytes;
use cluster::{NodeId, Role};
use flow::CallError;
use futures::{StreamExt as _, stream};
use proto::internal::{self as rpc, Delivery};

use crate::{
    PeerError,
    call::Repeat,
    links::{To, not_down},
    role::role,
};
pub use jobs::add_progress;
use line::{Parcel, RoomLine};

/// Deliveries of one list under way at a time: some full batches to each of a few rooms.
const LIST_WINDOW: usize = 2048;

/// What came of telling all rooms something.
#[derive(Clone, Debug)]
pub struct Told<T> {
    /// The answers, merged.
    pub answer: T,
    /// Rooms that answered.
    pub reached: usize,
    /// Rooms that did not, and why.
    pub missed: Vec<(NodeId, PeerError)>,
}

role! {
    /// Calls to the rooms. Clones are cheap and share connections and queues.
    Rooms, RoomLine
}

impl Rooms {
    /// Delivers a message to a user of that room. `item.payload` is filled in here.
    ///
    /// Deliveries to one room go out in the order of these calls' first polls, one batch at a time: were two under way,
    /// a later message of an inbox could arrive first, and the room would have to read the earlier from the saver. Urgent ones
    /// have batches of their own, and so overtake what waits.
    ///
    /// It is tried once. A stored message that does not arrive is found by the next one's number or by the saver's
    /// sweep, and a transient one is not worth a repeat that may double it.
    ///
    /// # Errors
    /// [`PeerError`]; at once if too much waits for the room.
    pub async fn deliver(
        &self,
        room: NodeId,
        item: rpc::DeliverItem,
        payload: Bytes,
    ) -> Result<Delivery, PeerError> {
        self.send(room, Parcel { item, payload: Some(payload) }, false).await
    }

    /// Tells a room that a user's inbox reaches to `item.seq`. In the same order as deliveries.
    ///
    /// # Errors
    /// [`PeerError`]; at once if too much waits for the room.
    pub async fn nudge(&self, room: NodeId, item: rpc::DeliverItem) -> Result<Delivery, PeerError> {
        self.send(room, Parcel { item, payload: None }, false).await
    }

    /// Delivers one message to a list of users, in whatever rooms; results in the order of the list. A list waits for
    /// places in the queues, instead of filling them to the cost of single deliveries.
    pub async fn deliver_list(
        &self,
        items: Vec<(NodeId, rpc::DeliverItem)>,
        payload: Bytes,
    ) -> Vec<Result<Delivery, PeerError>> {
        let one = |(room, item)| {
            let (rooms, payload) = (self.clone(), Some(payload.clone()));
            async move { rooms.send(room, Parcel { item, payload }, true).await }
        };
        stream::iter(items).map(one).buffered(LIST_WINDOW).collect().await
    }

    async fn send(&self, room: NodeId, parcel: Parcel, patient: bool) -> Result<Delivery, PeerError> {
        let call = |line: Arc<RoomLine>| {
            let parcel = parcel.clone();
            async move {
                let queue = line.deliver(&parcel);
                if patient { queue.submit(parcel).await } else { queue.call(parcel).await }
            }
        };
        let delivery = self.links.call(To::Node(room), Repeat::Needless, call).await?;
        // A word that a later version may add: as if the user was not there, which the inbox makes up for.
        Ok(Delivery::try_from(delivery).unwrap_or(Delivery::NotHere))
    }

    /// Hands a broadcast to all rooms, to each in the order of these calls. Rooms that are missed find it in the log.
    pub async fn broadcast(&self, notice: rpc::BroadcastNotice) -> Told<()> {
        let call = |line: Arc<RoomLine>| {
            let notice = notice.clone();
            async move { line.broadcast.submit(notice).await }
        };
        self.tell(call, |(), _| ()).await
    }

    /// Tells all rooms that a message was taken back; answers how many bindings were notified.
    pub async fn recall(&self, notice: rpc::RecallNotice) -> Told<u64> {
        let call = |line: Arc<RoomLine>| {
            let notice = notice.clone();
            async move { line.control.call(line.client().recall(notice)).await }
        };
        self.tell(call, |sum: u64, part: rpc::RecallNoticeResponse| sum + part.notified).await
    }

    /// Ends bindings of a user in that room, up to a fence; whether there was one.
    ///
    /// # Errors
    /// [`PeerError`]; [`PeerError::NoNode`] if the room has left, and its bindings with it.
    pub async fn kick(&self, room: NodeId, item: rpc::KickItem) -> Result<bool, PeerError> {
        let call = |line: Arc<RoomLine>| {
            let item = item.clone();
            async move { line.kick.call(item).await }
        };
        self.links.call(To::Node(room), Repeat::Harmless, call).await
    }

    /// Begins the drain of a room.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn drain(&self, room: NodeId) -> Result<(), PeerError> {
        let call = |line: Arc<RoomLine>| async move {
            line.control.call(line.client().drain(rpc::DrainRequest {})).await
        };
        self.links.call(To::Node(room), Repeat::Harmless, call).await.map(|_| ())
    }

    /// Calls every room that may be up and merges the answers.
    async fn tell<A, T, F, Fut>(&self, op: F, merge: impl Fn(A, T) -> A) -> Told<A>
    where
        A: Default,
        F: Fn(Arc<RoomLine>) -> Fut,
        Fut: Future<Output = Result<T, CallError<PeerError>>>,
    {
        let nodes = not_down(&self.links.view().picture, Role::Room);
        let mut told = Told { answer: A::default(), reached: 0, missed: Vec::new() };
        for (node, result) in self.links.call_each(nodes, op).await {
            match result {
                Ok(part) => {
                    told.answer = merge(told.answer, part);
                    told.reached += 1;
                }
                Err(error) => told.missed.push((node, error)),
            }
        }
        told
    }
}
