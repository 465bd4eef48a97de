//! What has come.

use bytes::Bytes;

use super::{Opcode, WsError, close::may_be_sent};

/// A whole message, or a control frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// Text, which has been seen to be UTF-8.
    Text(Bytes),
    /// Bytes.
    Binary(Bytes),
    /// Wants a Pong with the same payload.
    Ping(Bytes),
    /// The answer to a Ping, or a sign of life that nobody asked for.
    Pong(Bytes),
    /// The peer ends the connection, perhaps with a code and words. It wants a Close in return.
    Close(Option<(u16, String)>),
}

impl Incoming {
    /// A control frame.
    pub(super) fn control(opcode: Opcode, payload: &[u8]) -> Result<Self, WsError> {
        Ok(match opcode {
            Opcode::Ping => Self::Ping(Bytes::copy_from_slice(payload)),
            Opcode::Pong => Self::Pong(Bytes::copy_from_slice(payload)),
            _ => Self::Close(read_close(payload)?),
        })
    }
}

fn read_close(payload: &[u8]) -> Result<Option<(u16, String)>, WsError> {
    let Some((code, words)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(WsError::BadClose) };
    };
    let code = u16::from_be_bytes(*code);
    if !may_be_sent(code) {
        return Err(WsError::BadCloseCode(code));
    }
    let words = std::str::from_utf8(words).map_err(|_| WsError::BadUtf8)?;
    Ok(Some((code, words.to_owned())))
}
