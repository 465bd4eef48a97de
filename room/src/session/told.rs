//! What devices say of themselves when they connect. It is kept in their bindings; only for a connection that has none yet, and
//! whose device told something, it lies here.

use std::collections::HashMap;

use audience::{Device, Offset};
use foldhash::fast::RandomState;
use wire::frame::Connect;

use super::Sessions;

/// By connection: network and offset from UTC.
#[derive(Debug, Default)]
pub(crate) struct Hellos(HashMap<u32, (u8, Offset), RandomState>);

fn told(connect: &Connect) -> Device {
    Device::told(connect.network, connect.utc_offset_min, "")
}

impl Sessions {
    pub(crate) fn note_told(&mut self, conn: u32, connect: &Connect) {
        let device = told(connect);
        if device != Device::default() {
            self.hellos.0.insert(conn, (device.network, device.offset));
        }
    }

    pub(crate) fn forget_told(&mut self, conn: u32) {
        self.forget_greeting(conn);
        if self.hellos.0.is_empty() {
            return;
        }
        self.hellos.0.remove(&conn);
        // A storm leaves no table behind.
        if self.hellos.0.is_empty() && self.hellos.0.capacity() > 1_024 {
            self.hellos = Hellos::default();
        }
    }

    /// What the device of a connection told.
    pub(crate) fn told(&self, conn: u32) -> Device {
        let (network, offset) = match self.slots_of(conn).next() {
            Some(slot) => (self.bindings[slot as usize].network, self.bindings[slot as usize].offset),
            None if self.hellos.0.is_empty() => Default::default(),
            None => self.hellos.0.get(&conn).copied().unwrap_or_default(),
        };
        Device { network, offset, ..Device::default() }
    }

    /// The device of a connection goes on elsewhere: other broadcasts are meant for its bindings.
    pub(crate) fn move_device(&mut self, conn: u32, connect: &Connect) {
        let device = told(connect);
        let slots: Vec<u32> = self.slots_of(conn).collect();
        for slot in slots {
            let Some(binding) = self.bindings.get_mut(slot as usize) else { continue };
            let live = binding.is_live();
            match self.apps.get_mut(&binding.app).filter(|_| live) {
                Some(app) => app.move_device(slot, binding, device.network, device.offset),
                None => (binding.network, binding.offset) = (device.network, device.offset),
            }
        }
    }
}
