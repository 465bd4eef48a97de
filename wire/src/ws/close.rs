//! WebSocket close codes.

use crate::frame::CloseCode;

/// Where the protocol's own codes begin: RFC 6455 leaves 4000 to 4999 to applications.
const FIRST: u16 = 4000;

/// Whether RFC 6455 and the registry that it founded let this code be on the wire.
pub(super) const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The WebSocket close code with which a room ends a connection after its `Close` frame: 4000 and the code's number,
/// so that a page sees it even if it has not read that frame.
#[must_use]
pub const fn websocket_code(code: CloseCode) -> u16 {
    FIRST + code as u16
}

/// What a WebSocket close code of a room, or of a balancer before it, means to a device.
#[must_use]
pub fn close_code_of(code: u16) -> CloseCode {
    match code {
        1001 => CloseCode::GoingAway,
        1002 | 1003 | 1007 => CloseCode::BadFrame,
        1009 => CloseCode::TooLarge,
        1012 | 1013 => CloseCode::Busy,
        _ => {
            let number = code.checked_sub(FIRST).map(i32::from);
            number.and_then(|number| CloseCode::try_from(number).ok()).unwrap_or(CloseCode::Unspecified)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back() {
        for code in CloseCode::ALL {
            assert!(may_be_sent(websocket_code(code)));
            assert_eq!(close_code_of(websocket_code(code)), code);
        }
        assert_eq!(close_code_of(1000), CloseCode::Unspecified);
        assert_eq!(close_code_of(4999), CloseCode::Unspecified);
        assert_eq!(close_code_of(0), CloseCode::Unspecified);
    }
}
