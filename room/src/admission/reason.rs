//! Why somebody is refused.

use wire::frame::CloseCode;

/// Why a connection was refused, or ended before or beyond what it may do. Each is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The address is on the list of those that are denied, or not on that of those that are allowed.
    Denied,
    /// The room has as many connections as it may.
    Full,
    /// The room is sending its devices away.
    Draining,
    /// As many handshakes are in progress as may be.
    Handshakes,
    /// More handshakes in a second than may be.
    Rate,
    /// The address has as many connections as it may.
    IpConnections,
    /// The address has as many handshakes in progress as it may.
    IpHandshakes,
    /// More handshakes of the address in a second than may be.
    IpRate,
    /// The table of addresses is full.
    Addresses,
    /// The process has no file left.
    NoFiles,
    /// No Connect came in time.
    HandshakeTimeout,
    /// Nothing was bound in time.
    BindTimeout,
    /// More frames a second than may be.
    FrameRate,
    /// More bytes a second than may be.
    ByteRate,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 14] = [
        Self::Denied,
        Self::Full,
        Self::Draining,
        Self::Handshakes,
        Self::Rate,
        Self::IpConnections,
        Self::IpHandshakes,
        Self::IpRate,
        Self::Addresses,
        Self::NoFiles,
        Self::HandshakeTimeout,
        Self::BindTimeout,
        Self::FrameRate,
        Self::ByteRate,
    ];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Value of the metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Full => "full",
            Self::Draining => "draining",
            Self::Handshakes => "handshakes",
            Self::Rate => "handshake_rate",
            Self::IpConnections => "ip_connections",
            Self::IpHandshakes => "ip_handshakes",
            Self::IpRate => "ip_handshake_rate",
            Self::Addresses => "addresses",
            Self::NoFiles => "no_files",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::BindTimeout => "first_bind_timeout",
            Self::FrameRate => "frame_rate",
            Self::ByteRate => "byte_rate",
        }
    }

    /// What the device is told.
    pub const fn code(self) -> CloseCode {
        match self {
            Self::Denied => CloseCode::Refused,
            Self::Draining => CloseCode::GoingAway,
            Self::HandshakeTimeout | Self::BindTimeout => CloseCode::HandshakeTimeout,
            Self::FrameRate | Self::ByteRate => CloseCode::TooFast,
            Self::Full
            | Self::Handshakes
            | Self::Rate
            | Self::IpConnections
            | Self::IpHandshakes
            | Self::IpRate
            | Self::Addresses
            | Self::NoFiles => CloseCode::Busy,
        }
    }

    /// The same for a person.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Denied => "this address is not allowed here",
            Self::Full => "the room is full",
            Self::Draining => "the room is going away",
            Self::Handshakes => "too many devices are connecting",
            Self::Rate => "too many devices connect at once",
            Self::IpConnections => "too many connections from this address",
            Self::IpHandshakes => "too many devices of this address are connecting",
            Self::IpRate => "this address connects too often",
            Self::Addresses => "too many addresses",
            Self::NoFiles => "the room has no file left",
            Self::HandshakeTimeout => "no Connect came",
            Self::BindTimeout => "nothing was bound",
            Self::FrameRate => "too many frames",
            Self::ByteRate => "too many bytes",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_label_and_place() {
        let labels: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), Reason::COUNT);
        assert!(Reason::ALL.iter().enumerate().all(|(place, reason)| *reason as usize == place));
    }
}
