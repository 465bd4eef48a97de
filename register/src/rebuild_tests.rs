use cluster::{Incarnation, NodeId, NodeInfo};

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

fn picture(registers: &[(u32, u64)], rooms: &[(u32, NodeState)]) -> Picture {
    let node = |role, id, life, state| NodeInfo {
        incarnation: Incarnation(life),
        state,
        ..NodeInfo::new(role, NodeId(id))
    };
    let registers = registers.iter().map(|(id, life)| node(Role::Register, *id, *life, NodeState::Ready));
    let rooms = rooms.iter().map(|(id, state)| node(Role::Room, *id, 1, *state));
    Picture::new(1, registers.chain(rooms).collect())
}

fn settle(rebuild: &Rebuild, picture: &Picture, room: u32, round: u64) -> bool {
    rebuild.settled(&SettleRequest { room, incarnation: 1, members: membership(picture), round })
}

use NodeState::{Down, Ready};

#[test]
fn is_over_when_every_room_has_told_or_is_down() {
    let now = Instant::now();
    let rebuild = Rebuild::new(now, PATIENCE, PATIENCE);
    assert!(rebuild.is_on(now), "nothing is known before the first picture");
    let first = picture(&[(9, 1)], &[(1, Ready), (2, Ready), (3, Down)]);
    assert!(!rebuild.follow(&first, now));
    assert!(!settle(&rebuild, &first, 1, rebuild.round()));
    assert!(rebuild.is_on(now));
    rebuild.follow(&picture(&[(9, 1)], &[(1, Ready), (2, Down), (4, Ready)]), now);
    assert!(!rebuild.is_on(now), "a room that came later has nothing to tell");
}

#[test]
fn is_over_when_there_is_no_room_or_no_time() {
    let now = Instant::now();
    let none = Rebuild::new(now, PATIENCE, PATIENCE);
    none.follow(&picture(&[(9, 1)], &[]), now);
    assert!(!none.is_on(now));
    let silent = Rebuild::new(now, PATIENCE, PATIENCE);
    silent.follow(&picture(&[(9, 1)], &[(1, Ready)]), now);
    assert!(silent.is_on(now));
    assert!(!silent.is_on(now + PATIENCE));
}

#[test]
fn begins_when_a_register_is_gone_and_not_when_one_joins() {
    let now = Instant::now();
    let rebuild = Rebuild::new(now, PATIENCE, PATIENCE);
    let two = picture(&[(8, 1), (9, 1)], &[(1, Ready)]);
    rebuild.follow(&two, now);
    settle(&rebuild, &two, 1, rebuild.round());
    assert!(!rebuild.is_on(now));
    let three = picture(&[(7, 1), (8, 1), (9, 1)], &[(1, Ready)]);
    assert!(!rebuild.follow(&three, now));
    assert!(!rebuild.is_on(now), "it has only lost users");
    let later = now + 10 * PATIENCE;
    assert!(rebuild.follow(&picture(&[(8, 1), (9, 1)], &[(1, Ready)]), later));
    assert!(rebuild.is_on(later), "the patience counts from the change");
}

/// A settle from before the change, or from a room that has not seen it yet, was taken for the end of the new round.
#[test]
fn only_what_was_told_in_this_round_and_of_these_registers_counts() {
    let now = Instant::now();
    let rebuild = Rebuild::new(now, PATIENCE, PATIENCE);
    let two = picture(&[(8, 1), (9, 1)], &[(1, Ready)]);
    rebuild.follow(&two, now);
    let told = rebuild.round();
    assert!(!settle(&rebuild, &two, 1, told));
    let one = picture(&[(9, 1)], &[(1, Ready)]);
    assert!(rebuild.follow(&one, now));
    assert!(settle(&rebuild, &two, 1, told), "the room shares its users out among others");
    rebuild.next_round();
    assert!(settle(&rebuild, &one, 1, told), "what was told in the round before may be lost");
    assert!(rebuild.is_on(now));
    assert!(!settle(&rebuild, &one, 1, told + 1));
    assert!(!rebuild.is_on(now));
    rebuild.begin(&one, now);
    assert!(rebuild.is_on(now), "everything was forgotten");
    assert!(settle(&rebuild, &one, 1, told + 1));
}
