//! The command line.

mod cert;
mod operator;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use cert::{Cert, CertFiles, CertInit};
pub use operator::{
    Config, ConfigDiff, ConfigGet, ConfigHistory, ConfigSet, Node, NodeDrain, NodeList, NodeName, NodeTop,
    Operator, Whose,
};

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
    /// To the users in this file, one a line; `-` = standard input.
    #[arg(long, value_name = "FILE")]
    pub list: Option<PathBuf>,
    /// To everyone.
    #[arg(long)]
    pub all: bool,
    /// With --all: only to whom this tag expression selects, e.g. "ios and not beta".
    #[arg(long, value_name = "EXPR", requires = "all")]
    pub audience: Option<String>,
    /// The message.
    #[arg(required_unless_present = "file", conflicts_with = "file")]
    pub text: Option<String>,
    /// The message is what this file holds; `-` = standard input.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How long it is kept for who is away, e.g. 90s, 2h, 7d. [default: the app's]
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub ttl: Option<std::time::Duration>,
    /// Only to who is online now; never stored.
    #[arg(long, conflicts_with = "all")]
    pub transient: bool,
    /// A repeat of the call with the same key answers with the first call's result.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Print the answer as JSON.
    #[arg(long)]
    pub json: bool,
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
    /// Name of the new app: 1 to 64 of a-z 0-9 - _.
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
