//! How devices are connected: over which transports, whom they trust, which of them do not read, and how their
//! connections are cut.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

/// All about the connections of a fleet that is not about users. The default is native plain text, read at once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LineSpec {
    /// Which device uses which transport.
    pub transports: Mix,
    /// Whose certificates a device takes, where its transport has TLS.
    pub trust: Trust,
    /// The name that the server's certificate must carry; absent: the address that was connected to.
    pub server_name: Option<String>,
    /// Share of the devices, 0 to 1, that stop reading as soon as they are bound.
    pub slow: f64,
    /// How connections are cut on purpose, one as likely as another; empty = [`Cut::USUAL`].
    pub cuts: Vec<Cut>,
    /// Whether devices ack nothing, so that a server is measured that asks for no acks.
    pub no_acks: bool,
    /// Processors for the event loops, in turn; empty = any.
    pub cpus: Vec<usize>,
}

impl LineSpec {
    /// The same for worker `index`: each has a processor of its own as far as there are some.
    #[must_use]
    pub fn part(&self, index: u32) -> Self {
        let own = self.cpus.iter().cycle().nth(index as usize % self.cpus.len().max(1));
        Self { cpus: own.copied().into_iter().collect(), ..self.clone() }
    }

    /// Whether user `number` is of the `share` that does not read. Spread evenly over any range of users, and of two
    /// shares the larger holds the smaller.
    #[must_use]
    pub fn is_slow(number: u32, share: f64) -> bool {
        // Multiples of the golden section, modulo 1, lie evenly between 0 and 1.
        const GOLDEN: u32 = 0x9e37_79b9;
        f64::from(number.wrapping_mul(GOLDEN)) < share * f64::from(u32::MAX) || share >= 1.0
    }
}

/// What carries a device's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// TCP, frames as they are.
    Native,
    /// The same in TLS.
    Tls,
    /// WebSocket, one frame in each binary message.
    Ws,
    /// WebSocket, one frame as JSON in each text message.
    WsJson,
    /// WebSocket in TLS.
    Wss,
    /// WebSocket in TLS, JSON.
    WssJson,
}

/// Transports and their shares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mix(Vec<(Transport, u32)>);

/// Whose certificates a device takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Nobody's: transports with TLS are refused before anything starts.
    #[default]
    Nobody,
    /// Those that the certificates in this PEM file have signed.
    Ca(PathBuf),
    /// Anybody's. Only ever by name: it measures TLS and proves nothing about the server.
    Anybody,
}

/// How a connection is cut on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cut {
    /// Reset, as when a process is killed with data unread.
    Rst,
    /// Closed without a word.
    Fin,
    /// Left in good order, as an app does that is closed.
    Leave,
    /// Gone silent, as when a network goes away: the room has to notice by itself.
    Silent,
}

impl Cut {
    /// What churn does when it is not told.
    pub const USUAL: [Self; 2] = [Self::Rst, Self::Fin];
}

impl Transport {
    /// All of them, with the names that flags have.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Native, "native"),
        (Self::Tls, "tls"),
        (Self::Ws, "ws"),
        (Self::WsJson, "ws-json"),
        (Self::Wss, "wss"),
        (Self::WssJson, "wss-json"),
    ];

    /// Whether it is encrypted.
    #[must_use]
    pub const fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss | Self::WssJson)
    }

    /// Whether it is a WebSocket, and if so, whether frames are JSON.
    #[must_use]
    pub const fn web_socket(self) -> Option<bool> {
        match self {
            Self::Native | Self::Tls => None,
            Self::Ws | Self::Wss => Some(false),
            Self::WsJson | Self::WssJson => Some(true),
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(transport, _)| transport == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text);
        found.map(|(transport, _)| *transport).ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(|(_, name)| *name).collect();
            format!("{text:?} is no transport; there are {}", all.join(", "))
        })
    }
}

impl FromStr for Cut {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "rst" => Ok(Self::Rst),
            "fin" => Ok(Self::Fin),
            "leave" => Ok(Self::Leave),
            "silent" => Ok(Self::Silent),
            other => Err(format!("{other:?} is no way to cut; there are rst, fin, leave and silent")),
        }
    }
}

