//! Telling a register again what it has lost: a register that starts anew, or that takes users over, learns its sessions
//! from the rooms.

use super::Sessions;
use crate::exchange::{BindingKey, ConnKey, HeldSession};

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

    /// Which of these sessions are over, by their places.
    pub fn over(&self, sessions: &[HeldSession]) -> Vec<u32> {
        let is_over = |session: &HeldSession| {
            self.bindings
                .get(session.binding.slot as usize)
                .filter(|binding| binding.generation == session.binding.generation && binding.is_live())
                .is_none_or(|binding| binding.fence != session.fence.0)
        };
        let places = sessions.iter().enumerate().filter(|(_, session)| is_over(session));
        places.map(|(place, _)| place as u32).collect()
    }
}
