//! Answers queries from the present rooms. No I/O: HTTP and gRPC both end here.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use cluster::{NodeInfo, NodeState, Picture, Role, rendezvous};
use rand::RngExt as _;

use crate::{
    config::{Config, SlotsConfig},
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

/// So long after a room has vanished its devices come back: time-outs and back-off spread them over less than this.
const AFTER_LOSS: Duration = Duration::from_secs(60);

/// Answers queries.
#[derive(Debug)]
pub struct Routes {
    rules: ArcSwap<Rules>,
    rooms: ArcSwap<Rooms>,
    zones: Zones,
    slots: Slots,
    seen: Mutex<Seen>,
}

/// The configuration and what is made of it; another takes its place as one.
#[derive(Debug)]
struct Rules {
    config: Config,
    strategy: Box<dyn Strategy>,
}

/// What the last picture was.
#[derive(Debug, Default)]
struct Seen {
    picture: Picture,
    /// When a room was last seen to have vanished.
    lost: Option<Instant>,
}

impl Rules {
    fn new(config: Config) -> Arc<Rules> {
        Arc::new(Rules { strategy: strategy(config.strategy), config })
    }
}

impl Routes {
    /// Answers for a dispatcher of zone `own_zone`. There are no rooms until [`Routes::follow`].
    #[must_use]
    pub fn new(config: Config, own_zone: &str, now: Instant) -> Routes {
        Routes {
            rooms: ArcSwap::default(),
            zones: Zones::new(&config.zones, own_zone),
            slots: Slots::new(now),
            seen: Mutex::default(),
            rules: ArcSwap::new(Rules::new(config)),
        }
    }

    /// Takes another configuration, but for the zones.
    pub fn apply(&self, config: Config) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.rooms.store(Rooms::of(&seen.picture, config.full_at).into());
        self.rules.store(Rules::new(config));
    }

    /// Takes a new picture of the cluster. Returns how many rooms take devices.
    pub fn follow(&self, picture: &Picture, now: Instant) -> usize {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if vanished(&seen.picture, picture) {
            seen.lost = Some(now);
        }
        seen.picture = picture.clone();
        let rooms = Rooms::of(picture, self.rules.load().config.full_at);
        let count = rooms.count();
        self.rooms.store(rooms.into());
        count
    }

    /// Devices that may be sent through this dispatcher in a second.
    fn pace(&self, rooms: &Rooms, slots: &SlotsConfig, now: Instant) -> Option<f64> {
        let lost = self.seen.lock().unwrap_or_else(PoisonError::into_inner).lost;
        let storm = lost.is_some_and(|lost| now.saturating_duration_since(lost) < AFTER_LOSS);
        let per_room = if storm { slots.per_room_after_loss } else { slots.per_room };
        let all = slots.per_second?.min(per_room * rooms.count() as f64);
        Some(all / rooms.dispatchers as f64)
    }

    pub(crate) fn zones(&self) -> &Zones {
        &self.zones
    }

    /// Where the device may connect.
    ///
    /// # Errors
    /// [`RouteError::NoRooms`]
    pub fn route(&self, query: &Query, now: Instant) -> Result<Route, RouteError> {
        let (rules, rooms) = (self.rules.load(), self.rooms.load());
        let Rules { config, strategy } = &**rules;
        let tried: HashSet<&str> = query.tried.iter().map(String::as_str).collect();
        let nothing = HashSet::new();
        let zones = self.zones_for(&rooms, query, config.tried_until_next_zone);
        let choose = |tried: &HashSet<&str>, reach_out| {
            let wanted = Wanted { key: query.key, count: config.group, zones: &zones, tried, reach_out };
            group::scatter(&rooms, strategy.as_ref(), &wanted)
        };
        let mut chosen = choose(&tried, !tried.is_empty());
        if chosen.is_empty() {
            // Everything was tried. What failed a minute ago is still better than nothing.
            chosen = choose(&nothing, false);
        }
        if chosen.is_empty() {
            let spread = 0.5 + rand::rng().random::<f64>();
            return Err(RouteError::NoRooms { retry_after: config.retry_after.mul_f64(spread) });
        }
        let endpoint =
            |c: &group::Chosen<'_>| Endpoint { address: c.address.text.clone(), zone: c.zone.to_owned() };
        let endpoints = chosen.iter().map(endpoint).collect();
        let pace = self.pace(&rooms, &config.slots, now);
        let connect_after = pace.map_or(Duration::ZERO, |share| {
            self.slots.take(now, share, config.slots.longest, rand::rng().random())
        });
        Ok(Route { endpoints, connect_after })
    }

    /// The zones by nearness; those in which several addresses failed come after all others.
    fn zones_for(&self, rooms: &Rooms, query: &Query, tried_until_next: usize) -> Vec<usize> {
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
            let given_up = failed[*at] >= tried_until_next;
            // Zones that are equally far share the users of a zone that has no room.
            let turn = rendezvous::user_key(0, name) ^ query.key;
            (given_up, self.zones.distance(home, name), turn)
        });
        order
    }
}

