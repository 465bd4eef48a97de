//! What the high bits of fences are made of, where discovery counts revisions.
//!
//! Whoever comes to own a user has to draw greater fences than the owner before, without asking it. Each registration has a
//! number, the revision of discovery at which it was made; and each end of one takes a revision too. So the greatest number of
//! all nodes, and one more for each register that has gone since, grows with every change of owners, is the same for all who
//! have seen the same, and stays below the number of whoever joins next.

use std::collections::HashSet;

use cluster::{Picture, Role};

/// The horizon, as one register has come to see it.
#[derive(Debug, Default)]
pub(crate) struct Horizon {
    greatest: u64,
    gone: u64,
    registers: HashSet<(u32, u64)>,
}

impl Horizon {
    /// Takes a picture; None where discovery counts no revisions.
    pub(crate) fn follow(&mut self, picture: &Picture) -> Option<u64> {
        let greatest = picture.nodes().iter().map(|node| node.joined).max().filter(|number| *number > 0)?;
        let registers = picture.of(Role::Register).map(|node| (node.id.0, node.joined)).collect();
        let gone = self.registers.difference(&registers).count() as u64;
        if greatest > self.greatest {
            (self.greatest, self.gone) = (greatest, gone);
        } else {
            self.gone += gone;
        }
        self.registers = registers;
        Some(self.greatest + self.gone)
    }
}

#[cfg(test)]
mod tests {
    use cluster::{NodeId, NodeInfo};

    use super::*;

    fn picture(registers: &[(u32, u64)]) -> Picture {
        let node = |(id, joined): &(u32, u64)| NodeInfo {
            joined: *joined,
            ..NodeInfo::new(Role::Register, NodeId(*id))
        };
        Picture::new(1, registers.iter().map(node).collect())
    }

    #[test]
    fn grows_with_every_change_of_owners() {
        let mut horizon = Horizon::default();
        let steps: [(&[(u32, u64)], u64); 5] = [
            (&[(1, 10), (2, 20), (3, 30)], 30),
            (&[(1, 10), (3, 30)], 31),
            (&[(3, 30)], 32),
            (&[(3, 30)], 32),
            // Two ends and two registrations were revisions too.
            (&[(1, 36), (3, 30)], 36),
        ];
        for (registers, expected) in steps {
            assert_eq!(horizon.follow(&picture(registers)), Some(expected));
        }
        assert_eq!(Horizon::default().follow(&picture(&[(1, 0)])), None);
    }
}
