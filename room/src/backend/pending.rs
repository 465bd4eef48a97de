//! Binds between the register and the thread.
//!
//! From the moment the register knows a session until the thread does, kicks and deliveries for it find nobody. They
//! leave a note here. Binds of one user go one after the other: were two under way, the older could reach the register
//! last and displace the newer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OwnedMutexGuard;
use wire::id::{AppId, ConnId, FenceNumber, Uid};

use crate::exchange::KickWhy;

/// What came for a session that is not there yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Notes {
    /// The newest kick.
    kick: Option<(FenceNumber, KickWhy)>,
    /// A message was stored.
    pub(crate) reload: bool,
}

impl Notes {
    /// The kick, if it is meant for a session with this fence.
    pub(crate) fn kick_for(&self, fence: FenceNumber) -> Option<KickWhy> {
        self.kick.filter(|(newest, _)| fence <= *newest).map(|(_, why)| why)
    }
}

#[derive(Debug, Default)]
struct Entry {
    /// Binds under way or waiting for their turn.
    binds: usize,
    turn: Arc<tokio::sync::Mutex<()>>,
    notes: Notes,
}

type Table = HashMap<(AppId, Uid), Entry>;

/// All binds under way in this room.
#[derive(Debug, Clone, Default)]
pub struct PendingBinds(Arc<Mutex<Table>>);

/// One bind, from before it asks the register until after the thread was told. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct PendingBind {
    table: PendingBinds,
    user: (AppId, Uid),
    conn: ConnId,
    round: u64,
    left: bool,
    _turn: OwnedMutexGuard<()>,
}

impl PendingBinds {
    /// Waits until no earlier bind of the user is under way. `round` is asked then.
    pub(crate) async fn enter(
        &self,
        app: AppId,
        uid: Uid,
        conn: ConnId,
        round: impl FnOnce() -> u64,
    ) -> PendingBind {
        let user = (app, uid);
        let turn = {
            let mut table = self.lock();
            let entry = table.entry(user.clone()).or_default();
            entry.binds += 1;
            Arc::clone(&entry.turn)
        };
        // Counted off again if the wait is given up.
        let leave = Leave { table: self, user: &user, armed: true };
        let turn = turn.lock_owned().await;
        leave.disarm();
        PendingBind { table: self.clone(), user, conn, round: round(), left: false, _turn: turn }
    }

    /// Notes a kick; whether a bind of the user is under way.
    pub fn note_kick(&self, app: AppId, uid: &Uid, fence: FenceNumber, why: KickWhy) -> bool {
        self.note(app, uid, |notes| {
            if notes.kick.is_none_or(|(newest, _)| newest < fence) {
                notes.kick = Some((fence, why));
            }
        })
    }

    /// Notes that a message was stored; whether a bind of the user is under way.
    pub fn note_message(&self, app: AppId, uid: &Uid) -> bool {
        self.note(app, uid, |notes| notes.reload = true)
    }

    fn note(&self, app: AppId, uid: &Uid, note: impl FnOnce(&mut Notes)) -> bool {
        let mut table = self.lock();
        // The usual case costs no allocation for the key.
        if table.is_empty() {
            return false;
        }
        let entry = table.get_mut(&(app, uid.clone()));
        entry.map(|entry| note(&mut entry.notes)).is_some()
    }

    fn leave(&self, user: &(AppId, Uid)) {
        let mut table = self.lock();
        if let Some(entry) = table.get_mut(user) {
            entry.binds -= 1;
            if entry.binds == 0 {
                table.remove(user);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingBind {
    /// What has come so far.
    pub(crate) fn notes(&self) -> Notes {
        self.table.lock().get(&self.user).map(|entry| entry.notes).unwrap_or_default()
    }

    pub(crate) fn user(&self) -> &(AppId, Uid) {
        &self.user
    }

    /// The connection that binds.
    pub(crate) fn conn(&self) -> ConnId {
        self.conn
    }

    /// How often the registers had been told again when the bind got its turn.
    pub(crate) fn round(&self) -> u64 {
        self.round
    }

    /// Ends the bind and gives what has come until now, in one step: whatever comes later finds the thread informed.
    pub(crate) fn finish(mut self) -> Notes {
        let mut table = self.table.lock();
        let Some(entry) = table.get_mut(&self.user) else { return Notes::default() };
        let notes = entry.notes;
        entry.binds -= 1;
        if entry.binds == 0 {
            table.remove(&self.user);
        }
        drop(table);
        self.left = true;
        notes
    }
}

impl Drop for PendingBind {
    fn drop(&mut self) {
        if !self.left {
            self.table.leave(&self.user);
        }
    }
}

struct Leave<'a> {
    table: &'a PendingBinds,
    user: &'a (AppId, Uid),
    armed: bool,
}

impl Leave<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.table.leave(self.user);
        }
    }
}
