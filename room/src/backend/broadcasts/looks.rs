//! When to compare the heads of the logs out of turn.
//!
//! A center tells the rooms that it knows of, and what is stored may be stored by a saver that has just come to own the log. So
//! when there is another saver or center, or when this room becomes one that is told, a broadcast may have passed it by.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use cluster::{NodeId, NodeInfo, Picture, Role};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// At once, and when whoever had an older picture has had the time to act upon it: a poll of a fixed list takes a second.
const AFTER: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)];

/// Follows the picture.
pub(crate) struct Looks {
    pictures: watch::Receiver<Arc<Picture>>,
    me: NodeId,
    seen: Seen,
    due: VecDeque<Instant>,
    frozen: bool,
}

#[derive(PartialEq, Eq)]
struct Seen {
    others: Vec<(Role, NodeId, u64)>,
    told: bool,
}

impl Seen {
    fn of(picture: &Picture, me: NodeId) -> Seen {
        let life = |node: &NodeInfo| (node.role, node.id, node.life());
        let of = |role| picture.serving(role).map(life);
        Seen {
            others: of(Role::Saver).chain(of(Role::Center)).collect(),
            told: picture.serving(Role::Room).any(|node| node.id == me),
        }
    }
}

impl Looks {
    pub(crate) fn new(pictures: watch::Receiver<Arc<Picture>>, me: NodeId) -> Looks {
        let seen = Seen::of(&pictures.borrow(), me);
        Looks { pictures, me, seen, due: VecDeque::new(), frozen: false }
    }

    /// Ends when it is time to look. May be dropped and called again.
    pub(super) async fn next(&mut self) {
        loop {
            let due = self.due.front().copied().unwrap_or_else(Instant::now);
            tokio::select! {
                () = sleep_until(due), if !self.due.is_empty() => {
                    self.due.pop_front();
                    return;
                }
                changed = self.pictures.changed(), if !self.frozen => {
                    self.frozen = changed.is_err();
                    let seen = Seen::of(&self.pictures.borrow_and_update(), self.me);
                    if seen != self.seen {
                        self.seen = seen;
                        let now = Instant::now();
                        self.due = AFTER.iter().map(|after| now + *after).collect();
                    }
                }
                else => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cluster::NodeState;

    use super::*;

    fn picture(nodes: &[(Role, u32, NodeState)]) -> Arc<Picture> {
        let node = |(role, id, state): &(Role, u32, NodeState)| NodeInfo {
            state: *state,
            ..NodeInfo::new(*role, NodeId(*id))
        };
        Arc::new(Picture::new(1, nodes.iter().map(node).collect()))
    }

    async fn looks(looks: &mut Looks) -> usize {
        let mut count = 0;
        while tokio::time::timeout(Duration::from_secs(10), looks.next()).await.is_ok() {
            count += 1;
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn looks_when_the_room_is_ready_and_when_there_is_another_center_or_saver() {
        use NodeState::{Ready, Starting};
        let pictures = watch::Sender::new(picture(&[(Role::Room, 4, Starting)]));
        let mut at = Looks::new(pictures.subscribe(), NodeId(4));
        assert_eq!(looks(&mut at).await, 0);
        pictures.send_replace(picture(&[(Role::Room, 4, Ready)]));
        assert_eq!(looks(&mut at).await, 3);
        pictures.send_replace(picture(&[(Role::Room, 4, Ready), (Role::Room, 5, Ready)]));
        assert_eq!(looks(&mut at).await, 0, "another room tells nobody anything");
        for role in [Role::Center, Role::Saver] {
            pictures.send_replace(picture(&[(Role::Room, 4, Ready), (role, 6, Ready)]));
            assert_eq!(looks(&mut at).await, 3, "{role}");
        }
        drop(pictures);
        assert_eq!(looks(&mut at).await, 0);
    }
}