impl Default for Mix {
    fn default() -> Self {
        Self(vec![(Transport::Native, 1)])
    }
}

/// Shares are percentages or the like: more than this is a slip of the finger.
const MAX_SHARE: u32 = 1000;

impl Mix {
    /// The transport of user `number`. Of as many consecutive users as the shares add up to, each transport has
    /// exactly its share.
    #[must_use]
    pub fn of(&self, number: u32) -> Transport {
        let total: u32 = self.0.iter().map(|(_, share)| share).sum();
        let mut at = number.checked_rem(total).unwrap_or(0);
        for (transport, share) in &self.0 {
            match at.checked_sub(*share) {
                Some(rest) => at = rest,
                None => return *transport,
            }
        }
        Transport::Native
    }

    /// Whether any of them is encrypted.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        self.0.iter().any(|(transport, _)| transport.has_tls())
    }
}

impl FromStr for Mix {
    type Err = String;

    /// `wss`, or `mix:native=50,ws=30,wss=20`.
    fn from_str(text: &str) -> Result<Self, String> {
        let Some(parts) = text.strip_prefix("mix:") else { return Ok(Self(vec![(text.parse()?, 1)])) };
        let mut all = Vec::new();
        for part in parts.split(',') {
            let (name, share) =
                part.split_once('=').ok_or_else(|| format!("{part:?} has no share: name=number"))?;
            let share: u32 = share.parse().map_err(|_| format!("{share:?} is no share"))?;
            if !(1..=MAX_SHARE).contains(&share) {
                return Err(format!("a share is 1 to {MAX_SHARE}, not {share}"));
            }
            all.push((name.parse()?, share));
        }
        let common = all.iter().fold(0, |divisor, (_, share)| gcd(*share, divisor));
        all.iter_mut().for_each(|(_, share)| *share /= common);
        Ok(Self(all))
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [(transport, _)] = self.0.as_slice() {
            return transport.fmt(f);
        }
        for (at, (transport, share)) in self.0.iter().enumerate() {
            write!(f, "{}{transport}={share}", if at == 0 { "mix:" } else { "," })?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Mix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Mix> for String {
    fn from(mix: Mix) -> Self {
        mix.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact() {
        let mix: Mix = "mix:native=50,ws=30,wss=20".parse().unwrap();
        let of = |transport| (0..1000).filter(|number| mix.of(*number) == transport).count();
        assert_eq!((of(Transport::Native), of(Transport::Ws), of(Transport::Wss)), (500, 300, 200));
        assert_eq!(mix.to_string(), "mix:native=5,ws=3,wss=2");
        assert!(mix.has_tls() && !Mix::default().has_tls());
    }

    #[test]
    fn slow_ones_are_spread_evenly() {
        for (first, share) in [(0, 0.1), (7000, 0.25), (500_000, 0.5)] {
            let slow =
                (first..first + 1000).filter(|number| LineSpec::is_slow(*number, share)).count() as f64;
            assert!((slow - share * 1000.0).abs() < 5.0, "{slow} of {share}");
        }
        assert!((0..1000).all(|number| LineSpec::is_slow(number, 1.0) && !LineSpec::is_slow(number, 0.0)));
        assert!((0..1000).all(|number| !LineSpec::is_slow(number, 0.1) || LineSpec::is_slow(number, 0.2)));
    }

    #[test]
    fn what_is_written_is_read() {
        for text in ["native", "wss-json", "mix:tls=1,ws-json=2"] {
            assert_eq!(text.parse::<Mix>().unwrap().to_string(), text);
        }
        for wrong in ["", "quic", "mix:", "mix:ws", "mix:ws=0", "mix:ws=x", "mix:ws=1,"] {
            assert!(wrong.parse::<Mix>().is_err(), "{wrong}");
        }
        let spec =
            LineSpec { trust: Trust::Ca("ca.pem".into()), cuts: vec![Cut::Silent], ..LineSpec::default() };
        let json = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<LineSpec>(&json).unwrap(), spec);
    }
}
