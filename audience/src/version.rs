//! Versions of apps, compared by their numbers.

use std::{fmt, str::FromStr};

use crate::filter::FilterError;

/// Longest text of a version, bytes.
pub const MAX_VERSION_LENGTH: usize = 32;

/// One to four numbers with dots between; those that are left out are 0, so "1.2" is "1.2.0".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version([u32; 4]);

impl Version {
    /// Nothing is below it.
    pub const LEAST: Self = Self([0; 4]);
}

impl FromStr for Version {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let bad = || FilterError::BadVersion(text.chars().take(MAX_VERSION_LENGTH).collect());
        if text.len() > MAX_VERSION_LENGTH {
            return Err(bad());
        }
        let mut numbers = [0; 4];
        for (place, part) in text.split('.').enumerate() {
            // `parse` would let a sign pass.
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let number = numbers.get_mut(place).filter(|_| is_number).ok_or_else(bad)?;
            *number = part.parse().map_err(|_| bad())?;
        }
        Ok(Self(numbers))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.0;
        write!(f, "{a}.{b}.{c}.{d}")
    }
}
