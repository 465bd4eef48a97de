//! Who waits for whom: one lane for each register, and one for each saver.

use std::collections::VecDeque;

use cluster::NodeId;

/// Calls of one lane that are under way. What comes meanwhile shares the next: a call costs both ends as much as some hundred items,
/// and 256 items each millisecond are more than a thread takes in.
const IN_FLIGHT: usize = 1;

/// A place where calls go. While as many as may be are under way, what comes waits and shares the next.
struct Lane<T> {
    owner: Option<NodeId>,
    waiting: VecDeque<T>,
    in_flight: usize,
}

/// Lanes of one kind of call, by who owns what goes there. There are as many as there are nodes, and those in use are few.
pub(super) struct Lanes<T> {
    lanes: Vec<Lane<T>>,
    /// Items of one call.
    most: usize,
}

impl<T> Lanes<T> {
    pub(super) fn new(most: usize) -> Self {
        Self { lanes: Vec::new(), most: most.max(1) }
    }

    /// An item waits for its owner.
    pub(super) fn push(&mut self, owner: Option<NodeId>, item: T) {
        match self.lanes.iter_mut().find(|lane| lane.owner == owner) {
            Some(lane) => lane.waiting.push_back(item),
            None => self.lanes.push(Lane { owner, waiting: VecDeque::from([item]), in_flight: 0 }),
        }
    }

    /// The items of a call that is to be made now, and their owner, for [`Lanes::landed`].
    pub(super) fn due(&mut self) -> Option<(Option<NodeId>, Vec<T>)> {
        let due = |lane: &&mut Lane<T>| lane.in_flight < IN_FLIGHT && !lane.waiting.is_empty();
        let lane = self.lanes.iter_mut().find(due)?;
        lane.in_flight += 1;
        let count = lane.waiting.len().min(self.most);
        Some((lane.owner, lane.waiting.drain(..count).collect()))
    }

    /// A call of this owner has been answered.
    pub(super) fn landed(&mut self, owner: Option<NodeId>) {
        let Some(at) = self.lanes.iter().position(|lane| lane.owner == owner) else { return };
        let lane = &mut self.lanes[at];
        lane.in_flight -= 1;
        // Nodes come and go.
        if lane.in_flight == 0 && lane.waiting.is_empty() {
            self.lanes.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_while_calls_are_under_way_shares_the_next() {
        let (one, other) = (Some(NodeId(1)), Some(NodeId(2)));
        let mut lanes = Lanes::new(3);
        lanes.push(one, 1);
        assert_eq!(lanes.due(), Some((one, vec![1])));
        (2..7).for_each(|item| lanes.push(one, item));
        assert_eq!(lanes.due(), None, "one is under way");
        lanes.push(other, 10);
        assert_eq!(lanes.due(), Some((other, vec![10])), "nobody waits for another's answers");
        lanes.landed(one);
        assert_eq!(lanes.due(), Some((one, vec![2, 3, 4])));
        assert_eq!(lanes.due(), None);
        lanes.landed(one);
        assert_eq!(lanes.due(), Some((one, vec![5, 6])));
        lanes.landed(one);
        lanes.landed(other);
        assert!(lanes.lanes.is_empty(), "nothing is kept of nodes that nobody needs");
    }
}
