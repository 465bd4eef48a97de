//! Sections 5 and 10: messages in pieces, and control frames between them.

use crate::case::{Case, Frame, LAST, MORE, NEXT, PING, PONG, TEXT, frame, play};

#[test]
fn section_5_fragments() {
    let two = || [frame(TEXT & MORE, "fragment1"), frame(LAST, "fragment2")];
    let joined = || frame(TEXT, "fragment1fragment2");
    let (ping, pong) = (|| frame(PING, "ping payload"), || frame(PONG, "ping payload"));
    let hello = || frame(TEXT, "Hello, world!");
    let stray = |fin: u8| [frame(fin, "non-continuation payload"), hello()];
    let thrice = [frame(NEXT, "fragment1"), frame(TEXT & MORE, "fragment2"), frame(LAST, "fragment3")];
    let five = || {
        let piece = |first: u8, n: u8| frame(first, format!("fragment{n}"));
        [
            piece(TEXT & MORE, 1),
            piece(NEXT, 2),
            ping(),
            piece(NEXT, 3),
            piece(NEXT, 4),
            ping(),
            piece(LAST, 5),
        ]
    };
    let all_five = || [pong(), pong(), frame(TEXT, "fragment1fragment2fragment3fragment4fragment5")];
    play([
        Case::new("5.1", [frame(PING & MORE, "fragment1"), frame(LAST, "fragment2")]).ends(1002),
        Case::new("5.2", [frame(PONG & MORE, "fragment1"), frame(LAST, "fragment2")]).ends(1002),
        Case::new("5.3 to 5.5", two()).hears([joined()]),
        Case::new("5.6 to 5.8", [two()[0].clone(), ping(), two()[1].clone()]).hears([pong(), joined()]),
        Case::new("5.9 to 5.11", stray(LAST)).ends(1002),
        Case::new("5.12 to 5.14", stray(NEXT)).ends(1002),
        Case::new("5.15", [&two()[..], &stray(NEXT)].concat()).hears([joined()]).ends(1002),
        Case::new("5.16", [&thrice[..], &thrice[..]].concat()).ends(1002),
        Case::new(
            "5.17",
            [frame(LAST, "fragment1"), frame(TEXT & MORE, "fragment2"), frame(LAST, "fragment3")],
        )
        .ends(1002),
        Case::new("5.18", [frame(TEXT & MORE, "fragment1"), frame(TEXT, "fragment2")]).ends(1002),
        Case::new("5.19 and 5.20", five()).hears(all_five()),
    ]);
}

/// `message` in pieces of so many bytes.
pub(crate) fn cut(first: u8, message: &[u8], length: usize) -> Vec<Frame> {
    let mut frames: Vec<Frame> = message.chunks(length).map(|piece| frame(NEXT, piece)).collect();
    frames[0].0 = first & MORE;
    frames.last_mut().unwrap().0 |= LAST;
    frames
}

#[test]
fn section_10_automatic_fragments() {
    let message = vec![b'*'; 65_536];
    Case::new("10.1.1", cut(TEXT, &message, 1300)).hears([frame(TEXT, &message)]).play();
}
