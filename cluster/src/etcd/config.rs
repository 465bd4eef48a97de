//! The configuration that the cluster keeps for a node, as text: what it means is the services' affair.

use std::{fmt, str::FromStr, time::Duration};

use tokio::sync::watch;

use super::{
    EtcdError,
    keys::Keys,
    watch::{Change, Entry, Follower},
};
use crate::{NodeId, Role};

/// Whom a configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Every node of the role.
    Default,
    /// One node; it overrides the default.
    Node(NodeId),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Default => f.write_str("default"),
            Target::Node(id) => id.fmt(f),
        }
    }
}

/// A word that is neither `default` nor a node id.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is neither \"default\" nor a node id")]
pub struct UnknownTarget(String);

impl FromStr for Target {
    type Err = UnknownTarget;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "default" => Ok(Target::Default),
            id => id.parse().map(|id| Target::Node(NodeId(id))).map_err(|_| UnknownTarget(word.to_owned())),
        }
    }
}

/// A configuration in etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigText {
    /// TOML: keys of the role's own section.
    pub text: String,
    /// Revision at which it was written.
    pub revision: u64,
}

/// All that the cluster keeps for one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigTexts {
    /// Revision of the last change; 0 = there never was one.
    pub revision: u64,
    /// For every node of the role.
    pub default: Option<ConfigText>,
    /// For this node; it overrides the default.
    pub own: Option<ConfigText>,
}

/// Follows the configuration of one node.
pub(crate) struct ConfigFollower {
    default_key: String,
    own_key: String,
    texts: watch::Sender<Option<ConfigTexts>>,
    lost: bool,
}

impl ConfigFollower {
    /// The channel holds `None` until etcd was asked.
    pub(crate) fn new(
        keys: &Keys,
        role: Role,
        id: NodeId,
        texts: watch::Sender<Option<ConfigTexts>>,
    ) -> Self {
        Self {
            default_key: keys.config(role, Target::Default),
            own_key: keys.config(role, Target::Node(id)),
            texts,
            lost: false,
        }
    }

    fn slot<'a>(&self, texts: &'a mut ConfigTexts, key: &str) -> Option<&'a mut Option<ConfigText>> {
        if key == self.default_key {
            Some(&mut texts.default)
        } else if key == self.own_key {
            Some(&mut texts.own)
        } else {
            None
        }
    }

    fn put(&self, texts: &mut ConfigTexts, entry: &Entry) {
        let revision = entry.revision.unsigned_abs();
        if let Some(slot) = self.slot(texts, &entry.key) {
            // What is not UTF-8 is no TOML either, and is refused as such.
            let text = String::from_utf8_lossy(&entry.value).into_owned();
            *slot = Some(ConfigText { text, revision });
            texts.revision = revision;
        }
    }

    fn publish(&self, texts: ConfigTexts) {
        self.texts.send_if_modified(|now| {
            let news = now.as_ref() != Some(&texts);
            *now = Some(texts);
            news
        });
    }

    fn now(&self) -> ConfigTexts {
        self.texts.borrow().clone().unwrap_or_default()
    }
}

impl Follower for ConfigFollower {
    fn back(&mut self, _away: Duration, lost: bool) {
        self.lost = lost;
    }

    fn list(&mut self, revision: i64, mut entries: Vec<Entry>) {
        entries.sort_by_key(|entry| entry.revision);
        let before = self.now();
        let mut texts = ConfigTexts::default();
        for entry in entries {
            self.put(&mut texts, &entry);
        }
        if self.lost {
            // An etcd that lost everything did not decide anything: what was in force stays.
            texts.default = texts.default.or_else(|| before.default.clone());
            texts.own = texts.own.or_else(|| before.own.clone());
            texts.revision = texts.revision.max(before.revision);
        } else if (&texts.default, &texts.own) == (&before.default, &before.own) {
            texts.revision = before.revision;
        } else if texts.revision <= before.revision {
            // Something was taken back meanwhile.
            texts.revision = revision.unsigned_abs();
        }
        self.publish(texts);
    }

    fn changes(&mut self, changes: Vec<Change>) {
        let mut texts = self.now();
        for change in changes {
            match change {
                Change::Put(entry) => self.put(&mut texts, &entry),
                Change::Deleted { key, revision } => {
                    if let Some(slot) = self.slot(&mut texts, &key) {
                        *slot = None;
                        texts.revision = revision.unsigned_abs();
                    }
                }
            }
        }
        self.publish(texts);
    }

    fn away(&mut self, _reason: &EtcdError) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follower() -> (ConfigFollower, watch::Receiver<Option<ConfigTexts>>, Keys) {
        let keys = Keys::new("c");
        let (sender, receiver) = watch::channel(None);
        (ConfigFollower::new(&keys, Role::Saver, NodeId(3), sender), receiver, keys)
    }

    fn entry(key: String, text: &str, revision: i64) -> Entry {
        Entry { key, value: text.into(), revision }
    }

    #[test]
    fn the_last_change_of_either_is_the_revision() {
        let (mut follower, texts, keys) = follower();
        assert!(texts.borrow().is_none());
        follower.list(9, vec![]);
        assert_eq!(*texts.borrow(), Some(ConfigTexts::default()));
        let (default, own) =
            (keys.config(Role::Saver, Target::Default), keys.config(Role::Saver, Target::Node(NodeId(3))));
        let other = keys.config(Role::Saver, Target::Node(NodeId(4)));
        follower.changes(vec![Change::Put(entry(default, "a = 1", 10)), Change::Put(entry(other, "x", 11))]);
        assert_eq!(texts.borrow().as_ref().unwrap().revision, 10);
        follower.changes(vec![Change::Put(entry(own.clone(), "a = 2", 12))]);
        follower.changes(vec![Change::Deleted { key: own, revision: 13 }]);
        let now = texts.borrow().clone().unwrap();
        assert_eq!((now.revision, now.default.unwrap().text.as_str(), now.own), (13, "a = 1", None));
        // Deleted while we were away, and listed.
        follower.list(20, vec![]);
        assert_eq!(*texts.borrow(), Some(ConfigTexts { revision: 20, default: None, own: None }));
    }

    /// An empty etcd must not turn every limit that operators set back to its default at once.
    #[test]
    fn what_etcd_lost_stays_in_force() {
        let (mut follower, texts, keys) = follower();
        follower.list(9, vec![entry(keys.config(Role::Saver, Target::Default), "a = 1", 5)]);
        let before = texts.borrow().clone();
        follower.back(Duration::ZERO, true);
        follower.list(2, vec![]);
        assert_eq!(*texts.borrow(), before);
    }
}
