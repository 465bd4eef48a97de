//! What a filter asks of a device, for one and by bitmaps.

use std::{borrow::Cow, collections::BTreeMap};

use roaring::RoaringBitmap;

use crate::{
    filter::{Filter, MAX_NETWORK},
    offset::Offset,
    version::Version,
};

/// Different versions of one app that an [`Index`] keeps: devices may say what they like. Who comes with one more counts as one
/// that did not tell.
pub const MAX_VERSIONS: usize = 1_000;

/// What is known of one device. The default is one that told nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Device {
    /// Number of its network; 0 = it did not tell.
    pub network: u8,
    /// What its clock shows minus UTC.
    pub offset: Offset,
    /// Of the app.
    pub version: Option<Version>,
    /// Of its user on the ring.
    pub place: u32,
}

impl Device {
    /// From what it said, which may be anything: what makes no sense counts as not told.
    #[must_use]
    pub fn told(network: i32, utc_offset_min: Option<i32>, app_version: &str) -> Self {
        let network = u32::try_from(network).ok().filter(|network| *network <= MAX_NETWORK);
        Self {
            network: network.unwrap_or(0) as u8,
            offset: Offset::new(utc_offset_min),
            version: app_version.parse().ok(),
            place: 0,
        }
    }
}

/// A version in an [`Index`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionKey(u16);

/// The devices of an app by what is known of them. A device that told nothing is in no bitmap.
#[derive(Debug, Default)]
pub struct Index {
    networks: BTreeMap<u8, RoaringBitmap>,
    offsets: BTreeMap<i8, RoaringBitmap>,
    /// Places of `versions`.
    numbers: BTreeMap<Version, u16>,
    versions: Vec<Option<(Version, RoaringBitmap)>>,
}

impl Index {
    /// Enters a device. Gives the key of its version, if it told one and there are not too many.
    pub fn enter(&mut self, slot: u32, device: &Device) -> Option<VersionKey> {
        if device.network != 0 {
            self.networks.entry(device.network).or_default().insert(slot);
        }
        if device.offset.quarters() != 0 {
            self.offsets.entry(device.offset.quarters()).or_default().insert(slot);
        }
        let number = self.number(device.version?)?;
        if let Some(Some((_, members))) = self.versions.get_mut(usize::from(number)) {
            members.insert(slot);
        }
        Some(VersionKey(number))
    }

    fn number(&mut self, version: Version) -> Option<u16> {
        if let Some(number) = self.numbers.get(&version) {
            return Some(*number);
        }
        if self.numbers.len() >= MAX_VERSIONS {
            return None;
        }
        let free = self.versions.iter().position(Option::is_none);
        let number = free.unwrap_or_else(|| {
            self.versions.push(None);
            self.versions.len() - 1
        });
        self.versions[number] = Some((version, RoaringBitmap::new()));
        self.numbers.insert(version, number as u16);
        Some(number as u16)
    }

    /// Takes a device out; `key` is what [`Index::enter`] gave.
    pub fn leave(&mut self, slot: u32, network: u8, offset: Offset, key: Option<VersionKey>) {
        if network != 0 {
            leave(&mut self.networks, &network, slot);
        }
        if offset.quarters() != 0 {
            leave(&mut self.offsets, &offset.quarters(), slot);
        }
        let Some(place) = key.and_then(|key| self.versions.get_mut(usize::from(key.0))) else { return };
        if let Some((version, members)) = place {
            members.remove(slot);
            if members.is_empty() {
                self.numbers.remove(version);
                *place = None;
            }
        }
    }

    /// The version of a key.
    #[must_use]
    pub fn version(&self, key: VersionKey) -> Option<Version> {
        self.versions.get(usize::from(key.0))?.as_ref().map(|(version, _)| *version)
    }

    /// Those of `chosen` that a filter lets pass in a zone, but for its slice of the ring.
    #[must_use]
    pub fn select<'a>(
        &self,
        filter: &Filter,
        zone: &str,
        mut chosen: Cow<'a, RoaringBitmap>,
    ) -> Cow<'a, RoaringBitmap> {
        if !filter.has_zone(zone) {
            return Cow::Owned(RoaringBitmap::new());
        }
        if let Some(bits) = filter.networks {
            let is_meant = |network: u8| bits >> network & 1 == 1;
            narrow(&mut chosen, &self.networks, is_meant, is_meant(0));
        }
        if let Some(offset) = filter.offset {
            narrow(&mut chosen, &self.offsets, |one| one == offset, offset == 0);
        }
        if filter.has_versions() {
            let members =
                self.versions.iter().flatten().filter(|(version, _)| filter.has_version(Some(*version)));
            let mut meant = RoaringBitmap::new();
            for (_, members) in members {
                meant |= members;
            }
            *chosen.to_mut() &= meant;
        }
        chosen
    }

    /// Bytes of the bitmaps.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let versions = self.versions.iter().flatten().map(|(_, members)| members);
        let all = self.networks.values().chain(self.offsets.values()).chain(versions);
        all.map(|members| {
            let counts = members.statistics();
            counts.n_bytes_array_containers + counts.n_bytes_bitset_containers + counts.n_bytes_run_containers
        })
        .sum()
    }

    /// Whether nobody is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.offsets.is_empty() && self.numbers.is_empty()
    }
}

/// Leaves those of the wanted sets; with `rest`, those of no set too.
fn narrow<K: Copy + Ord>(
    chosen: &mut Cow<'_, RoaringBitmap>,
    sets: &BTreeMap<K, RoaringBitmap>,
    is_wanted: impl Fn(K) -> bool,
    rest: bool,
) {
    let mut named = RoaringBitmap::new();
    // Who told nothing is in no set, so with them it is the others that are taken away.
    for (_, members) in sets.iter().filter(|(key, _)| is_wanted(**key) != rest) {
        named |= members;
    }
    let chosen = chosen.to_mut();
    if rest { *chosen -= named } else { *chosen &= named }
}

fn leave<K: Ord>(sets: &mut BTreeMap<K, RoaringBitmap>, key: &K, slot: u32) {
    if let Some(members) = sets.get_mut(key) {
        members.remove(slot);
        if members.is_empty() {
            sets.remove(key);
        }
    }
}
