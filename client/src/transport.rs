//! How a device's frames get to a room: over a bare stream or a WebSocket, each with TLS or without.
//!
//! A room takes them all on the same port; which to use is the device's choice.

use std::{fmt, str::FromStr};

use wire::ws::Format;

mod framing;

pub(crate) use framing::Framing;

/// How a device's frames get to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Transport {
    /// The protocol's own framing on TCP.
    #[default]
    Native,
    /// The same within TLS.
    Tls,
    /// Messages of a WebSocket.
    WebSocket {
        /// What they hold.
        format: Format,
    },
    /// The same within TLS.
    Wss {
        /// What they hold.
        format: Format,
    },
}

impl Transport {
    /// Each, in the order of the documentation.
    pub const ALL: [Self; 6] = [
        Self::Native,
        Self::Tls,
        Self::WebSocket { format: Format::Binary },
        Self::WebSocket { format: Format::Json },
        Self::Wss { format: Format::Binary },
        Self::Wss { format: Format::Json },
    ];

    /// Whether it is within TLS.
    #[must_use]
    pub const fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Wss { .. })
    }

    /// What the messages of its WebSocket hold; `None` if it has none.
    #[must_use]
    pub const fn format(self) -> Option<Format> {
        match self {
            Self::Native | Self::Tls => None,
            Self::WebSocket { format } | Self::Wss { format } => Some(format),
        }
    }

    /// Its name, as [`FromStr`] reads it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Tls => "tls",
            Self::WebSocket { format: Format::Binary } => "ws",
            Self::WebSocket { format: Format::Json } => "ws-json",
            Self::Wss { format: Format::Binary } => "wss",
            Self::Wss { format: Format::Json } => "wss-json",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no transport has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no transport: it is native, tls, ws, ws-json, wss or wss-json")]
pub struct UnknownTransport(String);

impl FromStr for Transport {
    type Err = UnknownTransport;

    fn from_str(name: &str) -> Result<Self, UnknownTransport> {
        let mut all = Self::ALL.into_iter();
        all.find(|transport| transport.name() == name).ok_or_else(|| UnknownTransport(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for transport in Transport::ALL {
            assert_eq!(transport.name().parse(), Ok(transport));
        }
        assert!("TLS".parse::<Transport>().is_err());
    }
}
