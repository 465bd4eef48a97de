//! Binds between the register and the thread.
//!
//! From the moment the register knows a session until the thread does, kicks and deliveries for it find nobody. They
//! leave a note here. Binds of one user go one after the other: were two under way, the older could reach the register
//! last and displace the newer.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use foldhash::quality::RandomState;
use tokio::sync::oneshot;
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

/// A user of whom a bind is under way.
#[derive(Debug, Default)]
struct User {
    /// Binds that wait for their turn, in order. Nearly always none.
    waiting: VecDeque<oneshot::Sender<()>>,
    notes: Notes,
}

type Table = HashMap<(AppId, Uid), User, RandomState>;

/// All binds under way in this room.
#[derive(Debug, Clone, Default)]
pub struct PendingBinds(Arc<Mutex<Table>>);

/// One bind, from before it asks the register until after the thread was told. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct PendingBind {
    turn: Turn,
    conn: ConnId,
    round: u64,
}

/// The turn of one bind of a user; the next has it when this is dropped.
#[derive(Debug)]
struct Turn {
    table: PendingBinds,
    user: (AppId, Uid),
    left: bool,
}

impl PendingBinds {
    /// The turn of a bind, if none of the user is under way.
    pub(crate) fn try_enter(&self, app: AppId, uid: &Uid, conn: ConnId, round: u64) -> Option<PendingBind> {
        match self.lock().entry((app, uid.clone())) {
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => {
                place.insert(User::default());
                Some(PendingBind { turn: self.turn((app, uid.clone())), conn, round })
            }
        }
    }

    /// Waits until no earlier bind of the user is under way. `round` is asked then.
    pub(crate) async fn enter(
        &self,
        app: AppId,
        uid: Uid,
        conn: ConnId,
        round: impl FnOnce() -> u64,
    ) -> PendingBind {
        let user = (app, uid);
        let waits = match self.lock().entry(user.clone()) {
            Entry::Vacant(place) => {
                place.insert(User::default());
                None
            }
            Entry::Occupied(mut place) => {
                let (turn, comes) = oneshot::channel();
                place.get_mut().waiting.push_back(turn);
                Some(comes)
            }
        };
        if let Some(comes) = waits {
            let mut wait = Wait { table: self, user: &user, comes };
            // Nobody drops a turn without passing it on.
            let _ = (&mut wait.comes).await;
        }
        PendingBind { turn: self.turn(user), conn, round: round() }
    }

    fn turn(&self, user: (AppId, Uid)) -> Turn {
        Turn { table: self.clone(), user, left: false }
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
        let user = table.get_mut(&(app, uid.clone()));
        user.map(|user| note(&mut user.notes)).is_some()
    }

    /// A turn is over: the next has it. The notes until now, for all binds of the user since there was none.
    fn pass_on(&self, user: &(AppId, Uid)) -> Notes {
        let mut table = self.lock();
        let Some(entry) = table.get_mut(user) else { return Notes::default() };
        let notes = entry.notes;
        while let Some(next) = entry.waiting.pop_front() {
            // One that has given up is passed over.
            if next.send(()).is_ok() {
                return notes;
            }
        }
        table.remove(user);
        // A storm leaves no table behind.
        if table.is_empty() && table.capacity() > 1_024 {
            *table = Table::default();
        }
        notes
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PendingBind {
    /// What has come so far.
    pub(crate) fn notes(&self) -> Notes {
        let Turn { table, user, .. } = &self.turn;
        table.lock().get(user).map(|user| user.notes).unwrap_or_default()
    }

    pub(crate) fn user(&self) -> &(AppId, Uid) {
        &self.turn.user
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
        self.turn.left = true;
        self.turn.table.pass_on(&self.turn.user)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.left {
            self.table.pass_on(&self.user);
        }
    }
}

/// A bind that waits for its turn.
struct Wait<'a> {
    table: &'a PendingBinds,
    user: &'a (AppId, Uid),
    comes: oneshot::Receiver<()>,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        // It is given up: from here on nobody gives it the turn. If it has come just now, it goes on to the next.
        self.comes.close();
        if self.comes.try_recv().is_ok() {
            self.table.pass_on(self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alice() -> Uid {
        Uid::new("alice").unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn turns_go_in_order_and_past_those_that_gave_up() {
        let pending = PendingBinds::default();
        let enter = |conn| {
            let pending = pending.clone();
            async move { pending.enter(AppId(1), alice(), ConnId(conn), || conn).await }
        };
        let first = pending.try_enter(AppId(1), &alice(), ConnId(0), 0).unwrap();
        assert!(pending.try_enter(AppId(1), &alice(), ConnId(9), 0).is_none());
        let waiting: Vec<_> = (1..=3).map(|conn| tokio::spawn(enter(conn))).collect();
        tokio::task::yield_now().await;
        let [one, two, three] = <[_; 3]>::try_from(waiting).unwrap();
        // It is given up before it is its turn; the one after it gets the turn and is given up at the same time.
        one.abort();
        tokio::task::yield_now().await;
        assert!(pending.note_message(AppId(1), &alice()));
        assert!(first.finish().reload);
        two.abort();
        let third = three.await.unwrap();
        assert_eq!((third.conn(), third.round()), (ConnId(3), 3));
        assert!(third.notes().reload, "what came for the first is still known while others wait");
        drop(third);
        assert!(!pending.note_message(AppId(1), &alice()), "nobody is left");
        assert!(pending.try_enter(AppId(1), &alice(), ConnId(4), 0).is_some());
    }
}
