//! Answers queries from the present rooms. No I/O: HTTP and gRPC both end here.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use cluster::{Picture, rendezvous};
use rand::RngExt as _;

use crate::{
    config::Config,
    error::RouteError,
    group::{self, Wanted},
    query::Query,
    rooms::Rooms,
    slots::Slots,
    strategy::{Strategy, strategy},
    zones::Zones,
};

/// Where a device may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// In the order in which to try them.
    pub endpoints: Vec<Endpoint>,
    /// Not before so long.
    pub connect_after: Duration,
}

/// One address of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port`.
    pub address: String,
    /// Its zone.
    pub zone: String,
}

/// Answers queries.
#[derive(Debug)]
pub struct Routes {
    config: Config,
    rooms: ArcSwap<Rooms>,
    strategy: Box<dyn Strategy>,
    zones: Zones,
    slots: Slots,
}

impl Routes {
    /// Answers for a dispatcher of zone `own_zone`. There are no rooms until [`Routes::follow`].
    #[must_use]
    pub fn new(config: Config, own_zone: &str, now: Instant) -> Routes {
        Routes {
            rooms: ArcSwap::default(),
            strategy: strategy(config.strategy),
            zones: Zones::new(&config.zones, own_zone),
            slots: Slots::new(config.slots.longest, now),
            config,
        }
    }

    /// Takes a new picture of the cluster. Returns how many rooms take devices.
    pub fn follow(&self, picture: &Picture) -> usize {
        let rooms = Rooms::of(picture, self.config.full_at);
        let count = rooms.count();
        self.rooms.store(rooms.into());
        count
    }

    pub(crate) fn zones(&self) -> &Zones {
        &self.zones
    }

    /// Where the device may connect.
    ///
    /// # Errors
    /// [`RouteError::NoRooms`]
    pub fn route(&self, query: &Query, now: Instant) -> Result<Route, RouteError> {
        let rooms = self.rooms.load();
        let tried: HashSet<&str> = query.tried.iter().map(String::as_str).collect();
        let nothing = HashSet::new();
        let zones = self.zones_for(&rooms, query);
        let choose = |tried: &HashSet<&str>, reach_out| {
            let wanted = Wanted { key: query.key, count: self.config.group, zones: &zones, tried, reach_out };
            group::scatter(&rooms, self.strategy.as_ref(), &wanted)
        };
        let mut chosen = choose(&tried, !tried.is_empty());
        if chosen.is_empty() {
            // Everything was tried. What failed a minute ago is still better than nothing.
            chosen = choose(&nothing, false);
        }
        if chosen.is_empty() {
            let spread = 0.5 + rand::rng().random::<f64>();
            return Err(RouteError::NoRooms { retry_after: self.config.retry_after.mul_f64(spread) });
        }
        let endpoint =
            |c: &group::Chosen<'_>| Endpoint { address: c.address.text.clone(), zone: c.zone.to_owned() };
        let endpoints = chosen.iter().map(endpoint).collect();
        let connect_after = self.config.slots.per_second.map_or(Duration::ZERO, |per_second| {
            let share = per_second / rooms.dispatchers as f64;
            self.slots.take(now, share, rand::rng().random())
        });
        Ok(Route { endpoints, connect_after })
    }

