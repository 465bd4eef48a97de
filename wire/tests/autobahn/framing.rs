//! Section 1: whole messages of every form of length.

use crate::case::{BINARY, Case, TEXT, frame, play};

#[test]
fn section_1_framing() {
    for (part, first, byte) in [(1, TEXT, b'*'), (2, BINARY, 0xfe)] {
        let lengths = [0, 125, 126, 127, 128, 65_535, 65_536];
        play((1..).zip(lengths).map(|(number, length)| {
            Case::new(format!("1.{part}.{number}"), [frame(first, vec![byte; length])]).echoes()
        }));
    }
}
