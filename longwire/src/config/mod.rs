//! `longwire config`: what the cluster keeps for its nodes.

mod diff;
mod edit;
mod takers;
mod typed;

use std::io::Read as _;

use cluster::{
    Role,
    etcd::{Admin, ConfigChange, EtcdError, Target},
};
use service::ExitError;
use time::OffsetDateTime;
use toml::Table;

use crate::{args, operator::Operator};
use diff::{Difference, differences};
use typed::Typed;

pub(crate) async fn run(command: args::Config) -> Result<(), ExitError> {
    match command {
        args::Config::Get(args) => get(args).await,
        args::Config::Set(args) => set(args).await,
        args::Config::Diff(args) => diff(args).await,
        args::Config::History(args) => history(args).await,
    }
}

/// The configuration of one role, as the commands see it.
struct Store<'a> {
    admin: &'a Admin,
    role: Role,
    target: Target,
}

impl Store<'_> {
    /// The text of a target and its revision; an empty one of revision 0 if there is none.
    async fn text(&self, target: Target) -> Result<(String, u64), ExitError> {
        let config = self.admin.config(self.role, target).await.map_err(ExitError::failure)?;
        Ok(config.map_or_else(Default::default, |config| (config.text, config.revision)))
    }

    /// What lies below this target: for a node the role's configuration, for a role nothing.
    async fn below(&self) -> Result<Table, ExitError> {
        match self.target {
            Target::Default => Ok(Table::new()),
            Target::Node(_) => parse(&self.text(Target::Default).await?.0, "the configuration of the role"),
        }
    }

    async fn change(&self, number: u64) -> Result<ConfigChange, ExitError> {
        let all = self.admin.history(self.role, self.target).await.map_err(ExitError::failure)?;
        all.into_iter()
            .find(|change| change.number == number)
            .ok_or_else(|| ExitError::usage(format!("{} has no change {number} in its history", self.name())))
    }

    fn name(&self) -> String {
        match self.target {
            Target::Default => format!("{} (every node)", self.role),
            Target::Node(id) => format!("{}/{id}", self.role),
        }
    }
}

fn parse(text: &str, what: &str) -> Result<Table, ExitError> {
    text.parse().map_err(|e: toml::de::Error| {
        let lines = e.to_string();
        let line = lines.split_whitespace().collect::<Vec<_>>().join(" ");
        ExitError::usage(format!("{what} is no TOML: {line}"))
    })
}

/// A file's text, or standard input's.
fn read(file: &str) -> Result<String, ExitError> {
    let mut text = String::new();
    let read = match file {
        "-" => std::io::stdin().read_to_string(&mut text).map(|_| text),
        path => std::fs::read_to_string(path),
    };
    read.map_err(|e| ExitError::usage(format!("{file}: {e}")))
}

async fn get(args: args::ConfigGet) -> Result<(), ExitError> {
    let operator = Operator::open(&args.whose.operator).await?;
    let (role, target) = (args.whose.role, args.whose.target());
    let store = Store { admin: &operator.admin, role, target };
    let (text, _) = store.text(target).await?;
    if args.effective {
        let own = parse(&text, &store.name())?;
        let all = Typed::of(role).effective(edit::lay(store.below().await?, own))?;
        out!("{}", toml::to_string(&all).map_err(ExitError::failure)?);
    } else if text.is_empty() {
        eprintln!("longwire: nothing is kept for {}", store.name());
    } else {
        out!("{text}");
    }
    Ok(())
}

async fn set(args: args::ConfigSet) -> Result<(), ExitError> {
    let (role, target) = (args.whose.role, args.whose.target());
    // What needs no cluster is judged before one is asked.
    let edits = edit::edits(&args.what)?;
    let file = match (&edits, args.what.as_slice()) {
        (None, [file]) => Some(read(file)?),
        _ => None,
    };
    let operator = Operator::open(&args.whose.operator).await?;
    let store = Store { admin: &operator.admin, role, target };
    let (now, revision) = store.text(target).await?;
    let (text, before) = match (edits, file, args.history) {
        (Some(edits), ..) => {
            let mut table = parse(&now, &store.name())?;
            edits.into_iter().try_for_each(|edit| edit.apply(&mut table))?;
            (toml::to_string(&table).map_err(ExitError::failure)?, Some(revision))
        }
        (None, Some(file), _) => (file, None),
        (None, None, Some(number)) => (store.change(number).await?.text, None),
        (None, None, None) => return Err(ExitError::usage("nothing to set")),
    };
    check(&store, &text).await?;
    let by = args.by.unwrap_or_else(author);
    let set = operator.admin.set_config(role, target, &text, &by, before).await;
    let revision = set.map_err(|error| match error {
        EtcdError::Conflict => ExitError::failure(format!(
            "{} was changed by somebody else meanwhile: look at it again",
            store.name()
        )),
        other => ExitError::failure(other),
    })?;
    outln!("{}: revision {revision} is written", store.name());
    takers::wait(&operator.admin, role, target, revision).await
}

