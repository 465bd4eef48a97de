//! Section 7: the end.

use crate::case::{CLOSE, Case, LAST, MORE, PING, TEXT, close, frame, play};

#[test]
fn section_7_closing() {
    let hello = || frame(TEXT, "Hello World!");
    let large = || frame(TEXT, vec![b'A'; 256 * 1024]);
    let normal = || close(1000, "");
    play([
        Case::new("7.1.1", [hello(), normal()]).hears([hello()]).ends(1000),
        Case::new("7.1.2", [normal(), normal()]).ends(1000),
        Case::new("7.1.3", [normal(), frame(PING, "")]).ends(1000),
        Case::new("7.1.4", [normal(), hello()]).ends(1000),
        Case::new("7.1.5", [frame(TEXT & MORE, "fragment1"), normal(), frame(LAST, "fragment2")]).ends(1000),
        Case::new("7.1.6", [large(), hello(), normal(), frame(PING, "")])
            .hears([large(), hello()])
            .ends(1000),
        Case::new("7.3.1", [frame(CLOSE, "")]).ends_without_code(),
        Case::new("7.3.2", [frame(CLOSE, "a")]).ends(1002),
        Case::new("7.3.3", [normal()]).ends(1000),
        Case::new("7.3.4", [close(1000, "Hello World!")]).ends(1000),
        Case::new("7.3.5", [close(1000, [b'*'; 123])]).ends(1000),
        Case::new("7.3.6", [close(1000, [b'*'; 124])]).ends(1002),
        Case::new("7.5.1", [close(1000, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited")])
            .ends(1007),
    ]);
}

#[test]
fn section_7_close_codes() {
    let valid = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999];
    play((1..).zip(valid).map(|(n, code)| Case::new(format!("7.7.{n}"), [close(code, "")]).ends(code)));
    let invalid = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999];
    play((1..).zip(invalid).map(|(n, code)| Case::new(format!("7.9.{n}"), [close(code, "")]).ends(1002)));
    let beyond = [5000, 65_535];
    play((1..).zip(beyond).map(|(n, code)| Case::new(format!("7.13.{n}"), [close(code, "")]).ends(1002)));
}
