//! The scattered group: addresses that are unlikely to fail together.
//!
//! The same host may be reachable on one port and not on another, and one network may block a whole host. So the
//! group spreads over rooms first, then hosts, then ports, and begins with the user's own room.

use std::collections::HashSet;

use cluster::{NodeId, rendezvous};

use crate::{
    rooms::{Address, Rooms},
    strategy::Strategy,
};

/// Rooms looked at for each address of the group: enough that some have other hosts and ports.
const LOOK_AT: usize = 4;

/// What a group is made for.
pub(crate) struct Wanted<'a> {
    /// Hash of the user.
    pub(crate) key: u64,
    /// Addresses.
    pub(crate) count: usize,
    /// Zones, the nearest first, by index.
    pub(crate) zones: &'a [usize],
    /// Addresses to leave out.
    pub(crate) tried: &'a HashSet<&'a str>,
    /// The last address is to be of another zone than the first, if there is one.
    pub(crate) reach_out: bool,
}

/// An address of a group and its zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chosen<'a> {
    pub(crate) address: &'a Address,
    pub(crate) zone: &'a str,
}

struct Candidate<'a> {
    chosen: Chosen<'a>,
    room: NodeId,
    /// Place of the zone, place of the room in its zone, place of the address in its room.
    order: (usize, usize, u64),
}

/// The group, the address to try first at its head. Empty if every address was tried.
pub(crate) fn scatter<'a>(rooms: &'a Rooms, strategy: &dyn Strategy, wanted: &Wanted<'_>) -> Vec<Chosen<'a>> {
    let candidates = candidates(rooms, strategy, wanted);
    let mut group: Vec<&Candidate<'a>> = Vec::with_capacity(wanted.count);
    while group.len() < wanted.count {
        let reach_out = wanted.reach_out && group.len() + 1 == wanted.count;
        let away = |c: &&Candidate<'_>| group.first().is_some_and(|f| f.chosen.zone != c.chosen.zone);
        let left = || candidates.iter().filter(|c| !group.iter().any(|g| g.chosen == c.chosen));
        let nearest = |c: &&Candidate<'_>| cost(c, &group);
        let next = reach_out.then(|| left().filter(away).min_by_key(nearest)).flatten();
        match next.or_else(|| left().min_by_key(nearest)) {
            Some(next) => group.push(next),
            None => break,
        }
    }
    group.into_iter().map(|candidate| candidate.chosen).collect()
}

type Cost = (usize, bool, bool, bool, (usize, usize, u64));

/// What speaks against an address, the most important first.
fn cost(candidate: &Candidate<'_>, group: &[&Candidate<'_>]) -> Cost {
    let shares = |same: &dyn Fn(&Candidate<'_>) -> bool| group.iter().any(|g| same(g));
    let address = candidate.chosen.address;
    (
        candidate.order.0,
        shares(&|g| g.room == candidate.room),
        shares(&|g| g.chosen.address.host() == address.host()),
        shares(&|g| g.chosen.address.port() == address.port()),
        candidate.order,
    )
}

fn candidates<'a>(rooms: &'a Rooms, strategy: &dyn Strategy, wanted: &Wanted<'_>) -> Vec<Candidate<'a>> {
    let mut candidates = Vec::new();
    for (nearness, at) in wanted.zones.iter().enumerate() {
        // The first zone, one to reach out to, and as many more as it takes to fill the group.
        if nearness >= 2 && candidates.len() >= wanted.count {
            break;
        }
        let zone = &rooms.zones[*at];
        for (rank, room) in
            strategy.rank(wanted.key, &zone.rooms, wanted.count * LOOK_AT).into_iter().enumerate()
        {
            let room = &zone.rooms[room];
            let untried = room.endpoints.iter().filter(|a| !wanted.tried.contains(a.text.as_str()));
            candidates.extend(untried.map(|address| {
                // Users of one room spread over its addresses, each user always to the same.
                let place = rendezvous::user_key(0, &address.text) ^ wanted.key;
                Candidate {
                    chosen: Chosen { address, zone: &zone.name },
                    room: room.id,
                    order: (nearness, rank, rendezvous::score(place, room.id)),
                }
            }));
        }
    }
    candidates
}

#[cfg(test)]
mod tests {
    use cluster::{NodeState, Picture};

    use super::*;
    use crate::{config::StrategyKind, rooms::tests::node, strategy::strategy};

    fn rooms(list: &[(u32, &str, &[&str])]) -> Rooms {
        let nodes =
            list.iter().map(|(id, zone, at)| node(*id, zone, NodeState::Ready, at, (0, 100))).collect();
        Rooms::of(&Picture::new(1, nodes), 0.98)
    }

    fn group(rooms: &Rooms, key: u64, count: usize, tried: &[&str], reach_out: bool) -> Vec<String> {
        let zones: Vec<usize> = (0..rooms.zones.len()).collect();
        let tried = tried.iter().copied().collect();
        let wanted = Wanted { key, count, zones: &zones, tried: &tried, reach_out };
        let strategy = strategy(StrategyKind::ConsistentHash);
        scatter(rooms, strategy.as_ref(), &wanted).iter().map(|c| c.address.text.clone()).collect()
    }

    #[test]
    fn spreads_over_hosts_and_ports() {
        let rooms = rooms(&[
            (1, "a", &["h1:443", "h1:80"]),
            (2, "a", &["h1:443", "h1:8080"]),
            (3, "a", &["h2:443", "h2:80"]),
            (4, "a", &["h3:80", "h3:443"]),
        ]);
        for key in 0..500 {
            let group = group(&rooms, key * 0x9E37_79B9, 3, &[], false);
            let unique = |part: fn(&str) -> &str| group.iter().map(|a| part(a)).collect::<HashSet<_>>().len();
            assert_eq!(unique(|a| a.split(':').next().unwrap_or(a)), 3, "{group:?}");
            assert!(unique(|a| a.split(':').nth(1).unwrap_or(a)) >= 2, "{group:?}");
        }
    }

    #[test]
    fn one_room_gives_all_its_addresses() {
        let rooms = rooms(&[(1, "a", &["h1:443", "h1:80"])]);
        let mut all = group(&rooms, 5, 3, &[], true);
        all.sort();
        assert_eq!(all, ["h1:443", "h1:80"]);
        assert_eq!(group(&rooms, 5, 3, &["h1:443"], true), ["h1:80"]);
        assert!(group(&rooms, 5, 3, &["h1:443", "h1:80"], true).is_empty());
    }

    #[test]
    fn reaches_out_to_the_next_zone() {
        let rooms =
            rooms(&[(1, "a", &["h1:1"]), (2, "a", &["h2:1"]), (3, "a", &["h3:1"]), (4, "b", &["h4:1"])]);
        for key in 0..100 {
            assert!(!group(&rooms, key, 3, &[], false).contains(&"h4:1".to_owned()));
            assert_eq!(group(&rooms, key, 3, &[], true)[2], "h4:1");
            assert_eq!(group(&rooms, key, 4, &[], false)[3], "h4:1", "a zone too small is filled up");
        }
    }

    #[test]
    fn the_same_user_gets_the_same_group() {
        let rooms = rooms(&[(1, "a", &["h1:1", "h1:2"]), (2, "a", &["h2:1"]), (3, "a", &["h3:1"])]);
        assert_eq!(group(&rooms, 77, 3, &[], false), group(&rooms, 77, 3, &[], false));
        let firsts: HashSet<_> = (0..200).map(|key| group(&rooms, key << 20, 1, &[], false)).collect();
        assert_eq!(firsts.len(), 4, "users spread over all rooms and all their addresses");
    }
}
