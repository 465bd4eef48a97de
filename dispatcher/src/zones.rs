//! Which zone a client is in, and which zones stand in for it.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;

use crate::config::ZonesConfig;

/// The table of networks and the order of zones.
#[derive(Debug)]
pub(crate) struct Zones {
    /// By length of prefix, the longest first; networks of one length in a map, so that a table of thousands
    /// costs as many look-ups as it has lengths.
    lengths: Vec<(u8, HashMap<IpNet, Arc<str>>)>,
    fallbacks: BTreeMap<String, Vec<String>>,
    trusted: Vec<IpNet>,
    own: Arc<str>,
}

impl Zones {
    /// `own` is the dispatcher's zone, where clients of no known network are counted in.
    pub(crate) fn new(config: &ZonesConfig, own: &str) -> Zones {
        let mut lengths: BTreeMap<u8, HashMap<IpNet, Arc<str>>> = BTreeMap::new();
        for network in &config.networks {
            let cidr = network.cidr.trunc();
            lengths.entry(cidr.prefix_len()).or_default().insert(cidr, network.zone.as_str().into());
        }
        Zones {
            lengths: lengths.into_iter().rev().collect(),
            fallbacks: config.fallbacks.clone(),
            trusted: config.trusted_proxies.clone(),
            own: own.into(),
        }
    }

    /// The zone of a client.
    pub(crate) fn of(&self, client: IpAddr) -> &str {
        let client = client.to_canonical();
        self.lengths
            .iter()
            .find_map(|(length, networks)| {
                let network = IpNet::new(client, *length).ok()?.trunc();
                networks.get(&network)
            })
            .unwrap_or(&self.own)
    }

    /// How near another zone is to `home`: 0 is itself, then its fallbacks in order, then all others alike.
    pub(crate) fn distance(&self, home: &str, other: &str) -> usize {
        if home == other {
            return 0;
        }
        let fallbacks = self.fallbacks.get(home).map_or(&[][..], Vec::as_slice);
        fallbacks.iter().position(|zone| zone == other).map_or(usize::MAX, |place| place + 1)
    }

    /// The client behind trusted proxies: the last address of `forwarded` that no trusted proxy has. Anybody can
    /// write such a header, so it counts only as far as trusted proxies wrote it.
    pub(crate) fn client<'a>(
        &self,
        peer: IpAddr,
        forwarded: impl DoubleEndedIterator<Item = &'a str>,
    ) -> IpAddr {
        let mut client = peer.to_canonical();
        for hop in forwarded.flat_map(|header| header.split(',')).rev_by_collecting() {
            if !self.trusted.iter().any(|proxies| proxies.contains(&client)) {
                break;
            }
            let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
            client = address.to_canonical();
        }
        client
    }
}

/// `split` of several headers cannot be read from its end.
trait RevByCollecting<'a> {
    fn rev_by_collecting(self) -> std::iter::Rev<std::vec::IntoIter<&'a str>>;
}

impl<'a, I: Iterator<Item = &'a str>> RevByCollecting<'a> for I {
    fn rev_by_collecting(self) -> std::iter::Rev<std::vec::IntoIter<&'a str>> {
        self.collect::<Vec<_>>().into_iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Network;

    fn zones() -> Zones {
        let network = |cidr: &str, zone: &str| Network { cidr: cidr.parse().unwrap(), zone: zone.into() };
        Zones::new(
            &ZonesConfig {
                networks: vec![
                    network("10.0.0.0/8", "east"),
                    network("10.1.0.0/16", "west"),
                    network("2001:db8::/32", "six"),
                ],
                fallbacks: BTreeMap::from([("east".into(), vec!["north".into(), "west".into()])]),
                trusted_proxies: vec!["192.168.0.0/16".parse().unwrap()],
            },
            "own",
        )
    }

    #[test]
    fn the_longest_prefix_wins() {
        let zones = zones();
        let of = |text: &str| zones.of(text.parse().unwrap()).to_owned();
        assert_eq!(of("10.1.2.3"), "west");
        assert_eq!(of("10.2.2.3"), "east");
        assert_eq!(of("::ffff:10.2.2.3"), "east", "an IPv4 address is the same in its IPv6 form");
        assert_eq!(of("2001:db8::1"), "six");
        assert_eq!(of("8.8.8.8"), "own");
    }

    #[test]
    fn fallbacks_are_nearer_than_others() {
        let zones = zones();
        let mut all = vec!["west", "south", "east", "north"];
        all.sort_by_key(|zone| zones.distance("east", zone));
        assert_eq!(all, ["east", "north", "west", "south"]);
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let zones = zones();
        let client = |peer: &str, headers: &[&str]| {
            zones.client(peer.parse().unwrap(), headers.iter().copied()).to_string()
        };
        assert_eq!(client("9.9.9.9", &["10.1.1.1"]), "9.9.9.9");
        assert_eq!(client("192.168.0.1", &["10.1.1.1"]), "10.1.1.1");
        assert_eq!(client("192.168.0.1", &["1.1.1.1, 10.1.1.1", "192.168.0.2"]), "10.1.1.1");
        assert_eq!(client("192.168.0.1", &["nonsense"]), "192.168.0.1");
        assert_eq!(client("192.168.0.1", &[]), "192.168.0.1");
    }
}
