//! Identifiers that are text, checked when they are made.

use std::{borrow::Borrow, fmt, ops::Deref, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use smol_str::SmolStr;

use crate::limits::{MAX_APP_KEY_BYTES, MAX_UID_BYTES};

/// Why a text is no identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    /// Empty or too long.
    #[error("{what} has {bytes} bytes; it must have 1 to {max}")]
    Length {
        /// What it should have been.
        what: &'static str,
        /// The length it has.
        bytes: usize,
        /// The length it may have.
        max: usize,
    },
    /// A character that is not allowed.
    #[error("{what} may hold only lower-case letters, digits, '-', '_' and '.'")]
    Character {
        /// What it should have been.
        what: &'static str,
    },
}

/// A user inside an app: 1 to 128 bytes of UTF-8. 24 bytes, in which most uids have room (up to 23 bytes): a million of them
/// are a million allocations less. Clones of longer ones share the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(SmolStr);

/// An app's name: 1 to 64 lower-case letters, digits, `-`, `_` and `.`. Clones share the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppKey(Arc<str>);

impl Uid {
    /// Takes a text as a uid, if it is one.
    ///
    /// # Errors
    /// [`BadId::Length`] unless it has 1 to 128 bytes.
    pub fn new(text: impl AsRef<str>) -> Result<Self, BadId> {
        let text = text.as_ref();
        check_length("uid", text, MAX_UID_BYTES)?;
        Ok(Self(text.into()))
    }
}

impl From<Uid> for Arc<str> {
    /// For whoever binds it to a statement that keeps it.
    fn from(uid: Uid) -> Self {
        uid.0.into()
    }
}

impl AppKey {
    /// Takes a text as an app's key, if it is one.
    ///
    /// # Errors
    /// [`BadId`] if it is empty, too long or holds other characters.
    pub fn new(text: impl AsRef<str>) -> Result<Self, BadId> {
        let text = text.as_ref();
        check_length("app", text, MAX_APP_KEY_BYTES)?;
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        if !text.bytes().all(allowed) {
            return Err(BadId::Character { what: "app" });
        }
        Ok(Self(text.into()))
    }
}

fn check_length(what: &'static str, text: &str, max: usize) -> Result<(), BadId> {
    match text.len() {
        bytes if bytes == 0 || bytes > max => Err(BadId::Length { what, bytes, max }),
        _ => Ok(()),
    }
}

macro_rules! text {
    ($name:ident) => {
        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $name {
            type Error = BadId;

            fn try_from(text: &str) -> Result<Self, BadId> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;

            fn try_from(text: String) -> Result<Self, BadId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.as_str().into()
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }
    };
}

text!(Uid);
text!(AppKey);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uid_has_1_to_128_bytes() {
        assert!(Uid::new("").is_err());
        assert!(Uid::new("a".repeat(128)).is_ok());
        assert!(Uid::new("é".repeat(64)).is_ok());
        let error = Uid::new("é".repeat(65)).unwrap_err();
        assert_eq!(error.to_string(), "uid has 130 bytes; it must have 1 to 128");
    }

    #[test]
    fn app_key_is_a_plain_name() {
        assert!(AppKey::new("demo-2.x_y").is_ok());
        for bad in ["", "Demo", "a b", "é", &"a".repeat(65)] {
            assert!(AppKey::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn json_is_checked() {
        assert_eq!(serde_json::from_str::<Uid>("\"a\\u0062\"").unwrap().as_str(), "ab");
        assert!(serde_json::from_str::<Uid>("\"\"").is_err());
        assert_eq!(serde_json::to_string(&Uid::new("x").unwrap()).unwrap(), "\"x\"");
    }
}
