//! WebSocket for browsers, and for networks that let nothing else through.

use serde::{Deserialize, Serialize};
use service::StartError;

/// The section `[room.websocket]`. A WebSocket that rests costs no more than a native connection.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebSocketConfig {
    /// Whether the port takes WebSockets. Default true.
    pub enabled: bool,
    /// Origins of the pages that may connect, such as `https://app.example` (scheme, host, and the port if it is not the
    /// scheme's own). Whoever sends no origin is no browser, and may connect. Default: absent, which is every page.
    pub origins: Option<Vec<String>>,
    /// Whether the answer sets the cookie `longwire_room` to the room's number, for balancers that route by it. Default true.
    pub cookie: bool,
    /// The path that devices ask for. Default `/`.
    pub path: String,
}

impl Default for WebSocketConfig {
    fn default() -> Self {
        Self { enabled: true, origins: None, cookie: true, path: "/".to_owned() }
    }
}

impl WebSocketConfig {
    /// Refuses what no device could send.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let refuse =
            |key: &str, reason: String| Err(StartError::config(format!("room.websocket.{key}"), reason));
        let in_cookies = |byte: u8| byte.is_ascii_graphic() && !b"?#;,".contains(&byte);
        if !self.path.starts_with('/') || !self.path.bytes().all(in_cookies) {
            return refuse("path", "must begin with / and hold no space, ? # ; or ,".to_owned());
        }
        for origin in self.origins.iter().flatten() {
            let host = origin.split_once("://").map(|(_, host)| host);
            if host.is_none_or(|host| host.is_empty() || host.contains('/')) {
                return refuse("origins", format!("{origin} is none: scheme://host or scheme://host:port"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_browser_sends_is_refused() {
        let with = |origins: &[&str], path: &str| WebSocketConfig {
            origins: Some(origins.iter().map(|origin| (*origin).to_owned()).collect()),
            path: path.to_owned(),
            ..WebSocketConfig::default()
        };
        assert!(with(&["https://a.example", "http://localhost:3000"], "/push").check().is_ok());
        for (config, key) in [
            (with(&["https://a.example/"], "/"), "origins"),
            (with(&["a.example"], "/"), "origins"),
            (with(&[], "push"), "path"),
            (with(&[], "/a b"), "path"),
        ] {
            let error = config.check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("room.websocket.{key}: ")), "{error}");
        }
    }
}