/// Whether a room that took devices is gone without having sent them away.
fn vanished(before: &Picture, now: &Picture) -> bool {
    let ready = before.of(Role::Room).filter(|room| room.state == NodeState::Ready);
    let gone = |room: &NodeInfo| {
        let now = now.node(Role::Room, room.id).filter(|now| now.state != NodeState::Down);
        now.is_none_or(|now| now.life() != room.life())
    };
    ready.clone().any(gone)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::{
        config::{Network, StrategyKind, ZonesConfig},
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
        assert_eq!(routes.follow(&three_zones(), Instant::now()), 12);
        assert_eq!(ask(&routes, EAST, &[]), ["east", "east", "east"]);
        assert_eq!(ask(&routes, "8.8.8.8", &[]), ["north", "north", "north"]);
    }

    #[test]
    fn failures_widen_to_the_next_zone() {
        let routes = routes();
        routes.follow(&three_zones(), Instant::now());
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
        routes.follow(&Picture::new(1, nodes.collect()), Instant::now());
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
        let slots = SlotsConfig {
            per_second: Some(10.0),
            longest: Duration::from_secs(60),
            ..SlotsConfig::default()
        };
        let now = Instant::now();
        let routes = Routes::new(Config { slots, ..Config::default() }, "north", now);
        let mut nodes = three_zones().nodes().to_vec();
        for id in [100, 101] {
            let mut dispatcher = node(id, "north", NodeState::Ready, &[], (0, 0));
            dispatcher.role = cluster::Role::Dispatcher;
            nodes.push(dispatcher);
        }
        routes.follow(&Picture::new(1, nodes), now);
        let query = Query::parse("alice", "", vec![], EAST.parse().unwrap()).unwrap();
        let waits: Vec<_> = (0..100).map(|_| routes.route(&query, now).unwrap().connect_after).collect();
        assert_eq!(waits.iter().filter(|wait| wait.is_zero()).count(), 6);
        // 94 devices after the burst of one second, at 5 a second.
        assert!(waits.iter().max().is_some_and(|wait| (17..21).contains(&wait.as_secs())), "{waits:?}");
    }

    /// The devices of a room that was killed all come at once, and the rooms that are left have to take them in.
    #[test]
    fn a_room_that_vanishes_slows_the_pace_and_one_that_is_drained_does_not() {
        let room = |id, state| node(id, "east", state, &[&format!("h{id}:1")], (0, 100_000));
        let two = Picture::new(1, vec![room(1, NodeState::Ready), room(2, NodeState::Ready)]);
        let one = Picture::new(2, vec![room(2, NodeState::Ready)]);
        let drained = Picture::new(3, vec![room(1, NodeState::Draining), room(2, NodeState::Ready)]);
        let query = Query::parse("alice", "", vec![], EAST.parse().unwrap()).unwrap();
        let longest = |pictures: &[&Picture], now: Instant| {
            let routes = Routes::new(Config::default(), "east", now);
            for picture in pictures {
                routes.follow(picture, now);
            }
            (0..15_000).map(|_| routes.route(&query, now).unwrap().connect_after).max().unwrap().as_secs_f64()
        };
        let now = Instant::now();
        // 2,500 a second: a second's burst, then five seconds; well within the 30 s that devices may take.
        assert!((4.5..5.5).contains(&longest(&[&two, &one], now)));
        assert!((1.8..2.3).contains(&longest(&[&two, &drained, &one], now)));
        assert!((0.4..0.6).contains(&longest(&[&two], now)));
    }

    #[test]
    fn another_configuration_holds_from_the_next_question() {
        let routes = routes();
        routes.follow(&three_zones(), Instant::now());
        let config = Config { group: 1, strategy: StrategyKind::Random, full_at: 0.5, ..Config::default() };
        routes.apply(config.clone());
        assert_eq!(ask(&routes, EAST, &[]), ["east"]);
        let zones = three_zones();
        let full =
            zones.nodes().iter().map(|room| node(room.id.0, &room.zone, room.state, &["h:1"], (600, 1000)));
        assert_eq!(routes.follow(&Picture::new(2, full.collect()), Instant::now()), 0);
        routes.apply(Config { full_at: 0.9, ..config });
        assert_eq!(ask(&routes, EAST, &[]), ["east"], "rooms are judged anew");
    }
}
