//! Whom a broadcast is meant for, besides the tag expression.

use crate::{MAX_TAG_LENGTH, device::Device, place::Slice, version::Version};

/// Most zones of one filter; a cluster has a handful.
pub const MAX_ZONES: usize = 64;
/// Numbers of networks go up to here; 0 is a device that did not tell.
pub const MAX_NETWORK: u32 = 31;
/// Clocks differ from UTC by these many minutes at most: from American Samoa's side of the date line to Kiribati's.
pub const UTC_OFFSETS: std::ops::RangeInclusive<i32> = -720..=840;

/// A filter as it was asked for. Each part narrows; the default is everyone.
#[derive(Debug, Clone, Copy, Default)]
pub struct FilterValues<'a> {
    /// Zones of rooms; none = all.
    pub zones: &'a [String],
    /// Numbers of networks; none = all, 0 = those who did not tell.
    pub networks: &'a [u32],
    /// Versions from this one on; empty = no bound.
    pub version_from: &'a str,
    /// Versions below this one; empty = no bound.
    pub version_below: &'a str,
    /// Places on the ring from here on.
    pub hash_from: u64,
    /// Places below this one; 0 = to the end of the ring.
    pub hash_below: u64,
    /// Devices whose clock differs from UTC by so many minutes.
    pub utc_offset_min: Option<i32>,
}

/// Why a filter was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// More than [`MAX_ZONES`].
    #[error("at most {MAX_ZONES} zones")]
    TooManyZones,
    /// A zone without a name, or with one that no room has.
    #[error("a zone has 1 to {MAX_TAG_LENGTH} bytes")]
    BadZone,
    /// A number that no network has.
    #[error("there is no network with the number {0}")]
    BadNetwork(u32),
    /// Something else than one to four numbers with dots between.
    #[error("a version is one to four numbers with dots between, at most 32 bytes; found {0:?}")]
    BadVersion(String),
    /// No version is in the range.
    #[error("no version is from {0} on and below {1}")]
    NoVersion(Version, Version),
    /// No place is in the range, or it ends beyond the ring.
    #[error("no place on the ring of 2^32 is from {0} on and below {1}")]
    NoPlace(u64, u64),
    /// Not in [`UTC_OFFSETS`], or no multiple of a quarter of an hour.
    #[error("an offset from UTC is a multiple of 15 minutes between -720 and 840; found {0}")]
    BadOffset(i32),
}

/// A filter that can be judged. It is judged in two ways that agree: for one device ([`Filter::matches`]), and over bitmaps for
/// all devices of an app ([`crate::Index::select`]), but for the slice of the ring, which is judged for each by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    pub(crate) zones: Vec<Box<str>>,
    /// Bit n: network n; nothing = all.
    pub(crate) networks: Option<u32>,
    pub(crate) from: Option<Version>,
    pub(crate) below: Option<Version>,
    /// Quarters of an hour.
    pub(crate) offset: Option<i8>,
    slice: Slice,
}

impl Filter {
    /// Checks what was asked for.
    ///
    /// # Errors
    /// [`FilterError`], in words for whoever asked.
    pub fn new(values: &FilterValues<'_>) -> Result<Self, FilterError> {
        if values.zones.len() > MAX_ZONES {
            return Err(FilterError::TooManyZones);
        }
        if values.zones.iter().any(|zone| zone.is_empty() || zone.len() > MAX_TAG_LENGTH) {
            return Err(FilterError::BadZone);
        }
        let bit = |number: &u32| match *number {
            0..=MAX_NETWORK => Ok(1 << *number),
            other => Err(FilterError::BadNetwork(other)),
        };
        let networks =
            values.networks.iter().map(bit).try_fold(0, |all, bit| bit.map(|bit: u32| all | bit))?;
        let version = |text: &str| if text.is_empty() { Ok(None) } else { text.parse::<Version>().map(Some) };
        let (from, below) = (version(values.version_from)?, version(values.version_below)?);
        if let Some(below) = below
            && below <= from.unwrap_or(Version::LEAST)
        {
            return Err(FilterError::NoVersion(from.unwrap_or(Version::LEAST), below));
        }
        let offset = |minutes: i32| match UTC_OFFSETS.contains(&minutes) && minutes % 15 == 0 {
            true => Ok((minutes / 15) as i8),
            false => Err(FilterError::BadOffset(minutes)),
        };
        let slice = Slice::new(values.hash_from, values.hash_below)
            .ok_or(FilterError::NoPlace(values.hash_from, values.hash_below))?;
        Ok(Self {
            zones: values.zones.iter().map(|zone| zone.as_str().into()).collect(),
            networks: (networks != 0).then_some(networks),
            from,
            below,
            offset: values.utc_offset_min.map(offset).transpose()?,
            slice,
        })
    }

    /// Whether nobody is left out.
    #[must_use]
    pub fn is_everyone(&self) -> bool {
        *self == Self::default()
    }

    /// Its part of the ring.
    #[must_use]
    pub fn slice(&self) -> Slice {
        self.slice
    }

    /// The same for the whole ring, and the part of it: the slices of one broadcast differ in that alone.
    #[must_use]
    pub fn split(self) -> (Self, Slice) {
        let slice = self.slice;
        (Self { slice: Slice::WHOLE, ..self }, slice)
    }

    /// Whether rooms of this zone have somebody for it.
    #[must_use]
    pub fn has_zone(&self, zone: &str) -> bool {
        self.zones.is_empty() || self.zones.iter().any(|one| **one == *zone)
    }

    /// Judges one device in a zone.
    #[must_use]
    pub fn matches(&self, zone: &str, device: &Device) -> bool {
        self.slice.contains(device.place)
            && self.has_zone(zone)
            && self.networks.is_none_or(|bits| bits >> device.network & 1 == 1)
            && self.offset.is_none_or(|offset| offset == device.offset.quarters())
            && self.has_version(device.version)
    }

    pub(crate) fn has_version(&self, version: Option<Version>) -> bool {
        match version {
            Some(version) => {
                self.from.is_none_or(|from| from <= version) && self.below.is_none_or(|below| version < below)
            }
            // Who did not tell is left out by either bound.
            None => !self.has_versions(),
        }
    }

    pub(crate) fn has_versions(&self) -> bool {
        self.from.is_some() || self.below.is_some()
    }
}
