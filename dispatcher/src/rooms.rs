//! The rooms that devices may be sent to, taken from the cluster's picture.

use std::collections::{BTreeMap, HashMap};

use cluster::{NodeId, NodeInfo, NodeState, Picture, Role};

/// Weights change in so many steps of a room's capacity. With finer ones every small change of the load would
/// send some users to another room than the one that has their ghost binding and warm inbox.
const WEIGHT_STEPS: f64 = 16.0;
/// Taken for a room that has not told its capacity yet.
const UNKNOWN_CAPACITY: f64 = 100_000.0;

/// A room that takes devices.
#[derive(Debug, Clone, PartialEq)]
pub struct Room {
    /// Its node id.
    pub id: NodeId,
    /// Its headroom in connections, in coarse steps; greater than zero.
    pub weight: f64,
    /// Where devices connect.
    pub endpoints: Vec<Address>,
}

/// An address that a device may connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `host:port`, as devices get it.
    pub text: String,
    host_len: usize,
}

impl Address {
    pub(crate) fn new(text: &str) -> Address {
        Address { text: text.to_owned(), host_len: text.rfind(':').unwrap_or(text.len()) }
    }

    pub(crate) fn host(&self) -> &str {
        &self.text[..self.host_len]
    }

    pub(crate) fn port(&self) -> &str {
        &self.text[self.host_len..]
    }
}

/// The rooms of one zone.
#[derive(Debug)]
pub(crate) struct Zone {
    pub(crate) name: String,
    pub(crate) rooms: Vec<Room>,
}

/// All rooms that take devices. Made anew at every change of the picture.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    pub(crate) zones: Vec<Zone>,
    /// Index of the zone of each address.
    pub(crate) zone_of: HashMap<String, usize>,
    /// Dispatchers that serve, this one included.
    pub(crate) dispatchers: usize,
}

impl Rooms {
    /// Draining, down and full rooms are left out, and those that do not say where they listen.
    pub(crate) fn of(picture: &Picture, full_at: f64) -> Rooms {
        let mut zones: BTreeMap<&str, Vec<Room>> = BTreeMap::new();
        for node in picture.of(Role::Room) {
            if let Some(room) = room(node, full_at) {
                zones.entry(&node.zone).or_default().push(room);
            }
        }
        let zones: Vec<_> =
            zones.into_iter().map(|(name, rooms)| Zone { name: name.to_owned(), rooms }).collect();
        let addresses = |(at, zone): (usize, &Zone)| {
            let all = zone.rooms.iter().flat_map(|room| &room.endpoints);
            all.map(|address| (address.text.clone(), at)).collect::<Vec<_>>()
        };
        let zone_of = zones.iter().enumerate().flat_map(addresses).collect();
        Rooms { zones, zone_of, dispatchers: picture.serving(Role::Dispatcher).count().max(1) }
    }

    pub(crate) fn count(&self) -> usize {
        self.zones.iter().map(|zone| zone.rooms.len()).sum()
    }
}

fn room(node: &NodeInfo, full_at: f64) -> Option<Room> {
    if node.state != NodeState::Ready || node.endpoints.is_empty() {
        return None;
    }
    let weight = if node.load.capacity == 0 {
        UNKNOWN_CAPACITY
    } else {
        let capacity = node.load.capacity as f64;
        let used = node.load.connections as f64 / capacity;
        if used >= full_at {
            return None;
        }
        // Rounded up, so that a room that is not full keeps some weight.
        capacity * ((1.0 - used) * WEIGHT_STEPS).ceil().max(1.0) / WEIGHT_STEPS
    };
    Some(Room { id: node.id, weight, endpoints: node.endpoints.iter().map(|e| Address::new(e)).collect() })
}

#[cfg(test)]
pub(crate) mod tests {
    use cluster::{Incarnation, Load};

    use super::*;

    pub(crate) fn node(
        id: u32,
        zone: &str,
        state: NodeState,
        endpoints: &[&str],
        load: (u64, u64),
    ) -> NodeInfo {
        NodeInfo {
            incarnation: Incarnation(1),
            zone: zone.to_owned(),
            state,
            endpoints: endpoints.iter().map(|e| (*e).to_owned()).collect(),
            load: Load { connections: load.0, capacity: load.1 },
            ..NodeInfo::new(Role::Room, NodeId(id))
        }
    }

    #[test]
    fn leaves_out_who_takes_nobody() {
        let ready = NodeState::Ready;
        let picture = Picture::new(
            1,
            vec![
                node(1, "a", ready, &["h1:1"], (0, 100)),
                node(2, "a", NodeState::Draining, &["h2:1"], (0, 100)),
                node(3, "a", NodeState::Down, &["h3:1"], (0, 100)),
                node(4, "a", NodeState::Starting, &["h4:1"], (0, 100)),
                node(5, "a", ready, &["h5:1"], (98, 100)),
                node(6, "a", ready, &[], (0, 100)),
                node(7, "b", ready, &["h7:1"], (97, 100)),
                node(8, "b", ready, &["h8:1"], (0, 0)),
            ],
        );
        let rooms = Rooms::of(&picture, 0.98);
        let ids: Vec<_> = rooms.zones.iter().flat_map(|z| z.rooms.iter().map(|r| r.id.0)).collect();
        assert_eq!(ids, [1, 7, 8]);
        assert_eq!(rooms.count(), 3);
        assert_eq!(rooms.zone_of["h7:1"], 1);
        assert!(rooms.zones[1].rooms[0].weight > 0.0);
    }

    #[test]
    fn a_few_connections_more_change_no_weight() {
        let weight = |connections| {
            room(&node(1, "a", NodeState::Ready, &["h:1"], (connections, 1600)), 1.0).unwrap().weight
        };
        assert_eq!(weight(0), 1600.0);
        assert_eq!(weight(801), weight(899));
        assert!(weight(901) < weight(899));
    }
}
