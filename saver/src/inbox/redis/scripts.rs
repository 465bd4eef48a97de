//! The scripts. Each is one round trip and touches one partition, which is one slot of Redis Cluster. They name the
//! partition's base as their only key and derive the others from it: all have its hash tag.

use std::sync::LazyLock;

use redis::{Cmd, Script};

/// A script and its hash.
#[derive(Debug)]
pub(super) struct Source {
    code: String,
    script: Script,
}

impl Source {
    fn alone(code: &str) -> Self {
        Self { code: code.to_owned(), script: Script::new(code) }
    }

    /// One that works within an epoch: it begins with what all of those share.
    fn within(code: &str) -> Self {
        Self::alone(&format!("{}{code}", include_str!("scripts/prelude.lua")))
    }

    /// A call by hash; more arguments follow.
    pub(super) fn by_hash(&self, base: &str, arguments: usize) -> Cmd {
        let mut cmd = Cmd::with_capacity(arguments + 4, 64 * arguments + 128);
        cmd.arg("EVALSHA").arg(self.script.get_hash()).arg(1).arg(base);
        cmd
    }

    /// The same call with the code, for a server that does not know the hash.
    pub(super) fn by_code(&self, by_hash: &Cmd) -> Cmd {
        let mut cmd = Cmd::new();
        cmd.arg("EVAL").arg(&self.code);
        for argument in by_hash.args_iter().skip(2) {
            if let redis::Arg::Simple(bytes) = argument {
                cmd.arg(bytes);
            }
        }
        cmd
    }
}

macro_rules! sources {
    ($($name:ident = $make:ident $file:literal;)*) => {
        $(pub(super) static $name: LazyLock<Source> = LazyLock::new(|| Source::$make(include_str!($file)));)*
    };
}

sources! {
    APPEND = within "scripts/append.lua";
    ACK = within "scripts/ack.lua";
    LOAD = within "scripts/load.lua";
    ABSENT = within "scripts/absent.lua";
    REBUILD = within "scripts/rebuild.lua";
    RECALL = within "scripts/recall.lua";
    LOOK = within "scripts/look.lua";
    OVERDUE = within "scripts/overdue.lua";
    EVICT = within "scripts/evict.lua";
    LANDED = within "scripts/landed.lua";
    TIE = within "scripts/tie.lua";
    BEGIN = alone "scripts/begin.lua";
}
