use audience::Audience;
use wire::id::{AppId, MessageId};

use super::*;

fn run(after: u64, through: u64) -> LogRun {
    let entries = (after + 1..=through)
        .map(|bseq| {
            let frame = Bytes::from(vec![0; 10]);
            Arc::new(LogEntry::whole(bseq, MessageId(bseq), frame, Audience::everyone(), 0))
        })
        .collect();
    LogRun { app: AppId(1), epoch: 1, after, through, entries }
}

fn with_frames(tail: &Tail) -> Vec<u64> {
    tail.entries.iter().filter(|kept| kept.entry.is_some()).map(|kept| kept.bseq).collect()
}

#[test]
fn overlaps_are_known_and_holes_are_seen() {
    let mut tail = Tail::new(5);
    assert_eq!(tail.extend(&run(3, 5), 5, 1000, 0), Extended::Known);
    assert_eq!(tail.extend(&run(3, 7), 5, 1000, 0), Extended::By(2));
    assert_eq!(tail.extend(&run(8, 9), 5, 1000, 0), Extended::Hole);
    assert_eq!(tail.known, 7);
    assert_eq!(tail.after(6).map(|kept| kept.bseq).collect::<Vec<_>>(), [7]);
}

#[test]
fn what_is_not_served_stays_and_bounds_what_comes() {
    let mut tail = Tail::new(0);
    assert_eq!(tail.extend(&run(0, 4), 0, 30, 0), Extended::By(4));
    assert_eq!((with_frames(&tail).len(), tail.oldest), (4, 0));
    assert_eq!(tail.extend(&run(4, 5), 0, 30, 0), Extended::Hole);
    tail.trim(4, 30);
    assert_eq!((with_frames(&tail), tail.oldest, tail.entries.len()), (vec![2, 3, 4], 1, 4));
    assert_eq!(tail.extend(&run(4, 5), 4, 30, 0), Extended::By(1));
}

/// Of what is in front of the tail only is known for whom it was; pages that are older put it there too.
#[test]
fn old_entries_are_known_without_frames_and_bounded() {
    let mut tail = Tail::new(40_000);
    tail.note(&run(30_000, 30_010), 0, 0);
    tail.note(&run(30_005, 30_020), 0, 0);
    assert_eq!(tail.entries.len(), 20);
    assert!(tail.entries.iter().map(|kept| kept.bseq).is_sorted());
    tail.note(&run(10_000, 30_000), 0, 0);
    tail.entries[3].open = 2;
    let lost: u64 = std::iter::from_fn(|| tail.pop_old()).map(|kept| kept.uncounted()).sum();
    assert_eq!(lost, 2);
    assert_eq!((tail.entries.len(), tail.entries[0].bseq), (MAX_ENTRIES, 10_021));
}

/// A job of many slices costs its payload once.
#[test]
fn slices_share_their_payload_and_make_frames_when_they_are_sent() {
    let payload = Bytes::from(vec![7; 100_000]);
    let slice = |bseq: u64| {
        let body = crate::exchange::Body::Parts { app: AppId(1), payload: payload.clone(), accepted_ms: 1 };
        let slice = Slice::new(bseq << 20, (bseq + 1) << 20).unwrap();
        Arc::new(LogEntry { body, slice, ..(*run(bseq - 1, bseq).entries[0]).clone() })
    };
    let mut tail = Tail::new(0);
    let all = LogRun { entries: (1..=100).map(slice).collect(), through: 100, ..run(0, 0) };
    tail.extend(&all, 0, 4 << 20, 0);
    assert!(tail.bytes < 200_000, "{}", tail.bytes);
    for place in 0..100 {
        assert!(tail.frame(place).unwrap().len() > 100_000);
        assert!(tail.hot_bytes <= HOT_BYTES && tail.hot.len() <= 10);
    }
    tail.trim(100, 0);
    assert_eq!((tail.bytes, tail.hot_bytes, tail.entries.len()), (0, 0, 100));
}
