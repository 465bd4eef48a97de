//! `broadcast` and `broadcasts` on the command line.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Api, Message, Payload, Timing};

/// Whom a broadcast is for. Each option narrows.
#[derive(Clone, Debug, Default, Args)]
pub struct Audience {
    /// Only to whom this tag expression selects, e.g. "ios and (beta or not eu)".
    #[arg(long, value_name = "EXPR")]
    pub audience: Option<String>,
    /// Only to devices on rooms of this zone; repeat for more.
    #[arg(long = "zone", value_name = "ZONE")]
    pub zones: Vec<String>,
    /// Only to devices on this network: wired, wifi, 2g, 3g, 4g, 5g or unknown; repeat for more.
    #[arg(long = "network", value_name = "NETWORK",
          value_parser = ["wired", "wifi", "2g", "3g", "4g", "5g", "unknown"])]
    pub networks: Vec<String>,
    /// Only to this version of the app and later ones, e.g. 3.12. Devices that do not tell theirs are left out.
    #[arg(long, value_name = "VERSION")]
    pub version_from: Option<String>,
    /// Only to versions of the app before this one. Devices that do not tell theirs are left out.
    #[arg(long, value_name = "VERSION")]
    pub version_below: Option<String>,
    /// Only to this share of the users, over 0 to 100; a greater share includes a smaller one.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub percent: Option<f64>,
}

/// `broadcast`.
#[derive(Clone, Debug, Args)]
pub struct Broadcast {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub api: Api,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub payload: Payload,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub audience: Audience,
    /// To so many online users a second. [default: as fast as the rooms can]
    #[arg(long, value_name = "USERS", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub timing: Timing,
    /// Slow down, and at last pause, when fewer than this share of the users ack within ten seconds: over 0 to 1.
    #[arg(long, value_name = "SHARE", value_parser = share, requires = "rate")]
    pub min_acks: Option<f64>,
    /// Slow down, and at last pause, when 5 of 100 acks take longer than this, e.g. 500ms.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, requires = "rate")]
    pub max_latency: Option<Duration>,
    /// Send nothing; tell whom it would reach now and what it would cost.
    #[arg(long, conflicts_with = "watch")]
    pub preview: bool,
    /// Show how it goes until it has ended, then its ledger. Fails if it is cancelled or recalled meanwhile.
    #[arg(long)]
    pub watch: bool,
    /// Print as JSON; with --watch each state on a line.
    #[arg(long)]
    pub json: bool,
}

/// `broadcasts`.
#[derive(Clone, Debug, Subcommand)]
pub enum Broadcasts {
    /// List them, newest first.
    List(BroadcastList),
    /// Show one.
    Show(BroadcastShow),
    /// Pause one: nobody else gets it until it is resumed.
    Pause(Message),
    /// Resume one.
    Resume(Message),
    /// Change the speed of one.
    Rate(BroadcastRate),
    /// Cancel one: nobody else gets it. Who has it keeps it.
    Cancel(Message),
    /// Recall one: nobody else gets it, and devices that have it are told.
    Recall(Message),
}

/// `broadcasts list`.
#[derive(Clone, Debug, Args)]
pub struct BroadcastList {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub api: Api,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Only those before this one.
    #[arg(long, value_name = "ID")]
    pub before: Option<u64>,
    /// Print them as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `broadcasts show`.
#[derive(Clone, Debug, Args)]
pub struct BroadcastShow {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub message: Message,
    /// Show how it goes until it has ended, then its ledger. Fails if it is cancelled or recalled meanwhile.
    #[arg(long)]
    pub watch: bool,
    /// With --watch: print each state as JSON on a line.
    #[arg(long, requires = "watch")]
    pub json: bool,
}

/// `broadcasts rate`.
#[derive(Clone, Debug, Args)]
pub struct BroadcastRate {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub message: Message,
    /// Online users a second, or `max` for as fast as the rooms can.
    #[arg(value_name = "USERS|max", value_parser = rate)]
    pub rate: u32,
}

fn number_over_zero(text: &str, most: f64) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| *number > 0.0 && *number <= most);
    number.ok_or_else(|| format!("say a number over 0, and at most {most}"))
}

fn percent(text: &str) -> Result<f64, String> {
    number_over_zero(text.strip_suffix('%').unwrap_or(text), 100.0)
}

fn share(text: &str) -> Result<f64, String> {
    number_over_zero(text, 1.0)
}

/// Users a second; 0 = as fast as the rooms can.
fn rate(text: &str) -> Result<u32, String> {
    match text {
        "max" => Ok(0),
        _ => {
            text.parse().ok().filter(|rate| *rate > 0).ok_or_else(|| "say users a second, or max".to_owned())
        }
    }
}
