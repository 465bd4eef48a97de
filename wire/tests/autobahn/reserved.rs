//! Sections 3 and 4: reserved bits, and kinds of frames that nobody has defined.

use crate::case::{BINARY, CLOSE, Case, Frame, PING, TEXT, frame, play};

/// After something that is right comes what is not, and after that a Ping that nobody answers.
fn after_a_message(id: String, wrong: Frame) -> Case {
    let hello = frame(TEXT, "Hello, world!");
    Case::new(id, [hello.clone(), wrong, frame(PING, "")]).hears([hello]).ends(1002)
}

#[test]
fn section_3_reserved_bits() {
    let hello = "Hello, world!";
    play([
        Case::new("3.1", [frame(TEXT | 0x10, hello)]).ends(1002),
        after_a_message("3.2".into(), frame(TEXT | 0x20, hello)),
        after_a_message("3.3".into(), frame(TEXT | 0x30, hello)),
        after_a_message("3.4".into(), frame(TEXT | 0x40, hello)),
        Case::new("3.5", [frame(BINARY | 0x50, [0, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0, 0xff])]).ends(1002),
        Case::new("3.6", [frame(PING | 0x60, hello)]).ends(1002),
        Case::new("3.7", [frame(CLOSE | 0x70, "")]).ends(1002),
    ]);
}

#[test]
fn section_4_opcodes() {
    for (part, opcodes) in [(1, 3..=7), (2, 11..=15)] {
        play((1..).zip(opcodes).map(|(number, opcode)| {
            let id = format!("4.{part}.{number}");
            match number {
                1 => Case::new(id, [frame(0x80 | opcode, "")]).ends(1002),
                2 => Case::new(id, [frame(0x80 | opcode, "reserved opcode payload")]).ends(1002),
                3 => after_a_message(id, frame(0x80 | opcode, "")),
                _ => after_a_message(id, frame(0x80 | opcode, "reserved opcode payload")),
            }
        }));
    }
}
