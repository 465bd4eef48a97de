//! Identifiers. Parsed once at the edge into types that cannot be wrong, and never checked again.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

mod message;
mod text;

pub use message::MessageId;
pub use text::{AppKey, BadId, Uid};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The bare number, as it travels in messages.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl From<$inner> for $name {
            fn from(number: $inner) -> Self {
                Self(number)
            }
        }

        impl From<$name> for $inner {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

macro_rules! growing_number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        number!($(#[$doc])* $name($inner));

        impl $name {
            /// Before the first number.
            pub const ZERO: Self = Self(0);

            /// The number after this one. It stays at the greatest rather than begin again.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }
    };
}

number!(
    /// Number of an app.
    AppId(u32)
);
number!(
    /// Names a connection within its room, for logs and the API.
    ConnId(u64)
);
number!(
    /// Names a binding within its connection; chosen by the device.
    BindingId(u32)
);
growing_number!(
    /// Place of a message in an inbox; the first is 1.
    Seq(u64)
);
growing_number!(
    /// Place of a broadcast in an app's log; the first is 1.
    Bseq(u64)
);
growing_number!(
    /// A life of a numbering: numbers of different epochs are never compared.
    Epoch(u64)
);
growing_number!(
    /// Grows with every bind of a user; what carries an older one is ignored.
    FenceNumber(u64)
);

/// A place in an inbox: everything up to and including `seq`, in the numbering of `epoch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Position {
    /// The numbering.
    pub epoch: Epoch,
    /// The last number.
    pub seq: Seq,
}

/// A place in an app's broadcast log: everything up to and including `bseq`, in the numbering of `epoch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// The numbering.
    pub epoch: Epoch,
    /// The last number.
    pub bseq: Bseq,
}

impl From<crate::frame::InboxPosition> for Position {
    fn from(place: crate::frame::InboxPosition) -> Self {
        Self { epoch: Epoch(place.epoch), seq: Seq(place.seq) }
    }
}

impl From<Position> for crate::frame::InboxPosition {
    fn from(place: Position) -> Self {
        Self { epoch: place.epoch.0, seq: place.seq.0 }
    }
}

impl From<crate::frame::BroadcastPosition> for Cursor {
    fn from(place: crate::frame::BroadcastPosition) -> Self {
        Self { epoch: Epoch(place.epoch), bseq: Bseq(place.bseq) }
    }
}

impl From<Cursor> for crate::frame::BroadcastPosition {
    fn from(place: Cursor) -> Self {
        Self { epoch: place.epoch.0, bseq: place.bseq.0 }
    }
}
