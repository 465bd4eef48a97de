//! Who may connect, how often, and how much a connection may send.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use service::StartError;

use crate::admission::{Networks, Rules, Words};

/// Most networks of a list: half a million, in ranges of 8 or 32 bytes beside their text.
const NETWORKS: usize = 500_000;

/// The section `[room.admission]`. All of it is applied while the room runs, to who comes from then on.
///
/// Limits of an address count an IPv4 address, or the /64 of an IPv6 address, over all threads. Behind a balancer that does
/// not keep the devices' addresses they count the balancer; leave them out there. A key that is absent is no limit. While one
/// of the limits of an address is set, each address with connections takes up to 64 bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdmissionConfig {
    /// If not empty, only these networks may connect (`["10.0.0.0/8", "2001:db8::/32"]`). Default empty; at most 500,000.
    /// An IPv4 address in its IPv6 form is that IPv4 address: `::/0` names IPv6 alone.
    pub allow: Vec<IpNet>,
    /// Networks that may not, also if they are allowed. Default empty; at most 500,000. Worst case 64 bytes each.
    pub deny: Vec<IpNet>,
    /// Connections of one address. Default: no limit. Carriers put thousands of phones behind one address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_per_ip: Option<u32>,
    /// Handshakes that begin in a second, in all; as many may come at once after a second without. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshakes_per_second: Option<u32>,
    /// The same for one address. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshakes_per_second_per_ip: Option<u32>,
    /// Handshakes in progress, in all: from accept to Connect, with TLS and the upgrade to WebSocket. Default 16,384: what a
    /// core can do in two seconds. It also bounds the memory that handshakes of TLS take.
    pub handshakes_in_progress: u32,
    /// The same for one address. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshakes_in_progress_per_ip: Option<u32>,
    /// Bytes a second that a connection may send on average, as they come from the socket; more is closed as "too fast".
    /// Default 1 MiB.
    pub bytes_per_second: u32,
    /// Bytes that it may send at once. Default 4 MiB.
    pub bytes_burst: u32,
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            deny: Vec::new(),
            connections_per_ip: None,
            handshakes_per_second: None,
            handshakes_per_second_per_ip: None,
            handshakes_in_progress: 16_384,
            handshakes_in_progress_per_ip: None,
            bytes_per_second: 1 << 20,
            bytes_burst: 4 << 20,
        }
    }
}

impl AdmissionConfig {
    /// Refuses what would let nobody in.
    pub(super) fn check(&self, max_frame_bytes: usize) -> Result<(), StartError> {
        let refuse =
            |key: &str, reason: &str| Err(StartError::config(format!("room.admission.{key}"), reason));
        for (key, networks) in [("allow", &self.allow), ("deny", &self.deny)] {
            if networks.len() > NETWORKS {
                return refuse(key, "must have at most 500,000 networks");
            }
        }
        if self.handshakes_in_progress == 0 {
            return refuse("handshakes_in_progress", "must be at least 1");
        }
        for (key, limit) in [
            ("connections_per_ip", self.connections_per_ip),
            ("handshakes_per_second", self.handshakes_per_second),
            ("handshakes_per_second_per_ip", self.handshakes_per_second_per_ip),
            ("handshakes_in_progress_per_ip", self.handshakes_in_progress_per_ip),
        ] {
            if limit == Some(0) {
                return refuse(key, "must be at least 1; leave it out for no limit");
            }
        }
        if self.bytes_per_second < 1_024 {
            return refuse("bytes_per_second", "must be at least 1024");
        }
        if (self.bytes_burst as usize) < max_frame_bytes.saturating_mul(2) {
            return refuse("bytes_burst", "must be at least twice room.max_frame_bytes");
        }
        Ok(())
    }

    /// Whether addresses are counted.
    pub(crate) fn counts_addresses(&self) -> bool {
        self.connections_per_ip.is_some()
            || self.handshakes_per_second_per_ip.is_some()
            || self.handshakes_in_progress_per_ip.is_some()
    }

    pub(super) fn rules(&self, retry_after_ms: u32) -> Rules {
        Rules {
            allow: Networks::new(&self.allow),
            deny: Networks::new(&self.deny),
            connections_per_ip: self.connections_per_ip,
            handshakes_per_second: self.handshakes_per_second,
            handshakes_per_second_per_ip: self.handshakes_per_second_per_ip,
            handshakes_in_progress: Some(self.handshakes_in_progress),
            handshakes_in_progress_per_ip: self.handshakes_in_progress_per_ip,
            words: Words::new(retry_after_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> AdmissionConfig {
        toml::from_str(text).unwrap()
    }

    fn refused(text: &str) -> String {
        read(text).check(64 << 10).unwrap_err().to_string()
    }

    #[test]
    fn what_is_left_out_is_no_limit() {
        let config = read("deny = [\"10.1.2.3/8\", \"2001:db8::/32\"]\nhandshakes_per_second = 5");
        assert!(config.check(64 << 10).is_ok() && !config.counts_addresses());
        let rules = config.rules(1_000);
        assert!(!rules.lets_in("10.200.0.1".parse().unwrap()));
        assert!(rules.lets_in("11.0.0.1".parse().unwrap()));
        assert_eq!((rules.handshakes_per_second, rules.connections_per_ip), (Some(5), None));
        let written = toml::to_string(&config).unwrap();
        assert_eq!(read(&written).deny, config.deny, "{written}");
    }

    #[test]
    fn what_lets_nobody_in_is_named() {
        assert!(refused("connections_per_ip = 0").starts_with("room.admission.connections_per_ip: "));
        assert!(refused("bytes_burst = 1000").starts_with("room.admission.bytes_burst: "));
        assert!(refused("bytes_per_second = 1").starts_with("room.admission.bytes_per_second: "));
        assert!(toml::from_str::<AdmissionConfig>("deny = [\"10.0.0.0/33\"]").is_err());
        assert!(toml::from_str::<AdmissionConfig>("connection_per_ip = 1").is_err());
    }
}
