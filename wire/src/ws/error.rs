//! What can be wrong with incoming bytes.

/// Incoming bytes are no WebSocket: the connection ends with [`close_code`](Self::close_code).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WsError {
    /// A reserved bit is set, although no extension was agreed on.
    #[error("a frame uses an extension that was not agreed on")]
    ReservedBits,
    /// A kind of frame that RFC 6455 does not define.
    #[error("frames of kind {0} are not known")]
    UnknownOpcode(u8),
    /// A client's frame without a mask.
    #[error("a frame of a client is not masked")]
    Unmasked,
    /// A server's frame with a mask.
    #[error("a frame of a server is masked")]
    Masked,
    /// A control frame in pieces.
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// A control frame of more than 125 bytes.
    #[error("a control frame is longer than 125 bytes")]
    LongControl,
    /// A length whose highest bit is set.
    #[error("a frame's length has its highest bit set")]
    BadLength,
    /// A message over the bound.
    #[error("a message of {len} bytes or more is over the bound of {max}")]
    TooLarge {
        /// What the message would have with the frame that was announced.
        len: u64,
        /// The bound.
        max: u32,
    },
    /// A fragment of no message.
    #[error("a continuation without a beginning")]
    UnexpectedContinuation,
    /// A message that begins within another.
    #[error("a message begins before the last one has ended")]
    ExpectedContinuation,
    /// Text that is not UTF-8.
    #[error("text is not UTF-8")]
    BadUtf8,
    /// A Close whose payload has one byte.
    #[error("half a close code")]
    BadClose,
    /// A close code that must not be sent.
    #[error("close code {0} must not be sent")]
    BadCloseCode(u16),
}

impl WsError {
    /// The WebSocket close code that tells the peer.
    #[must_use]
    pub const fn close_code(&self) -> u16 {
        match self {
            Self::TooLarge { .. } => 1009,
            Self::BadUtf8 => 1007,
            _ => 1002,
        }
    }

    /// Name for metric labels.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::ReservedBits => "ws_reserved_bits",
            Self::UnknownOpcode(_) => "ws_unknown_opcode",
            Self::Unmasked => "ws_unmasked",
            Self::Masked => "ws_masked",
            Self::FragmentedControl => "ws_fragmented_control",
            Self::LongControl => "ws_long_control",
            Self::BadLength => "ws_bad_length",
            Self::TooLarge { .. } => "ws_too_large",
            Self::UnexpectedContinuation => "ws_unexpected_continuation",
            Self::ExpectedContinuation => "ws_expected_continuation",
            Self::BadUtf8 => "ws_bad_utf8",
            Self::BadClose => "ws_bad_close",
            Self::BadCloseCode(_) => "ws_bad_close_code",
        }
    }
}
