//! A device's question to the dispatcher: the query, and where the device is when proxies speak for it.
#![no_main]

use std::{collections::HashSet, net::IpAddr, time::Instant};

use cluster::{Incarnation, Load, NodeId, NodeInfo, NodeState, Picture, Role};
use dispatcher::{Config, Network, Routes, ZonesConfig, fuzzing};
use libfuzzer_sys::fuzz_target;

const ROOMS: u32 = 5;

fn zones() -> ZonesConfig {
    let network = |cidr: &str, zone: &str| Network { cidr: cidr.parse().unwrap(), zone: zone.into() };
    ZonesConfig {
        networks: vec![network("10.0.0.0/8", "east"), network("10.1.0.0/16", "west"), network("::/1", "six")],
        fallbacks: [("east".to_owned(), vec!["west".to_owned()])].into(),
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
    }
}

fn rooms() -> Picture {
    let room = |n: u32| NodeInfo {
        incarnation: Incarnation(1),
        zone: ["east", "west"][n as usize % 2].into(),
        state: NodeState::Ready,
        endpoints: vec![format!("h{n}:1"), format!("h{n}:2")],
        load: Load { connections: 0, capacity: 100 },
        ..NodeInfo::new(Role::Room, NodeId(n))
    };
    Picture::new(1, (1..=ROOMS).map(room).collect())
}

fuzz_target!(|input: (bool, &str, Vec<&str>)| {
    let (proxied, query, forwarded) = input;
    let peer: IpAddr = if proxied { [127, 0, 0, 1] } else { [9, 9, 9, 9] }.into();
    let (client, zone) = fuzzing::locate(&zones(), peer, &forwarded);
    assert!(["own", "east", "west", "six"].contains(&zone.as_str()));
    // Nobody but a trusted proxy can say that it is somebody else.
    assert!(proxied || client == peer);
    let Ok(uri) = format!("/v1/route?{query}").parse() else { return };
    let Ok(query) = fuzzing::read(&uri, client) else { return };
    let routes = Routes::new(Config { zones: zones(), ..Config::default() }, "own", Instant::now());
    routes.follow(&rooms());
    // Wherever it has been: there are rooms, so it is told of some, and of none twice.
    let route = routes.route(&query, Instant::now()).expect("there are rooms");
    let addresses: HashSet<_> = route.endpoints.iter().map(|endpoint| &endpoint.address).collect();
    assert!(!addresses.is_empty() && addresses.len() == route.endpoints.len());
});
