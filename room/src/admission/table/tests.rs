use std::net::Ipv4Addr;

use super::{super::rate::SECOND_NS, *};

fn ip(n: u32) -> IpAddr {
    Ipv4Addr::from(n).into()
}

fn may(connections: Option<u32>, handshakes: Option<u32>, rate: Option<u32>) -> PerAddress {
    PerAddress { connections, handshakes, rate: rate.map(Rate::per_second) }
}

#[test]
fn an_address_has_what_it_may_have() {
    let (table, limits) = (Table::new(100), may(Some(2), Some(1), None));
    let first = table.enter(ip(1), &limits, 0).unwrap();
    assert_eq!(table.enter(ip(1), &limits, 0), Err(Reason::IpHandshakes));
    table.greeted(first);
    let second = table.enter(ip(1), &limits, 0).unwrap();
    table.greeted(second);
    assert_eq!(first, second, "one entry");
    assert_eq!(table.enter(ip(1), &limits, 0), Err(Reason::IpConnections));
    table.greeted(table.enter(ip(2), &limits, 0).unwrap());
    table.leave(first, 0);
    table.enter(ip(1), &limits, 0).unwrap();
}

#[test]
fn the_mapped_form_and_the_neighbours_in_a_64_are_the_same_address() {
    let (table, limits) = (Table::new(100), may(Some(1), None, None));
    table.enter("10.1.2.3".parse().unwrap(), &limits, 0).unwrap();
    assert_eq!(table.enter("::ffff:10.1.2.3".parse().unwrap(), &limits, 0), Err(Reason::IpConnections));
    table.enter("2001:db8:0:1::5".parse().unwrap(), &limits, 0).unwrap();
    assert_eq!(table.enter("2001:db8:0:1:ffff::9".parse().unwrap(), &limits, 0), Err(Reason::IpConnections));
    table.enter("2001:db8:0:2::5".parse().unwrap(), &limits, 0).unwrap();
}

#[test]
fn who_is_gone_is_forgotten_when_its_bucket_is_full() {
    let (table, limits) = (Table::new(100), may(None, None, Some(4)));
    let place = table.enter(ip(1), &limits, 0).unwrap();
    table.greeted(place);
    table.leave(place, SECOND_NS / 8);
    assert_eq!(table.len(), 1, "a quarter of a second has not passed");
    for _ in 0..SHARDS {
        table.sweep(SECOND_NS / 8);
    }
    assert_eq!(table.len(), 1);
    for _ in 0..SHARDS {
        table.sweep(SECOND_NS / 4);
    }
    assert_eq!(table.len(), 0);
    // Without a rate it is forgotten at once.
    let place = table.enter(ip(1), &may(Some(1), None, None), SECOND_NS).unwrap();
    table.greeted(place);
    table.leave(place, SECOND_NS);
    assert_eq!(table.len(), 0);
}

#[test]
fn a_connection_that_was_not_taken_gives_its_token_back() {
    let (table, limits) = (Table::new(100), may(None, None, Some(1)));
    let place = table.enter(ip(1), &limits, 0).unwrap();
    table.take_back(place, &limits, 0);
    assert_eq!(table.len(), 0);
    table.enter(ip(1), &limits, 0).unwrap();
    assert_eq!(table.enter(ip(1), &limits, 0), Err(Reason::IpRate));
}

/// Whoever has a whole network of addresses makes an entry with each handshake; the table must not grow with that.
#[test]
fn a_flood_of_addresses_is_bounded() {
    let (table, limits) = (Table::new(1_000), may(Some(5), None, Some(10)));
    let (mut refused, bound) = (0, Table::bound(1_000));
    for n in 0..200_000 {
        match table.enter(ip(n), &limits, u64::from(n)) {
            Ok(place) => {
                table.greeted(place);
                table.leave(place, u64::from(n));
            }
            Err(reason) => {
                assert_eq!(reason, Reason::Addresses);
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 0, "those that only have a bucket make room");
    assert!(table.len() <= bound, "{} of {bound}", table.len());
    // Those that hold connections do not.
    let held = (0..200_000).filter(|n| table.enter(ip(*n), &limits, SECOND_NS).is_ok()).count();
    assert!(held <= bound && held >= 1_000, "{held} of {bound}");
}

#[test]
fn an_entry_is_as_small_as_the_account_says() {
    assert_eq!(size_of::<Entry>(), 24);
    // A slab's tag, a quarter that it grows ahead, and five bytes in an index that is between 7/16 and 7/8 full.
    const { assert!((24 + 8) * 5 / 4 + 12 <= super::super::ADDRESS_BYTES) }
}

#[test]
fn threads_count_together() {
    let (table, limits) = (Table::new(10_000), may(Some(100), Some(100), None));
    let held: Vec<Place> = std::thread::scope(|scope| {
        let work = || {
            let mut held = Vec::new();
            for round in 0..2_000u32 {
                if let Ok(place) = table.enter(ip(round % 3), &limits, 0) {
                    table.greeted(place);
                    held.push(place);
                }
                if round % 2 == 0
                    && let Some(place) = held.pop()
                {
                    table.leave(place, 0);
                }
            }
            held
        };
        let all: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        all.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let more = (0..1_000).filter(|n| table.enter(ip(n % 3), &limits, 0).is_ok()).count();
    assert_eq!(held.len() + more, 300, "each of three addresses has what it may have");
    assert_eq!(table.len(), 3);
}
