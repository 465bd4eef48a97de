//! The app's end of a device.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::confirmations::{Confirmation, Confirmations};
use crate::session::Event;

/// What happens to the app, in order. When the app does not take events, the device stops reading from the
/// room, which keeps what follows.
#[derive(Debug)]
pub struct Events {
    queue: mpsc::Receiver<Event>,
    confirmations: Arc<Confirmations>,
    /// Whether asking for the next event confirms the last.
    auto: bool,
    last: Vec<Confirmation>,
}

impl Events {
    pub(super) fn new(queue: mpsc::Receiver<Event>, confirmations: Arc<Confirmations>, auto: bool) -> Self {
        Self { queue, confirmations, auto, last: Vec::new() }
    }

    /// The next event, or `None` when the device has been closed. With `Confirm::Auto`, asking for it says
    /// that the app is done with the one before. May be cancelled: no event is lost.
    pub async fn next(&mut self) -> Option<Event> {
        self.confirm_last();
        let event = self.queue.recv().await?;
        if self.auto {
            self.last.extend(confirmations_of(&event));
        }
        Some(event)
    }

    /// The app is done with this message or broadcast and all before it. Other events need no confirmation.
    pub fn confirm(&self, event: &Event) {
        confirmations_of(event).for_each(|confirmation| self.confirmations.put(confirmation));
    }

    /// With `Confirm::Auto`: the app is done with the last event and will not ask for another.
    pub fn confirm_last(&mut self) {
        self.last.drain(..).for_each(|confirmation| self.confirmations.put(confirmation));
    }
}

fn confirmations_of(event: &Event) -> impl Iterator<Item = Confirmation> {
    let inbox = match event {
        Event::Message(message) => message.position.map(|position| (message.binding, position)),
        _ => None,
    };
    let inbox =
        inbox.map(|(binding, position)| Confirmation { binding, inbox: Some(position), broadcasts: None });
    let broadcast = match event {
        Event::Broadcast(broadcast) => Some(broadcast),
        _ => None,
    };
    let broadcasts = broadcast.into_iter().flat_map(|broadcast| {
        let confirmation =
            |&binding| Confirmation { binding, inbox: None, broadcasts: Some(broadcast.cursor) };
        broadcast.bindings.iter().map(confirmation)
    });
    inbox.into_iter().chain(broadcasts)
}
