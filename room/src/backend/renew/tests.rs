use cluster::{Incarnation, NodeState};
use wire::id::{AppId, ConnId, FenceNumber, Uid};

use super::*;
use crate::exchange::BindingKey;

use NodeState::{Down, Ready};

fn picture(registers: &[(u32, u64, NodeState)]) -> Arc<Picture> {
    let node = |(id, life, state): &(u32, u64, NodeState)| NodeInfo {
        incarnation: Incarnation(*life),
        state: *state,
        ..NodeInfo::new(Role::Register, NodeId(*id))
    };
    Arc::new(Picture::new(1, registers.iter().map(node).collect()))
}

/// Of 1,000 users, how many are told to each register when one picture follows another.
fn told(before: &Arc<Picture>, now: &Arc<Picture>, mine: (u64, u64)) -> HashMap<NodeId, usize> {
    let told = |node: &NodeInfo| {
        let told = Told { life: node.life(), mine: mine.0, round: 1, picture: Arc::clone(before) };
        (node.id, told)
    };
    let registers = Registers { told: serving(before).map(told).collect(), again: HashSet::new() };
    let plan = registers.plan(now, mine.1);
    let mut counts = HashMap::new();
    for n in 0..1_000 {
        let session = HeldSession {
            binding: BindingKey { slot: n, generation: 1 },
            app: AppId(1),
            uid: Uid::new(format!("u{n}")).unwrap(),
            conn: ConnId(1),
            fence: FenceNumber(1),
        };
        if let Some(owner) = plan.wants(&session) {
            *counts.entry(owner).or_default() += 1;
        }
    }
    counts
}

fn moved(before: &Arc<Picture>, now: &Arc<Picture>) -> usize {
    told(before, now, (1, 1)).values().sum()
}

#[test]
fn a_register_is_told_once_in_each_life() {
    let two = picture(&[(1, 5, Ready), (2, 7, Ready)]);
    assert_eq!(moved(&two, &two), 0);
    assert_eq!(moved(&two, &picture(&[(1, 5, Ready), (2, 7, Down)])), 0, "nobody to tell");
    let again = told(&two, &picture(&[(1, 5, Ready), (2, 8, Ready)]), (1, 1));
    assert!((400..600).contains(&again[&NodeId(2)]), "its users: {again:?}");
    assert_eq!(again.len(), 1, "and no others");
}

#[test]
fn users_that_change_hands_are_told_to_the_new_owner() {
    let two = picture(&[(1, 5, Ready), (2, 7, Ready)]);
    let three = picture(&[(1, 5, Ready), (2, 7, Ready), (3, 1, Ready)]);
    let to_third = told(&two, &three, (1, 1));
    assert!((250..420).contains(&to_third[&NodeId(3)]), "a third of them: {to_third:?}");
    assert_eq!(to_third.len(), 1);
    assert_eq!(moved(&three, &two), to_third[&NodeId(3)]);
}

#[test]
fn a_room_in_a_new_life_tells_all_it_has() {
    let two = picture(&[(1, 5, Ready), (2, 7, Ready)]);
    assert_eq!(told(&two, &two, (1, 9)).values().sum::<usize>(), 1_000);
}
