//! `listen` on the command line.

use std::path::PathBuf;

use clap::Args;
use client::UtcOffset;
use wire::frame::Network;

use super::Api;

/// `listen`.
#[derive(Clone, Debug, Args)]
pub struct Listen {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub api: Api,
    /// The user.
    #[arg(long)]
    pub uid: String,
    /// A tag that broadcasts can select by; repeat for more.
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Version of the app that the device has, which broadcasts can select by, e.g. 3.12.0.
    #[arg(long, value_name = "VERSION", default_value = "", hide_default_value = true)]
    pub app_version: String,
    /// Network that the device is on, which broadcasts can select by. [default: not told]
    #[arg(long, value_name = "wired|wifi|2g|3g|4g|5g", value_parser = network)]
    pub network: Option<Network>,
    /// What the device's clock shows minus UTC, e.g. +05:45, or `none` to tell nothing. [default: as the system's]
    #[arg(long, value_name = "OFFSET", value_parser = utc_offset, allow_hyphen_values = true)]
    pub utc_offset: Option<UtcOffset>,
    /// Base address of a dispatcher.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7700", env = "LONGWIRE_ROUTE")]
    pub route: String,
    /// The device's token. [default: asked of the API with the app's key]
    #[arg(long, env = "LONGWIRE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// How to connect to the room.
    #[arg(long, value_name = "native|tls|ws|ws-json|wss|wss-json", default_value = "native")]
    pub transport: client::Transport,
    /// Path of the room's WebSocket.
    #[arg(long, value_name = "PATH", default_value = "/")]
    pub path: String,
    /// Certificates (PEM) of the authority that the room's must come from. [default: whom the system trusts]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The name that the room's certificate must have. [default: the host that is connected to]
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// Keep positions in this file, so that nothing is printed twice even after a kill.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
    /// End after this many messages.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
}

fn network(name: &str) -> Result<Network, String> {
    match name {
        "wired" => Ok(Network::Wired),
        "wifi" => Ok(Network::Wifi),
        "2g" => Ok(Network::Network2g),
        "3g" => Ok(Network::Network3g),
        "4g" => Ok(Network::Network4g),
        "5g" => Ok(Network::Network5g),
        _ => Err("say wired, wifi, 2g, 3g, 4g or 5g".to_owned()),
    }
}

/// `+02:00`, `-3`, `+0545`, `none`.
fn utc_offset(text: &str) -> Result<UtcOffset, String> {
    if text == "none" {
        return Ok(UtcOffset::Untold);
    }
    let minutes = || {
        let (sign, rest) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(rest), _) => (1, rest),
            (_, Some(rest)) => (-1, rest),
            _ => (1, text),
        };
        let (hours, minutes) = match rest.split_once(':') {
            Some(parts) => parts,
            None if rest.len() > 2 => rest.split_at_checked(rest.len() - 2)?,
            None => (rest, "0"),
        };
        let digits = |part: &str| (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(hours) || !digits(minutes) {
            return None;
        }
        let (hours, minutes) = (hours.parse::<i16>().ok()?, minutes.parse::<i16>().ok()?);
        let all = sign * (hours * 60 + minutes);
        (minutes < 60 && (-720..=840).contains(&all)).then_some(all)
    };
    minutes()
        .map(UtcOffset::Minutes)
        .ok_or_else(|| "say hours and minutes from -12:00 to +14:00, or none".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_as_people_write_them() {
        let read = |text: &str| utc_offset(text).ok();
        for (text, minutes) in [
            ("+02:00", 120),
            ("+2", 120),
            ("-3", -180),
            ("+0545", 345),
            ("-330", -210),
            ("0", 0),
            ("+14:00", 840),
            ("-12:00", -720),
        ] {
            assert_eq!(read(text), Some(UtcOffset::Minutes(minutes)), "{text}");
        }
        assert_eq!(read("none"), Some(UtcOffset::Untold));
        for text in ["", "+", "+14:15", "-12:01", "+1:60", "1:2:3", "east", "+-1", "+123456", "+0é"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
