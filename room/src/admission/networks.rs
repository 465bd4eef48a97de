//! A set of networks, as lists of addresses are written.

use std::net::IpAddr;

use ipnet::IpNet;

/// Which addresses are meant by a list of networks.
///
/// Kept as ranges that are sorted and do not touch, so a look-up is a binary search however the networks overlap: 17 steps
/// for 100,000 of them. An IPv4 address in its IPv6 form is that IPv4 address, in the list as in the question; so `::/0` is
/// every address of IPv6 and none of IPv4.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    four: Box<[(u32, u32)]>,
    six: Box<[(u128, u128)]>,
}

impl Networks {
    /// The addresses of all these networks. Host bits are ignored: `10.1.2.3/8` is `10.0.0.0/8`.
    pub fn new<'a>(networks: impl IntoIterator<Item = &'a IpNet>) -> Self {
        let (mut four, mut six) = (Vec::new(), Vec::new());
        for network in networks {
            match network {
                IpNet::V4(four_net) => four.push((four_net.network().into(), four_net.broadcast().into())),
                IpNet::V6(six_net) => {
                    let (first, last) = (six_net.network(), six_net.broadcast());
                    match (first.to_ipv4_mapped(), last.to_ipv4_mapped()) {
                        (Some(first), Some(last)) => four.push((first.into(), last.into())),
                        _ => six.push((first.into(), last.into())),
                    }
                }
            }
        }
        Self {
            four: merge(four, |last: u32| last.checked_add(1)),
            six: merge(six, |last| last.checked_add(1)),
        }
    }

    /// Whether an address is in one of the networks.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => is_in(&self.four, u32::from(address)),
            IpAddr::V6(address) => is_in(&self.six, u128::from(address)),
        }
    }

    /// Whether no address at all is meant.
    pub fn is_empty(&self) -> bool {
        self.four.is_empty() && self.six.is_empty()
    }

    /// Ranges that are kept.
    pub fn len(&self) -> usize {
        self.four.len() + self.six.len()
    }
}

/// Sorts ranges and joins those that overlap or touch.
fn merge<T: Ord + Copy>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    ranges.dedup_by(|range, before| {
        let joins = next(before.1).is_none_or(|next| range.0 <= next);
        if joins {
            before.1 = before.1.max(range.1);
        }
        joins
    });
    ranges.into_boxed_slice()
}

