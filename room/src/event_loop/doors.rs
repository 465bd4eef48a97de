//! What a port lets in besides native frames.

use cluster::PublicTls;
use wire::ws::upgrade::{ROOM_COOKIE, Refusal, Request};

/// What a port lets in besides native frames.
#[derive(Debug, Clone, Default)]
pub struct Doors {
    /// TLS, with these certificates.
    pub tls: Option<PublicTls>,
    /// WebSocket.
    pub websocket: Option<WebSocketDoor>,
}

/// Whom a WebSocket is given to.
#[derive(Debug, Clone)]
pub struct WebSocketDoor {
    /// The path that is asked for.
    pub path: String,
    /// Origins of the pages that may connect; `None`: all. Who sends no origin is no browser, and may.
    pub origins: Option<Vec<String>>,
    /// The room's name in the cookie of the answer; `None`: no cookie.
    pub cookie: Option<u32>,
}

impl WebSocketDoor {
    /// `Set-Cookie` of the answer. Pages of another site send a cookie back only if it says so itself, and such a one only
    /// exists over TLS.
    pub(super) fn cookie(&self, is_sealed: bool) -> Option<String> {
        let same_site = if is_sealed { "None; Secure" } else { "Lax" };
        let room = self.cookie?;
        Some(format!("{ROOM_COOKIE}={room}; Path={}; HttpOnly; SameSite={same_site}", self.path))
    }

    /// Whether it is for this request.
    ///
    /// # Errors
    /// What to answer if not.
    pub(super) fn admits(&self, request: &Request) -> Result<(), Refusal> {
        if request.path != self.path {
            return Err(Refusal::NotFound);
        }
        match (&self.origins, &request.origin) {
            (Some(origins), Some(origin))
                if !origins.iter().any(|known| known.eq_ignore_ascii_case(origin)) =>
            {
                Err(Refusal::WrongOrigin)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, origin: Option<&str>) -> Request {
        Request {
            path: path.to_owned(),
            host: "room".to_owned(),
            origin: origin.map(str::to_owned),
            protocols: Vec::new(),
            key: String::new(),
            cookies: String::new(),
        }
    }

    #[test]
    fn pages_of_other_sites_stay_outside() {
        let some = vec!["https://good.example".to_owned()];
        let door = WebSocketDoor { path: "/ws".to_owned(), origins: Some(some), cookie: None };
        assert_eq!(door.admits(&request("/ws", Some("https://Good.example"))), Ok(()));
        assert_eq!(door.admits(&request("/ws", None)), Ok(()), "no browser");
        for origin in ["https://bad.example", "http://good.example", "https://good.example:444", "null"] {
            assert_eq!(door.admits(&request("/ws", Some(origin))), Err(Refusal::WrongOrigin));
        }
        assert_eq!(door.admits(&request("/", None)), Err(Refusal::NotFound));
        let any = WebSocketDoor { origins: None, ..door };
        assert_eq!(any.admits(&request("/ws", Some("https://bad.example"))), Ok(()));
    }
}
