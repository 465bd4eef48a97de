//! The command line.

mod broadcast;
mod cert;
mod listen;
mod operator;
mod send;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use broadcast::{Audience, Broadcast, BroadcastList, BroadcastRate, BroadcastShow, Broadcasts};
pub use cert::{Cert, CertFiles, CertInit};
pub use listen::Listen;
pub use operator::{
    Config, ConfigDiff, ConfigGet, ConfigHistory, ConfigSet, Node, NodeDrain, NodeList, NodeName, NodeTop,
    Operator, Whose,
};
pub use send::{Multicast, Payload, Push, Scheduled, Targets, Timing};

/// Push messages over long-lived connections.
#[derive(Debug, Parser)]
#[command(name = "longwire", version, about)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[allow(missing_docs)]
pub enum Command {
    /// Run all six services in this process, on embedded stores.
    Up(Up),
    /// Connect as a device and print what arrives.
    Listen(Listen),
    /// Send a message to one user, to a list, or to everyone.
    Push(Push),
    /// Send a message to everyone, or to an audience: at a speed, at a time, with a preview or a progress bar.
    Broadcast(Box<Broadcast>),
    /// List broadcasts, look at one, pause, resume, cancel or recall it, or change its speed.
    #[command(subcommand)]
    Broadcasts(Broadcasts),
    /// Send a message to a list of users of any length.
    Multicast(Multicast),
    /// List what became of a message for each of its users.
    Targets(Targets),
    /// List what waits for its time, or cancel it.
    #[command(subcommand)]
    Scheduled(Scheduled),
    /// Show where a user is and what waits for it.
    User(User),
    /// Show the ledger of a message.
    Message(Message),
    /// Take a message back.
    Recall(Message),
    /// End a user's binding.
    Kick(User),
    /// Issue a token for a device.
    Token(Token),
    /// Create and list apps and keys.
    #[command(subcommand)]
    App(App),
    /// Make the certificates of a cluster.
    #[command(subcommand)]
    Cert(Cert),
    /// Look at the configuration that the cluster keeps, and change it.
    #[command(subcommand)]
    Config(Config),
    /// Look at the nodes of a cluster, and drain one.
    #[command(subcommand)]
    Node(Node),
}

/// `up`.
#[derive(Clone, Debug, Default, Args)]
pub struct Up {
    /// Folder for everything that is kept; created if it is not there. [default: longwire-data]
    #[arg(long, value_name = "DIR", env = "LONGWIRE_DATA")]
    pub data: Option<PathBuf>,
    /// Configuration, TOML. Variables LONGWIRE_<SECTION>__<KEY> override it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Where the API is and who calls it.
#[derive(Clone, Debug, Args)]
pub struct Api {
    /// Base address of a center.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7800", env = "LONGWIRE_API")]
    pub api: String,
    /// The app's API key. [default: the file <data>/<app>.key that `up` wrote]
    #[arg(long, value_name = "KEY", env = "LONGWIRE_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// Data folder of `up`, to read the key from.
    #[arg(long, value_name = "DIR", default_value = "longwire-data", env = "LONGWIRE_DATA")]
    pub data: PathBuf,
    /// The app.
    #[arg(long, default_value = "demo")]
    pub app: String,
}

/// A user.
#[derive(Clone, Debug, Args)]
pub struct User {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub api: Api,
    /// The user.
    #[arg(long)]
    pub uid: String,
}

/// A message.
#[derive(Clone, Debug, Args)]
pub struct Message {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub api: Api,
    /// Its id, as `push` printed it.
    pub id: u64,
}

/// `token`.
#[derive(Clone, Debug, Args)]
pub struct Token {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub user: User,
    /// How long it is valid, e.g. 1h. [default: one day]
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub ttl: Option<std::time::Duration>,
}

/// `app`.
#[derive(Clone, Debug, Subcommand)]
#[allow(missing_docs)]
pub enum App {
    /// Create an app; prints its key and secrets once.
    Create(AppCreate),
    /// List the apps.
    List {
        #[command(flatten)]
        api: Api,
    },
    /// Make another key for the app.
    Key {
        #[command(flatten)]
        api: Api,
        /// push, read or admin; repeat for more.
        #[arg(long = "scope", required = true)]
        scopes: Vec<String>,
    },
}

/// `app create`.
#[derive(Clone, Debug, Args)]
pub struct AppCreate {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub api: Api,
    /// Name of the new app: 1 to 64 of a-z 0-9 - _ and dot.
    pub name: String,
    /// Where upstream data is posted.
    #[arg(long, value_name = "URL", default_value = "")]
    pub upstream_url: String,
    /// Where online and offline events are posted.
    #[arg(long, value_name = "URL", default_value = "")]
    pub state_url: String,
    /// When a push is answered: `fast` (the inbox store has it) or `safe` (the archive too). [default: the savers']
    #[arg(long, value_name = "CLASS", default_value = "", hide_default_value = true)]
    pub durability: String,
}
