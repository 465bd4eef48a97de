use super::*;

/// A frame that names itself.
fn frame(n: u8, len: usize) -> Bytes {
    vec![n; len].into()
}

fn push(backlog: &mut Backlog, class: Class, mark: Mark, bytes: Bytes) {
    backlog.push(class, mark, [bytes]);
}

/// The frames in the order in which they leave, when the socket takes `step` bytes at a time.
fn drain(backlog: &mut Backlog, step: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while !backlog.is_empty() {
        let mut slices = [IoSlice::new(&[]); 3];
        let count = backlog.slices(&mut slices);
        let taken: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).take(step).collect();
        assert!(!taken.is_empty(), "what waits can be written");
        backlog.advance(taken.len(), 7);
        all.extend(taken);
    }
    assert_eq!((backlog.len(), backlog.moved_ms()), (0, 7));
    all.dedup();
    all
}

const OF_1: Mark = Mark::Stored(1, 0);
const OF_2: Mark = Mark::Stored(2, 0);

fn mixed() -> Backlog {
    let mut backlog = Backlog::new(0);
    push(&mut backlog, Class::Data, Mark::Broadcast, frame(10, 300));
    push(&mut backlog, Class::Unicast, OF_1, frame(20, 30));
    push(&mut backlog, Class::Data, Mark::Broadcast, frame(11, 3_000));
    push(&mut backlog, Class::Unicast, OF_2, frame(21, 3_000));
    push(&mut backlog, Class::Control, Mark::Answer, frame(22, 3));
    push(&mut backlog, Class::Urgent, OF_2, frame(30, 30));
    backlog
}

#[test]
fn who_may_goes_first() {
    for step in [1, 7, 1_000, 100_000] {
        assert_eq!(drain(&mut mixed(), step), [21, 30, 20, 22, 10, 11], "in steps of {step}");
        let mut sealed = mixed();
        let mut all = Vec::new();
        while !sealed.is_empty() {
            sealed.take(step, &mut all, 7);
        }
        all.dedup();
        assert_eq!(all, [21, 30, 20, 22, 10, 11], "in records of {step}");
    }
}

#[test]
fn what_has_been_begun_goes_on_before_all_else() {
    let mut backlog = Backlog::new(0);
    push(&mut backlog, Class::Data, Mark::Broadcast, frame(10, 300));
    push(&mut backlog, Class::Data, Mark::Broadcast, frame(11, 300));
    backlog.advance(1, 7);
    push(&mut backlog, Class::Unicast, OF_1, frame(20, 30));
    push(&mut backlog, Class::Urgent, OF_2, frame(30, 30));
    assert_eq!(drain(&mut backlog, 100), [10, 30, 20, 11]);
}

#[test]
fn nobody_passes_a_barrier() {
    let mut backlog = mixed();
    push(&mut backlog, Class::Barrier, Mark::Answer, frame(40, 5));
    push(&mut backlog, Class::Data, Mark::Broadcast, frame(12, 300));
    push(&mut backlog, Class::Unicast, OF_1, frame(23, 30));
    push(&mut backlog, Class::Urgent, OF_1, frame(31, 30));
    assert_eq!(drain(&mut backlog, 100), [21, 30, 20, 22, 10, 11, 40, 23, 31, 12]);
}

#[test]
fn an_older_message_with_the_same_key_is_found_and_its_follower() {
    let mut backlog = Backlog::new(0);
    let keyed = Mark::Stored(1, 77);
    push(&mut backlog, Class::Unicast, OF_2, frame(19, 30));
    push(&mut backlog, Class::Unicast, keyed, frame(20, 30));
    push(&mut backlog, Class::Unicast, OF_2, frame(21, 30));
    push(&mut backlog, Class::Unicast, Mark::Transient(1, 77), frame(22, 30));
    push(&mut backlog, Class::Unicast, OF_1, frame(23, 30));
    for other in [Mark::Stored(2, 77), Mark::Stored(1, 78), OF_1] {
        assert_eq!(backlog.replaced_by(other), None);
    }
    let transient = backlog.replaced_by(Mark::Transient(1, 77)).unwrap();
    assert_eq!(
        backlog.frame(transient),
        Some(&[22; 30][..]),
        "one with a number is not replaced by one without"
    );
    let place = backlog.replaced_by(keyed).unwrap();
    assert_eq!(backlog.frame(place), Some(&[20; 30][..]));
    let follower = backlog.follower(place).unwrap();
    assert_eq!(backlog.frame(follower), Some(&[23; 30][..]));
    assert_eq!(backlog.follower(follower), None);
    backlog.replace(follower, &[24; 40]);
    backlog.remove(place);
    assert_eq!(backlog.len(), 4 * 30 + 10);
    assert_eq!(drain(&mut backlog, 7), [19, 21, 22, 24]);
}

/// A device that pings and reads nothing.
#[test]
fn a_thousand_answers_cost_little_more_than_their_bytes() {
    let mut backlog = Backlog::new(0);
    (0..5_000).for_each(|_| push(&mut backlog, Class::Control, Mark::Answer, frame(1, 3)));
    assert!(backlog.lanes[UNICAST].frames.len() < 20);
}
