#![allow(clippy::unwrap_used)] // A test may fail by panic.
//! Places on the ring, versions, and that both ways of judging a filter agree.

use std::borrow::Cow;

use audience::{
    Device, Filter, FilterError, FilterValues, Index, MAX_VERSIONS, Offset, Slice, Version, place,
};
use proptest::prelude::*;
use roaring::RoaringBitmap;

/// Whoever changes these takes a running broadcast's slices away from under it.
#[test]
fn places_are_the_same_for_ever() {
    for (app, uid, at) in PLACES {
        assert_eq!(place(app, uid), at, "{app} {uid:?}");
    }
}

const PLACES: [(u32, &str, u32); 5] = [
    (0, "", 1_295_231_287),
    (1, "alice", 3_055_779_382),
    (1, "bob", 2_464_404_545),
    (2, "alice", 685_198_958),
    (4_294_967_295, "日本", 3_396_907_911),
];

#[test]
fn places_are_spread_evenly() {
    let mut counts = [0u32; 64];
    for number in 0..64_000 {
        counts[(place(7, &format!("user-{number:07}")) >> 26) as usize] += 1;
    }
    assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
}

#[test]
fn slices_part_the_ring() {
    let (low, high) = (Slice::new(0, 1 << 31).unwrap(), Slice::new(1 << 31, 0).unwrap());
    for at in [0, 1, i32::MAX as u32, 1 << 31, u32::MAX] {
        assert!(low.contains(at) != high.contains(at) && Slice::WHOLE.contains(at), "{at}");
    }
    assert_eq!((low.share(), high.bounds()), (0.5, (1 << 31, 1 << 32)));
    assert!(Slice::new(0, 0).unwrap().is_whole() && !low.is_whole());
    assert!(Slice::new(5, 5).is_none() && Slice::new(0, (1 << 32) + 1).is_none());
    assert!(Slice::new(1 << 32, 0).is_none());
    let one = Slice::new(9, 10).unwrap();
    assert!(one.contains(9) && !one.contains(8) && !one.contains(10));
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

#[test]
fn versions_are_compared_by_their_numbers() {
    assert!(version("1.10") > version("1.9.99"));
    assert_eq!(version("2"), version("2.0.0.0"));
    assert!(version("4294967295") > version("1.2.3.4"));
    for bad in ["", ".", "1.", "1..2", "v1", "1.2.3.4.5", "-1", "+1", "1.4294967296", " 1", &"0".repeat(33)] {
        assert!(bad.parse::<Version>().is_err(), "{bad:?}");
    }
}

#[test]
fn what_is_asked_for_is_checked() {
    let refused = |values: FilterValues<'_>| Filter::new(&values).unwrap_err();
    let none = FilterValues::default();
    assert!(Filter::new(&none).unwrap().is_everyone());
    let zones = vec![String::new()];
    assert_eq!(refused(FilterValues { zones: &zones, ..none }), FilterError::BadZone);
    assert_eq!(refused(FilterValues { networks: &[32], ..none }), FilterError::BadNetwork(32));
    assert!(matches!(refused(FilterValues { version_from: "x", ..none }), FilterError::BadVersion(_)));
    let empty = FilterValues { version_from: "1.2", version_below: "1.2.0", ..none };
    assert!(matches!(refused(empty), FilterError::NoVersion(..)));
    assert_eq!(refused(FilterValues { hash_from: 7, hash_below: 7, ..none }), FilterError::NoPlace(7, 7));
    for minutes in [7, -735, 855] {
        let values = FilterValues { utc_offset_min: Some(minutes), ..none };
        assert_eq!(refused(values), FilterError::BadOffset(minutes));
    }
}

#[test]
fn clocks_are_taken_at_the_quarter_before() {
    let offset = |minutes| Device::told(0, Some(minutes), "").offset.minutes();
    assert_eq!([345, -17, 14, -720, 840].map(offset), [345, -30, 0, -720, 840].map(Some));
    assert_eq!([841, i32::MIN].map(offset), [None, None], "which no clock shows");
    let nonsense = Device::told(-3, None, "beta");
    assert_eq!(nonsense, Device::default());
}

/// A device may say what it likes, so the versions are bounded; who is one too many counts as one that did not tell.
#[test]
fn versions_are_bounded_and_come_and_go() {
    let mut index = Index::default();
    let device =
        |number: usize| Device { version: Some(version(&format!("1.{number}"))), ..Device::default() };
    let keys: Vec<_> = (0..MAX_VERSIONS).map(|n| index.enter(n as u32, &device(n))).collect();
    assert!(keys.iter().all(Option::is_some));
    assert!(index.enter(5_000, &device(MAX_VERSIONS)).is_none());
    assert!(index.enter(5_001, &device(3)).is_some());
    index.leave(7, 0, Offset::UNTOLD, keys[7]);
    assert!(index.enter(5_000, &device(MAX_VERSIONS)).is_some());
}

fn device() -> impl Strategy<Value = Device> {
    let version = prop::option::of((0u8..3, 0u8..3).prop_map(|(a, b)| version(&format!("{a}.{b}"))));
    let minutes = prop::option::of(-45i32..60);
    (0u8..4, minutes, version, any::<u32>()).prop_map(|(network, minutes, version, place)| Device {
        network,
        offset: Offset::new(minutes),
        version,
        place,
    })
}

proptest! {
    #[test]
    fn both_ways_of_judging_agree(
        devices in prop::collection::vec(device(), 0..60),
        gone in prop::collection::vec(any::<bool>(), 60),
        zone in prop::sample::select(vec!["", "a", "b"]),
        zones in prop::collection::vec(prop::sample::select(vec!["a".to_owned(), "c".to_owned()]), 0..3),
        networks in prop::collection::vec(0u32..4, 0..3),
        (from, below) in (0u8..4, 0u8..4),
        utc_offset_min in prop::option::of((-3i32..4).prop_map(|quarters| quarters * 15)),
    ) {
        let text = |number: u8| if number == 0 { String::new() } else { format!("{}.1", number - 1) };
        let (from, below) = (text(from), text(below));
        let values = FilterValues {
            zones: &zones, networks: &networks, version_from: &from, version_below: &below, utc_offset_min,
            ..FilterValues::default()
        };
        let Ok(filter) = Filter::new(&values) else { return Ok(()) };
        let mut index = Index::default();
        let mut all = RoaringBitmap::new();
        for (slot, device) in devices.iter().enumerate() {
            let key = index.enter(slot as u32, device);
            if gone[slot] {
                index.leave(slot as u32, device.network, device.offset, key);
            } else {
                prop_assert_eq!(key.and_then(|key| index.version(key)), device.version);
                all.insert(slot as u32);
            }
        }
        let chosen = index.select(&filter, zone, Cow::Borrowed(&all)).into_owned();
        for slot in &all {
            prop_assert_eq!(chosen.contains(slot), filter.matches(zone, &devices[slot as usize]), "{}", slot);
        }
        prop_assert!(chosen.is_subset(&all));
    }
}