/// Judges the text by the role's types: on its own, so that the message names its keys, and together with what it is
/// laid over, or under.
async fn check(store: &Store<'_>, text: &str) -> Result<(), ExitError> {
    let typed = Typed::of(store.role);
    typed.check(text)?;
    let new = parse(text, "it")?;
    let together = |table: &Table| -> Result<(), ExitError> {
        typed.check(&toml::to_string(table).map_err(ExitError::failure)?).map_err(ExitError::from)
    };
    match store.target {
        Target::Node(_) => together(&edit::lay(store.below().await?, new)),
        Target::Default => {
            for node in store.admin.nodes().await.map_err(ExitError::failure)? {
                let target = Target::Node(node.id);
                if node.role != store.role {
                    continue;
                }
                let (own, _) = store.text(target).await?;
                // Its own text is not what is to be judged.
                let Ok(own) = own.parse::<Table>() else { continue };
                together(&edit::lay(new.clone(), own)).map_err(|e| {
                    ExitError::usage(format!("with the configuration of {}/{}: {e}", node.role, node.id))
                })?;
            }
            Ok(())
        }
    }
}

async fn diff(args: args::ConfigDiff) -> Result<(), ExitError> {
    let operator = Operator::open(&args.whose.operator).await?;
    let (role, target) = (args.whose.role, args.whose.target());
    let store = Store { admin: &operator.admin, role, target };
    let now = parse(&store.text(target).await?.0, &store.name())?;
    let (from, to) = match (args.from, args.to, &args.file) {
        (_, _, Some(file)) => (now, parse(&read(file)?, file)?),
        (Some(from), to, None) => {
            let from = parse(&store.change(from).await?.text, "the older change")?;
            let to = match to {
                Some(to) => parse(&store.change(to).await?.text, "the newer change")?,
                None => now,
            };
            (from, to)
        }
        // What it makes different from what it is laid over.
        (None, ..) => (Table::new(), now),
    };
    let (below, typed) = (store.below().await?, Typed::of(role));
    let effective = |own: Table| typed.effective(edit::lay(below.clone(), own));
    let all = differences(&effective(from)?, &effective(to)?);
    if all.is_empty() {
        eprintln!("longwire: no difference");
    }
    all.iter().for_each(|difference| outln!("{difference}"));
    Ok(())
}

async fn history(args: args::ConfigHistory) -> Result<(), ExitError> {
    let operator = Operator::open(&args.whose.operator).await?;
    let store = Store { admin: &operator.admin, role: args.whose.role, target: args.whose.target() };
    if let Some(number) = args.number {
        out!("{}", store.change(number).await?.text);
        return Ok(());
    }
    let changes = operator.admin.history(store.role, store.target).await.map_err(ExitError::failure)?;
    for (i, change) in changes.iter().enumerate() {
        outln!("{:>4}  {}  {}", change.number, date(change.at_ms), change.by);
        let before = changes.get(i + 1).map_or("", |before| &before.text);
        // The oldest that is kept may have had one before it.
        if i + 1 < changes.len() || change.number == 1 {
            told(before, &change.text).iter().for_each(|difference| outln!("        {difference}"));
        }
    }
    if changes.is_empty() {
        eprintln!("longwire: nothing was ever set for {}", store.name());
    }
    Ok(())
}

/// What one text changed. One that is no TOML (somebody wrote it by other means) has no keys to tell of.
fn told(before: &str, after: &str) -> Vec<Difference> {
    match (before.parse(), after.parse()) {
        (Ok(before), Ok(after)) => differences(&before, &after),
        _ => Vec::new(),
    }
}

fn date(ms: u64) -> String {
    let at = i64::try_from(ms / 1000).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    at.map_or_else(
        || ms.to_string(),
        |at| format!("{} {:02}:{:02}:{:02} UTC", at.date(), at.hour(), at.minute(), at.second()),
    )
}

fn author() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    match (user, host.trim()) {
        (Ok(user), "") => user,
        (Ok(user), host) => format!("{user}@{host}"),
        (Err(_), "") => "somebody".to_owned(),
        (Err(_), host) => format!("somebody@{host}"),
    }
}