fn is_in<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|range| range.0 <= address);
    after > 0 && address <= ranges[after - 1].1
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use super::*;

    fn networks(text: &[&str]) -> Networks {
        let all: Vec<IpNet> = text.iter().map(|text| text.parse().unwrap()).collect();
        Networks::new(&all)
    }

    fn has(networks: &Networks, address: &str) -> bool {
        networks.contains(address.parse().unwrap())
    }

    #[test]
    fn addresses_of_both_families() {
        let some = networks(&["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]);
        for inside in ["10.0.0.0", "10.255.255.255", "192.0.2.7", "2001:db8::", "2001:db8:ffff::1"] {
            assert!(has(&some, inside), "{inside}");
        }
        for outside in ["9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.8", "2001:db9::", "::1"] {
            assert!(!has(&some, outside), "{outside}");
        }
        assert!(networks(&[]).is_empty());
        assert!(!has(&networks(&[]), "10.0.0.1"));
    }

    #[test]
    fn an_ipv4_address_is_the_same_in_its_ipv6_form() {
        assert!(has(&networks(&["10.0.0.0/8"]), "::ffff:10.1.2.3"));
        assert!(has(&networks(&["::ffff:10.0.0.0/104"]), "10.1.2.3"));
        assert!(!has(&networks(&["::ffff:10.0.0.0/104"]), "11.1.2.3"));
        assert!(has(&networks(&["::ffff:0:0/96"]), "1.2.3.4"));
        let six = networks(&["::/0"]);
        assert!(has(&six, "2001:db8::1") && !has(&six, "10.1.2.3") && !has(&six, "::ffff:10.1.2.3"));
        let four = networks(&["0.0.0.0/0"]);
        assert!(has(&four, "::ffff:10.1.2.3") && has(&four, "255.255.255.255") && !has(&four, "2001:db8::1"));
    }

    #[test]
    fn what_touches_is_one_range() {
        let halves = networks(&["10.128.0.0/9", "10.0.0.0/9", "10.3.0.0/16", "11.0.0.0/8", "10.9.9.9/8"]);
        assert_eq!(halves.len(), 1);
        assert!(
            has(&halves, "10.127.255.255") && has(&halves, "11.255.255.255") && !has(&halves, "12.0.0.0")
        );
    }

    /// A list of 100,000 prefixes is asked at every accept. The bound is generous: it is there to notice a look-up that
    /// walks the list, which takes a thousand times longer.
    #[test]
    fn a_long_list_is_asked_quickly() {
        let all: Vec<IpNet> =
            (0..100_000u32).map(|n| Ipv4Net::new((n << 13).into(), 24).unwrap().into()).collect();
        let long = Networks::new(&all);
        assert_eq!(long.len(), 100_000);
        let began = Instant::now();
        let found = (0..1_000_000u32)
            .filter(|n| long.contains(IpAddr::V4(n.wrapping_mul(2_654_435_761).into())))
            .count();
        assert!(found > 0 && began.elapsed().as_secs() < 5, "{found} in {:?}", began.elapsed());
    }

    prop_compose! {
        /// Addresses crowd together, so that networks overlap, touch and are asked for at their ends.
        fn address()(six: bool, mapped: bool, high in 0u32..4, low in prop_oneof![0u32..16, any::<u32>()]) -> IpAddr {
            let bits = high << 30 | low >> 2;
            match (six, mapped) {
                (false, _) => IpAddr::V4(bits.into()),
                (true, true) => IpAddr::V6((0xFFFF_u128 << 32 | u128::from(bits)).into()),
                (true, false) => IpAddr::V6((u128::from(bits) << 96 | u128::from(low)).into()),
            }
        }
    }

    prop_compose! {
        fn network()(address in address(), length in 0u8..=128) -> IpNet {
            match address {
                IpAddr::V4(address) => Ipv4Net::new(address, length % 33).unwrap().into(),
                IpAddr::V6(address) => Ipv6Net::new(address, length).unwrap().into(),
            }
        }
    }

    /// The same by asking each network, bit by bit.
    fn naive(networks: &[IpNet], address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address.to_canonical() {
            IpAddr::V4(address) => (4, u128::from(u32::from(address)) << 96),
            IpAddr::V6(address) => (6, u128::from(address)),
        };
        let (family, asked) = bits(address);
        networks.iter().any(|network| {
            let mut length = network.prefix_len();
            let is_mapped = matches!(network.addr(), IpAddr::V6(six) if six.to_ipv4_mapped().is_some());
            let (own, kept) = if is_mapped && length >= 96 {
                length -= 96;
                bits(network.addr())
            } else {
                match network.addr() {
                    IpAddr::V4(_) => bits(network.addr()),
                    IpAddr::V6(six) => (6, u128::from(six)),
                }
            };
            family == own && (0..length).all(|bit| (asked ^ kept) >> (127 - bit) & 1 == 0)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn the_same_as_asking_each(
            networks in prop::collection::vec(network(), 0..12),
            addresses in prop::collection::vec(address(), 1..24),
        ) {
            let set = Networks::new(&networks);
            let ends = networks.iter().flat_map(|network| [network.network(), network.broadcast()]);
            for address in addresses.into_iter().chain(ends) {
                prop_assert_eq!(set.contains(address), naive(&networks, address), "{}", address);
            }
            for ranges in set.six.windows(2) {
                prop_assert!(ranges[0].1 + 1 < ranges[1].0, "sorted, and nothing touches");
            }
        }
    }
}
