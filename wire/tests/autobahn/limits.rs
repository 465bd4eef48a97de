//! Section 9: long messages, in few and in many pieces, and many short ones. The suite goes to 16 MiB; a room takes 64 KiB and
//! sends 1 MiB, so that is where this ends.

use crate::{
    case::{BINARY, Case, TEXT, frame, play},
    fragments::cut,
};

const KIB: usize = 1024;

#[test]
fn section_9_long_messages() {
    for (part, first) in [(1, TEXT), (2, BINARY)] {
        let lengths = [64 * KIB, 256 * KIB, KIB * KIB];
        play((1..).zip(lengths).map(|(number, length)| {
            Case::new(format!("9.{part}.{number}"), [frame(first, vec![b'*'; length])]).echoes()
        }));
    }
}

#[test]
fn section_9_many_fragments() {
    let message = vec![b'*'; 256 * KIB];
    for (part, first) in [(3, TEXT), (4, BINARY)] {
        let lengths = [64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB];
        play((1..).zip(lengths).map(|(number, length)| {
            Case::new(format!("9.{part}.{number}"), cut(first, &message, length))
                .hears([frame(first, &message)])
        }));
    }
}

#[test]
fn section_9_many_messages() {
    for (part, first) in [(7, TEXT), (8, BINARY)] {
        let lengths = [0, 16, 64, 256, KIB, 4 * KIB];
        play((1..).zip(lengths).map(|(number, length)| {
            Case::new(format!("9.{part}.{number}"), vec![frame(first, vec![b'*'; length]); 1000]).echoes()
        }));
    }
}
