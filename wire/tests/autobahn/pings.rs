//! Section 2: Pings and Pongs.

use crate::case::{Case, PING, PONG, frame, play};

#[test]
fn section_2_pings_and_pongs() {
    let pinged =
        |id: &str, payload: &[u8]| Case::new(id, [frame(PING, payload)]).hears([frame(PONG, payload)]);
    let ten = |first: u8| (0..10).map(|n| frame(first, format!("payload-{n}"))).collect::<Vec<_>>();
    play([
        pinged("2.1", b""),
        pinged("2.2", b"Hello, world!"),
        pinged("2.3", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"),
        pinged("2.4", &[0xfe; 125]),
        Case::new("2.5", [frame(PING, [0xfe; 126])]).ends(1002),
        pinged("2.6", &[0xfe; 125]),
        Case::new("2.7", [frame(PONG, "")]),
        Case::new("2.8", [frame(PONG, "unsolicited pong payload")]),
        Case::new("2.9", [frame(PONG, "unsolicited pong payload"), frame(PING, "ping payload")])
            .hears([frame(PONG, "ping payload")]),
        Case::new("2.10 and 2.11", ten(PING)).hears(ten(PONG)),
    ]);
}
