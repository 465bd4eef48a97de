//! What a device keeps over a restart.

use serde::{Deserialize, Serialize};
use wire::id::{AppKey, Cursor, Position, Uid};

/// What a device keeps over a restart, so that it gets each message once. A stored format: fields are only
/// added, and have a default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// Where it last was well connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its places in inboxes and broadcast logs.
    #[serde(default)]
    pub bindings: Vec<SavedBinding>,
}

/// The place of one (app, uid): everything up to it is done with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedBinding {
    /// The app's key.
    pub app: AppKey,
    /// The user.
    pub uid: Uid,
    /// Place in the inbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbox: Option<Position>,
    /// Place in the app's broadcast log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broadcasts: Option<Cursor>,
}

impl Snapshot {
    /// The kept place of a user.
    #[must_use]
    pub fn find(&self, app: &AppKey, uid: &Uid) -> Option<&SavedBinding> {
        self.bindings.iter().find(|saved| saved.app == *app && saved.uid == *uid)
    }

    /// Takes over the places of `newer`, and keeps those that it does not speak of.
    pub fn merge(&mut self, newer: Self) {
        if newer.address.is_some() {
            self.address = newer.address;
        }
        for saved in newer.bindings {
            self.bindings.retain(|old| old.app != saved.app || old.uid != saved.uid);
            self.bindings.push(saved);
        }
    }
}
