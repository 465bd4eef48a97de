//! What a thread's sessions hold, counted: for the memory account, and to show that nothing stays behind.

use std::mem::size_of;

use super::{Sessions, binding::Binding, connection::Session};
use crate::exchange::{AckAsk, BindingKey};

/// Entries and bytes, by piece. Bytes are what was allocated, unused places included, without the allocator's own share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)] // The names say it.
pub struct Census {
    pub connections: usize,
    pub connection_bytes: usize,
    /// Those that are being ended included.
    pub bindings: usize,
    pub binding_bytes: usize,
    /// Live bindings in the index by user.
    pub users: usize,
    pub user_bytes: usize,
    /// Live bindings in the apps' bitmaps.
    pub members: usize,
    /// Different tags of all apps.
    pub tags: usize,
    /// The bitmaps of bindings and tags.
    pub bitmap_bytes: usize,
    pub timers: usize,
    pub timer_bytes: usize,
    /// Asks, acks and ends that have not been handed over, loads that wait for a later tick.
    pub waiting: usize,
    pub waiting_bytes: usize,
    /// Apps and recalls with something to send.
    pub work: usize,
    /// Bindings that broadcasts lag behind for.
    pub lagging: usize,
    /// Bytes of upstream data that is not answered.
    pub up_bytes: usize,
}

impl Census {
    /// Whether nothing is held but the apps' newest broadcasts.
    pub fn is_empty(&self) -> bool {
        let Self {
            connections,
            bindings,
            users,
            members,
            tags,
            timers,
            waiting,
            work,
            lagging,
            up_bytes,
            ..
        } = *self;
        connections + bindings + users + members + tags + timers + waiting + work + lagging + up_bytes == 0
    }
}

impl Sessions {
    /// Counts everything. Costs a look at every app and slot of the wheel, so it is not for every turn.
    pub fn census(&self) -> Census {
        let asks = &self.asks;
        let asked = asks.binds.len() + asks.loads.len() + asks.ups.len() + asks.pages.len();
        let keys = self.parked.capacity() + self.dirty.capacity();
        let mut census = Census {
            connections: self.conns.len(),
            connection_bytes: self.conns.capacity() * size_of::<Session>(),
            bindings: self.bindings.len(),
            binding_bytes: self.bindings.capacity() * size_of::<Binding>(),
            users: self.users.len(),
            user_bytes: self.users.bytes(),
            timers: self.wheel.len(),
            timer_bytes: self.wheel.bytes(),
            waiting: asked
                + self.parked.len()
                + self.dirty.len()
                + self.old_acks.len()
                + self.ending.len()
                + self.stalled.len()
                + self.leaving.len()
                + self.keeping.len()
                + self.given_up.len()
                + asks.keeps.len(),
            waiting_bytes: keys * size_of::<BindingKey>()
                + self.old_acks.capacity() * size_of::<AckAsk>()
                + self.ending.capacity() * size_of::<u32>(),
            work: self.work.len() + self.recalls.len(),
            up_bytes: self.up_bytes,
            ..Census::default()
        };
        for app in self.apps.values() {
            census.members += app.members.len() as usize;
            census.tags += app.tags.len();
            census.bitmap_bytes += app.bitmap_bytes();
            census.lagging += app.log.lagging.len() as usize;
        }
        census
    }
}
