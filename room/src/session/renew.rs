//! Telling a register again what it has lost: a register that starts anew, or that takes users over, learns its sessions
//! from the rooms.

use super::Sessions;
use crate::exchange::{BindingKey, ConnKey, HeldSession, NewFence};

impl Sessions {
    /// Live bindings from slot `from` on, at most `max`, and where to go on.
    pub fn held(&self, from: u32, max: usize) -> (Vec<HeldSession>, Option<u32>) {
        let mut held = Vec::new();
        let end = u32::try_from(self.bindings.capacity()).unwrap_or(u32::MAX);
        for slot in from..end {
            if held.len() == max {
                return (held, Some(slot));
            }
            let Some(binding) = self.bindings.get(slot as usize).filter(|binding| binding.is_live()) else {
                continue;
            };
            held.push(HeldSession {
                binding: BindingKey { slot, generation: binding.generation },
                app: binding.app,
                uid: binding.uid.clone(),
                conn: ConnKey { slot: binding.conn, generation: binding.conn_generation }.id(self.thread),
                fence: binding.fence.into(),
            });
        }
        (held, None)
    }

    /// Gives a binding the fence of its renewed session. `false`: it is over, or has another fence by now, so nobody
    /// holds that session.
    pub fn renew(&mut self, renewed: &NewFence) -> bool {
        let Some(binding) = self.binding(renewed.binding) else { return false };
        let same = binding.is_live() && binding.fence == renewed.old.0;
        if same {
            binding.fence = renewed.new.0;
        }
        same
    }
}
