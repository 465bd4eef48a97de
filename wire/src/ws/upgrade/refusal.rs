//! What a server answers to a request that it does not take.

use std::time::Duration;

use super::MAX_HEAD;

/// Why a request was refused. The connection ends after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a request, or one that asks for what cannot be.
    #[error("{0}")]
    BadRequest(&'static str),
    /// Another method.
    #[error("a WebSocket begins with GET")]
    NotGet,
    /// A head over the bound.
    #[error("the request's head is over {MAX_HEAD} bytes")]
    TooLarge,
    /// An HTTP request that asks for no WebSocket.
    #[error("this port speaks WebSocket and Longwire's own protocol")]
    NotWebSocket,
    /// Another version of WebSocket.
    #[error("only version 13 of WebSocket is spoken")]
    BadVersion,
    /// No subprotocol that is known.
    #[error("offer the subprotocol longwire.v1 or longwire.v1.json")]
    BadSubprotocol,
    /// A page of another site.
    #[error("pages of this origin may not connect")]
    WrongOrigin,
    /// Another path.
    #[error("there is nothing at this path")]
    NotFound,
    /// WebSocket is switched off, or not allowed to this address.
    #[error("not allowed")]
    Forbidden,
    /// No room for the time being.
    #[error("try again later")]
    Busy {
        /// After this time.
        retry_after: Duration,
    },
}

impl Refusal {
    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) | Self::BadSubprotocol => 400,
            Self::WrongOrigin | Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::NotGet => 405,
            Self::NotWebSocket | Self::BadVersion => 426,
            Self::TooLarge => 431,
            Self::Busy { .. } => 503,
        }
    }

    /// The whole answer: status, fields, and the reason as text.
    #[must_use]
    pub fn response(&self) -> Vec<u8> {
        let words = match self.status() {
            400 => "Bad Request",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            426 => "Upgrade Required",
            431 => "Request Header Fields Too Large",
            _ => "Service Unavailable",
        };
        let more = match self {
            Self::NotGet => "Allow: GET\r\n".to_owned(),
            Self::NotWebSocket | Self::BadVersion => {
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n".to_owned()
            }
            // Whole seconds, and never sooner than was asked for.
            Self::Busy { retry_after } => {
                format!("Retry-After: {}\r\n", retry_after.as_millis().div_ceil(1000))
            }
            _ => String::new(),
        };
        let connection = if self.status() == 426 { "Upgrade, close" } else { "close" };
        let body = format!("{self}\n");
        format!(
            "HTTP/1.1 {} {words}\r\nConnection: {connection}\r\n{more}Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.status(),
            body.len(),
        )
        .into_bytes()
    }

    /// Name for metric labels.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::NotGet => "not_get",
            Self::TooLarge => "head_too_large",
            Self::NotWebSocket => "not_websocket",
            Self::BadVersion => "bad_websocket_version",
            Self::BadSubprotocol => "bad_subprotocol",
            Self::WrongOrigin => "wrong_origin",
            Self::NotFound => "not_found",
            Self::Forbidden => "forbidden",
            Self::Busy { .. } => "busy",
        }
    }
}
