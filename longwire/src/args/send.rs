//! `push`, `multicast`, `targets` and `scheduled` on the command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use super::{Api, Message};

/// What to send, and for how long it is kept.
#[derive(Clone, Debug, Args)]
pub struct Payload {
    /// The message.
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub text: Option<String>,
    /// The message is what this file holds; `-` = standard input.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How long it is kept for who is away, e.g. 90s, 2h, 7d. [default: the app's]
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub ttl: Option<Duration>,
    /// A repeat of the call with the same key answers with the first call's result.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

/// When to send, and before whom.
#[derive(Clone, Debug, Default, Args)]
pub struct Timing {
    /// Send at this time, e.g. 2026-11-21T09:00Z or 2026-11-21T09:00+01:00, or so long from now, e.g. +90m.
    #[arg(long, value_name = "TIME", conflicts_with = "local", allow_hyphen_values = true)]
    pub at: Option<String>,
    /// Send when a clock shows this, e.g. 2026-11-21T09:00, or 09:00 for the next time that it does.
    #[arg(long, value_name = "TIME")]
    pub local: Option<String>,
    /// With --local: whose clock. `device` = that of each device, or a zone, e.g. Europe/Berlin. [default: UTC]
    #[arg(long, value_name = "ZONE", requires = "local")]
    pub time_zone: Option<String>,
    /// Before everything that waits and is not urgent.
    #[arg(long)]
    pub urgent: bool,
}

/// `push`.
#[derive(Clone, Debug, Args)]
#[command(group(clap::ArgGroup::new("to").required(true).args(["uid", "list", "all"])))]
pub struct Push {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub api: Api,
    /// To this user.
    #[arg(long)]
    pub uid: Option<String>,
    /// To the users in this file, one a line; `-` = standard input. For long lists there is `multicast`.
    #[arg(long, value_name = "FILE")]
    pub list: Option<PathBuf>,
    /// To everyone. What `broadcast` can do besides, this cannot.
    #[arg(long)]
    pub all: bool,
    /// With --all: only to whom this tag expression selects, e.g. "ios and not beta".
    #[arg(long, value_name = "EXPR", requires = "all")]
    pub audience: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub payload: Payload,
    /// Only to who is online now; never stored.
    #[arg(long, conflicts_with = "all")]
    pub transient: bool,
    /// Take the place of earlier messages with the same key that the user has not read: 1 to 64 bytes.
    #[arg(long, value_name = "KEY", conflicts_with_all = ["all", "transient"])]
    pub collapse_key: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub timing: Timing,
    /// Print the answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `multicast`.
#[derive(Clone, Debug, Args)]
pub struct Multicast {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub api: Api,
    /// File of the users, one a line; `-` = standard input. It is sent as it is read, however long it is.
    #[arg(value_name = "USERS")]
    pub users: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub payload: Payload,
    /// Only to who is online now; never stored.
    #[arg(long)]
    pub transient: bool,
    /// Take the place of earlier messages with the same key that a user has not read: 1 to 64 bytes.
    #[arg(long, value_name = "KEY", conflicts_with = "transient")]
    pub collapse_key: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub timing: Timing,
    /// Print the answer as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `targets`.
#[derive(Clone, Debug, Args)]
pub struct Targets {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub message: Message,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// `scheduled`.
#[derive(Clone, Debug, Subcommand)]
pub enum Scheduled {
    /// List the pushes and multicasts that wait for their time, soonest first.
    List {
        #[command(flatten)]
        #[allow(missing_docs)]
        api: Api,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Print them as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Cancel one.
    Cancel(Message),
}
