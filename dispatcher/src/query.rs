//! What a device asks, parsed once.

use std::net::IpAddr;

use cluster::rendezvous;
use wire::id::Uid;

use crate::error::RouteError;

/// Addresses that a device may name: more than any group it can have been given in one attempt to connect.
pub(crate) const MAX_TRIED: usize = 64;
/// A host name of 253 bytes, a colon, and a port.
const MAX_ADDRESS_BYTES: usize = 259;

/// What a device asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Hash of the user, or of the client's address for a device that has none.
    pub(crate) key: u64,
    /// The device's network, as metrics name it.
    pub(crate) network: &'static str,
    /// Addresses that did not work.
    pub(crate) tried: Vec<String>,
    /// Where the device is.
    pub(crate) client: IpAddr,
}

impl Query {
    /// Reads what a device sent; empty texts say nothing.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn parse(uid: &str, network: &str, tried: Vec<String>, client: IpAddr) -> Result<Query, RouteError> {
        let invalid = |field, message| RouteError::Invalid { field, message };
        let key = match uid {
            "" => rendezvous::user_key(1, &client.to_string()),
            uid => {
                let uid = Uid::new(uid).map_err(|error| invalid("uid", error.to_string()))?;
                rendezvous::user_key(0, &uid)
            }
        };
        let network = match network {
            "" => "unknown",
            "wired" => "wired",
            "wifi" => "wifi",
            "2g" => "2g",
            "3g" => "3g",
            "4g" => "4g",
            "5g" => "5g",
            _ => {
                let message = "network must be one of wired, wifi, 2g, 3g, 4g, 5g, or empty";
                return Err(invalid("network", message.to_owned()));
            }
        };
        if tried.len() > MAX_TRIED {
            return Err(invalid(
                "tried",
                format!("tried has {} addresses; at most {MAX_TRIED}", tried.len()),
            ));
        }
        if let Some(long) = tried.iter().find(|address| address.len() > MAX_ADDRESS_BYTES) {
            let message =
                format!("an address of tried has {} bytes; at most {MAX_ADDRESS_BYTES}", long.len());
            return Err(invalid("tried", message));
        }
        Ok(Query { key, network, tried, client })
    }
}