    /// The zones by nearness; those in which several addresses failed come after all others.
    fn zones_for(&self, rooms: &Rooms, query: &Query) -> Vec<usize> {
        let home = self.zones.of(query.client);
        let mut failed = vec![0_usize; rooms.zones.len()];
        for address in &query.tried {
            if let Some(zone) = rooms.zone_of.get(address) {
                failed[*zone] += 1;
            }
        }
        let mut order: Vec<usize> = (0..rooms.zones.len()).collect();
        order.sort_by_cached_key(|at| {
            let name = &rooms.zones[*at].name;
            let given_up = failed[*at] >= self.config.tried_until_next_zone;
            // Zones that are equally far share the users of a zone that has no room.
            let turn = rendezvous::user_key(0, name) ^ query.key;
            (given_up, self.zones.distance(home, name), turn)
        });
        order
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use cluster::NodeState;

    use super::*;
    use crate::{
        config::{Network, SlotsConfig, ZonesConfig},
        rooms::tests::node,
    };

    const EAST: &str = "10.1.0.1";

    fn routes() -> Routes {
        let zones = ZonesConfig {
            networks: vec![Network { cidr: "10.1.0.0/16".parse().unwrap(), zone: "east".into() }],
            fallbacks: [("east".to_owned(), vec!["west".to_owned()])].into(),
            trusted_proxies: vec![],
        };
        Routes::new(Config { zones, ..Config::default() }, "north", Instant::now())
    }

    fn three_zones() -> Picture {
        let nodes = ["east", "west", "north"].iter().zip(0_u32..).flat_map(|(zone, z)| {
            (1..=4).map(move |n| {
                let address = format!("{zone}-{n}:{}", 7000 + n);
                node(z * 10 + n, zone, NodeState::Ready, &[&address], (0, 1000))
            })
        });
        Picture::new(1, nodes.collect())
    }

    fn ask(routes: &Routes, client: &str, tried: &[&str]) -> Vec<String> {
        let client: IpAddr = client.parse().unwrap();
        let tried = tried.iter().map(|t| (*t).to_owned()).collect();
        let query = Query::parse("alice", "wifi", tried, client).unwrap();
        routes.route(&query, Instant::now()).unwrap().endpoints.into_iter().map(|e| e.zone).collect()
    }

    #[test]
    fn clients_stay_in_their_zone() {
        let routes = routes();
        assert_eq!(routes.follow(&three_zones()), 12);
        assert_eq!(ask(&routes, EAST, &[]), ["east", "east", "east"]);
        assert_eq!(ask(&routes, "8.8.8.8", &[]), ["north", "north", "north"]);
    }

    #[test]
    fn failures_widen_to_the_next_zone() {
        let routes = routes();
        routes.follow(&three_zones());
        assert_eq!(ask(&routes, EAST, &["east-1:7001"]), ["east", "east", "west"]);
        let second = ask(&routes, EAST, &["east-1:7001", "east-2:7002"]);
        assert_eq!(second[..2], ["west", "west"]);
        let third = ask(&routes, EAST, &["east-1:7001", "east-2:7002", "west-1:7001", "west-2:7002"]);
        assert_eq!(third[0], "north");
    }

    #[test]
    fn tried_addresses_are_left_out_until_all_were() {
        let routes = routes();
        let nodes = (1..=2).map(|n| node(n, "east", NodeState::Ready, &[&format!("h{n}:1")], (0, 1000)));
        routes.follow(&Picture::new(1, nodes.collect()));
        let addresses = |tried: &[&str]| {
            let tried = tried.iter().map(|t| (*t).to_owned()).collect();
            let query = Query::parse("alice", "", tried, EAST.parse().unwrap()).unwrap();
            let route = routes.route(&query, Instant::now()).unwrap();
            route.endpoints.into_iter().map(|e| e.address).collect::<Vec<_>>()
        };
        assert_eq!(addresses(&["h1:1"]), ["h2:1"]);
        assert_eq!(addresses(&["h1:1", "h2:1"]).len(), 2);
    }

    #[test]
    fn no_rooms_says_when_to_come_back() {
        let routes = routes();
        let query = Query::parse("alice", "", vec![], EAST.parse().unwrap()).unwrap();
        let Err(RouteError::NoRooms { retry_after }) = routes.route(&query, Instant::now()) else {
            panic!("a route to nowhere");
        };
        assert!((2500..=7500).contains(&retry_after.as_millis()));
    }

    #[test]
    fn a_storm_gets_slots_and_each_dispatcher_its_share() {
        let slots = SlotsConfig { per_second: Some(10.0), longest: Duration::from_secs(60) };
        let now = Instant::now();
        let routes = Routes::new(Config { slots, ..Config::default() }, "north", now);
        let mut nodes = three_zones().nodes().to_vec();
        for id in [100, 101] {
            let mut dispatcher = node(id, "north", NodeState::Ready, &[], (0, 0));
            dispatcher.role = cluster::Role::Dispatcher;
            nodes.push(dispatcher);
        }
        routes.follow(&Picture::new(1, nodes));
        let query = Query::parse("alice", "", vec![], EAST.parse().unwrap()).unwrap();
        let waits: Vec<_> = (0..100).map(|_| routes.route(&query, now).unwrap().connect_after).collect();
        assert_eq!(waits.iter().filter(|wait| wait.is_zero()).count(), 6);
        // 94 devices after the burst of one second, at 5 a second.
        assert!(waits.iter().max().is_some_and(|wait| (17..21).contains(&wait.as_secs())), "{waits:?}");
    }
}
