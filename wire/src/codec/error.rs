//! What can be wrong with incoming bytes.

use crate::frame::CloseCode;

/// Incoming bytes are not the protocol. The connection cannot go on: where the next frame would begin is
/// no longer known, or its sender is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The connection does not begin with the preamble.
    #[error("the connection does not begin with the preamble \"LW\"")]
    BadPreamble,
    /// The preamble names a framing that this side does not know.
    #[error("framing version {0} is not known")]
    BadVersion(u8),
    /// A length prefix of more than five bytes, or beyond 32 bits.
    #[error("a frame's length prefix is no varint of 32 bits")]
    BadVarint,
    /// A frame over the bound.
    #[error("a frame of {len} bytes is over the bound of {max}")]
    TooLarge {
        /// The length that the prefix announces.
        len: u32,
        /// The bound.
        max: u32,
    },
    /// A frame that is no protobuf message of the expected type.
    #[error("a frame is not valid protobuf: {0}")]
    BadProtobuf(prost::DecodeError),
    /// A message that is no JSON, or JSON of something else.
    #[error("a frame is not valid JSON: {0}")]
    BadJson(String),
}

impl WireError {
    /// The close code that tells the peer.
    #[must_use]
    pub const fn close_code(&self) -> CloseCode {
        match self {
            Self::BadPreamble | Self::BadVarint | Self::BadProtobuf(_) | Self::BadJson(_) => {
                CloseCode::BadFrame
            }
            Self::BadVersion(_) => CloseCode::BadVersion,
            Self::TooLarge { .. } => CloseCode::TooLarge,
        }
    }

    /// Name for metric labels.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::BadPreamble => "bad_preamble",
            Self::BadVersion(_) => "bad_version",
            Self::BadVarint => "bad_varint",
            Self::TooLarge { .. } => "too_large",
            Self::BadProtobuf(_) => "bad_protobuf",
            Self::BadJson(_) => "bad_json",
        }
    }
}
