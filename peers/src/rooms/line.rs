//! What goes to one room.

use bytes::Bytes;
use cluster::{Role, Transport};
use flow::Batcher;
use proto::internal::{self as rpc, room_client::RoomClient};

use crate::{
    PeerError,
    wire::{Control, Line, Wire},
};

/// An item's fields apart from payload and name, encoded; an estimate is good enough for a bound.
const FIELDS: usize = 48;

/// A delivery before it is packed into a batch; without payload it is a nudge.
#[derive(Clone)]
pub(super) struct Parcel {
    pub(super) item: rpc::DeliverItem,
    pub(super) payload: Option<Bytes>,
}

pub(crate) struct RoomLine {
    deliver: Batcher<Parcel, i32, PeerError>,
    /// What is urgent does not wait behind what is not. A room that sees it too early reads the inbox.
    deliver_urgent: Batcher<Parcel, i32, PeerError>,
    pub(super) broadcast: Batcher<rpc::BroadcastNotice, rpc::BroadcastNoticeResponse, PeerError>,
    pub(super) kick: Batcher<rpc::KickItem, bool, PeerError>,
    pub(super) control: Control,
    client: RoomClient<Transport>,
}

impl RoomLine {
    /// What gathers deliveries of the parcel's priority.
    pub(super) fn deliver(&self, parcel: &Parcel) -> &Batcher<Parcel, i32, PeerError> {
        if parcel.item.urgent { &self.deliver_urgent } else { &self.deliver }
    }

    /// A client for a call by [`RoomLine::control`].
    pub(super) fn client(&self) -> RoomClient<Transport> {
        self.client.clone()
    }
}

impl Line for RoomLine {
    const ROLE: Role = Role::Room;

    fn open(wire: &mut Wire) -> Self {
        let limits = wire.limits;
        let client = RoomClient::new(wire.transport());
        let weight = (limits.batch_bytes, parcel_bytes as fn(&Parcel) -> usize);
        let mut deliveries = |name| {
            let c = client.clone();
            wire.batcher(name, limits.ordered(), Some(weight), move |parcels| {
                let mut c = c.clone();
                async move { Ok(c.deliver(pack(parcels)).await?.into_inner().results) }
            })
        };
        let (deliver, deliver_urgent) = (deliveries("room_deliver"), deliveries("room_deliver_urgent"));
        let c = client.clone();
        // One at a time, so that a room sees the numbers of a log in order.
        let broadcast = wire.singles("room_broadcast", 1, move |notice| {
            let mut c = c.clone();
            async move { c.broadcast(notice).await }
        });
        let c = client.clone();
        let kick = wire.batcher("room_kick", limits.batch(), None, move |items| {
            let mut c = c.clone();
            async move { Ok(c.kick(rpc::KickRequest { items }).await?.into_inner().kicked) }
        });
        Self { deliver, deliver_urgent, broadcast, kick, control: wire.control(), client }
    }
}

/// The payload counts for each item, shared or not: which of them share is known only when the batch is packed.
fn parcel_bytes(parcel: &Parcel) -> usize {
    parcel.item.uid.len() + parcel.payload.as_ref().map_or(0, Bytes::len) + FIELDS
}

/// Consecutive items with the same bytes in memory (a multicast) share one payload.
fn pack(parcels: Vec<Parcel>) -> rpc::DeliverRequest {
    let mut request = rpc::DeliverRequest { payloads: Vec::new(), items: Vec::with_capacity(parcels.len()) };
    for Parcel { mut item, payload } in parcels {
        item.payload = payload.map(|payload| {
            let shared = request.payloads.last().is_some_and(|last| same(last, &payload));
            if !shared {
                request.payloads.push(payload);
            }
            u32::try_from(request.payloads.len() - 1).unwrap_or(u32::MAX)
        });
        request.items.push(item);
    }
    request
}

/// Whether both are the same piece of memory; comparing the contents would cost more than it saves.
fn same(a: &Bytes, b: &Bytes) -> bool {
    a.as_ptr() == b.as_ptr() && a.len() == b.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(uid: &str, payload: Option<&Bytes>) -> Parcel {
        let item = rpc::DeliverItem { uid: uid.to_owned(), payload: Some(99), ..Default::default() };
        Parcel { item, payload: payload.cloned() }
    }

    #[test]
    fn a_multicast_carries_its_payload_once() {
        let (a, b) = (Bytes::from(vec![1; 10]), Bytes::from(vec![1; 10]));
        let parcels = vec![
            parcel("1", Some(&a)),
            parcel("2", Some(&a)),
            parcel("nudged", None),
            parcel("3", Some(&a)),
            parcel("4", Some(&b)),
            parcel("5", Some(&a.slice(..5))),
        ];
        let request = pack(parcels);
        assert_eq!(request.payloads.len(), 3);
        let indexes: Vec<_> = request.items.iter().map(|item| item.payload).collect();
        assert_eq!(indexes, [Some(0), Some(0), None, Some(0), Some(1), Some(2)]);
    }
}
