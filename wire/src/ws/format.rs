//! What messages hold.

use super::Opcode;

/// What a WebSocket's messages hold; both sides agree on it by the subprotocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Protobuf in binary messages.
    Binary,
    /// JSON in text messages.
    Json,
}

impl Format {
    /// Both, the preferred one first.
    pub const ALL: [Self; 2] = [Self::Binary, Self::Json];

    /// Its name in `Sec-WebSocket-Protocol`.
    #[must_use]
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Binary => "longwire.v1",
            Self::Json => "longwire.v1.json",
        }
    }

    /// The format of a subprotocol.
    #[must_use]
    pub fn of_subprotocol(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.subprotocol() == name)
    }

    /// The kind of its messages.
    #[must_use]
    pub const fn opcode(self) -> Opcode {
        match self {
            Self::Binary => Opcode::Binary,
            Self::Json => Opcode::Text,
        }
    }
}
