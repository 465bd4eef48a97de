//! New lives of rooms that binds tell of.

use tokio::sync::mpsc;

use crate::homes::RoomLife;

/// New lives that wait to be heard of: each of the store's shards may tell of the same one.
const QUEUED: usize = 1024;

/// From those who bind to the one who purges. Clones share the queue.
#[derive(Debug, Clone)]
pub(crate) struct Lives(mpsc::Sender<RoomLife>);

impl Lives {
    pub(crate) fn new() -> (Lives, mpsc::Receiver<RoomLife>) {
        let (lives, told) = mpsc::channel(QUEUED);
        (Lives(lives), told)
    }

    pub(crate) fn tell(&self, life: RoomLife) {
        // A full queue holds the same news already, or the picture brings it.
        let _ = self.0.try_send(life);
    }
}
