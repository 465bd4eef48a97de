//! Section 6: text.

use crate::case::{Case, LAST, MORE, NEXT, TEXT, frame, play};

/// "κόσμε", which begins most of the suite's examples.
const COSMOS: &[u8] = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5";

#[test]
fn section_6_fragments_of_text() {
    let sentence = "Hello-\u{b5}@\u{df}\u{f6}\u{e4}\u{fc}\u{e0}\u{e1}-UTF-8!!".as_bytes();
    let octets = |text: &[u8]| super::fragments::cut(TEXT, text, 1);
    let empty = || [frame(TEXT & MORE, ""), frame(NEXT, ""), frame(LAST, "")];
    let invalid = [COSMOS, b"\xed\xa0\x80edited"].concat();
    play([
        Case::new("6.1.1", [frame(TEXT, "")]).echoes(),
        Case::new("6.1.2", empty()).hears([frame(TEXT, "")]),
        Case::new("6.1.3", [empty()[0].clone(), frame(NEXT, "middle frame payload"), empty()[2].clone()])
            .hears([frame(TEXT, "middle frame payload")]),
        Case::new("6.2.1", [frame(TEXT, sentence)]).echoes(),
        Case::new("6.2.2", [frame(TEXT & MORE, &sentence[..12]), frame(LAST, &sentence[12..])])
            .hears([frame(TEXT, sentence)]),
        Case::new("6.2.3", octets(sentence)).hears([frame(TEXT, sentence)]),
        Case::new("6.2.4", octets(COSMOS)).hears([frame(TEXT, COSMOS)]),
        Case::new("6.3.1", [frame(TEXT, &invalid)]).ends(1007),
        Case::new("6.3.2", octets(&invalid)).ends(1007),
    ]);
}

/// Refused at the byte that shows it, before the frame or the message is whole: the rest is never sent.
#[test]
fn section_6_fail_fast() {
    let begun = frame(TEXT & MORE, COSMOS);
    play([
        Case::new("6.4.1", [begun.clone(), frame(NEXT, b"\xf4\x90\x80\x80")]).ends(1007),
        Case::new("6.4.2", [begun, frame(NEXT, b"\xf4"), frame(NEXT, b"\x90")]).ends(1007),
        Case::new("6.4.3", [frame(TEXT, [COSMOS, b"\xf4\x90\x80\x80edited"].concat())])
            .withholds(8)
            .ends(1007),
        Case::new("6.4.4", [frame(TEXT, [COSMOS, b"\xf4\x90\x80\x80edited"].concat())])
            .withholds(8)
            .ends(1007),
    ]);
}

/// The cases of Markus Kuhn's "UTF-8 decoder capability and stress test", as the suite numbers them.
#[test]
fn section_6_valid_and_invalid() {
    let prefix = |len: usize| COSMOS[..len].to_vec();
    let prefixes = (1..=COSMOS.len()).map(prefix).collect();
    let at = |texts: &[&[u8]]| texts.iter().map(|text| text.to_vec()).collect::<Vec<_>>();
    let continuations = |lengths: &[usize]| {
        let text = |len: &usize| [0x80, 0xbf].repeat(3)[..*len].to_vec();
        lengths.iter().map(text).collect::<Vec<_>>()
    };
    let lonely =
        |range: std::ops::RangeInclusive<u8>| range.flat_map(|byte| [byte, b' ']).collect::<Vec<_>>();
    let surrogate = |text: &[u8]| text.to_vec();
    let nonchars = (0..=16_u32).flat_map(|plane| [0xfffe, 0xffff].map(|low| plane << 16 | low));
    let valid: Vec<(u8, Vec<Vec<u8>>)> = vec![
        (
            5,
            at(&[
                b"hello$world",
                b"hello\xc2\xa2world",
                b"hello\xe2\x82\xacworld",
                b"hello\xf0\xa4\xad\xa2world",
                COSMOS,
            ]),
        ),
        (7, at(&[b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"])),
        (9, at(&[b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"])),
        (22, nonchars.map(|number| char::from_u32(number).unwrap().to_string().into_bytes()).collect()),
        (
            23,
            (0xfff9..=0xffff)
                .map(|number| char::from_u32(number).unwrap().to_string().into_bytes())
                .collect(),
        ),
    ];
    let invalid: Vec<(u8, Vec<Vec<u8>>)> = vec![
        (8, at(&[b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"])),
        (10, at(&[b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"])),
        (
            12,
            [at(&[b"\x80", b"\xbf"]), continuations(&[2, 3, 4, 5, 6]), vec![(0x80..=0xbf).collect()]]
                .concat(),
        ),
        (
            13,
            vec![
                lonely(0xc0..=0xdf),
                lonely(0xe0..=0xef),
                lonely(0xf0..=0xf7),
                lonely(0xf8..=0xfb),
                lonely(0xfc..=0xfd),
            ],
        ),
        (
            14,
            at(&[
                b"\xc0",
                b"\xe0\x80",
                b"\xf0\x80\x80",
                b"\xf8\x80\x80\x80",
                b"\xfc\x80\x80\x80\x80",
                b"\xdf",
                b"\xef\xbf",
                b"\xf7\xbf\xbf",
                b"\xfb\xbf\xbf\xbf",
                b"\xfd\xbf\xbf\xbf\xbf",
            ]),
        ),
        (16, at(&[b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"])),
        (
            17,
            at(&[
                b"\xc0\xaf",
                b"\xe0\x80\xaf",
                b"\xf0\x80\x80\xaf",
                b"\xf8\x80\x80\x80\xaf",
                b"\xfc\x80\x80\x80\x80\xaf",
            ]),
        ),
        (
            18,
            at(&[
                b"\xc1\xbf",
                b"\xe0\x9f\xbf",
                b"\xf0\x8f\xbf\xbf",
                b"\xf8\x87\xbf\xbf\xbf",
                b"\xfc\x83\xbf\xbf\xbf\xbf",
            ]),
        ),
        (
            19,
            at(&[
                b"\xc0\x80",
                b"\xe0\x80\x80",
                b"\xf0\x80\x80\x80",
                b"\xf8\x80\x80\x80\x80",
                b"\xfc\x80\x80\x80\x80\x80",
            ]),
        ),
        (
            20,
            [
                b"\xed\xa0\x80",
                b"\xed\xad\xbf",
                b"\xed\xae\x80",
                b"\xed\xaf\xbf",
                b"\xed\xb0\x80",
                b"\xed\xbe\x80",
                b"\xed\xbf\xbf",
            ]
            .map(|text| surrogate(text))
            .to_vec(),
        ),
        (
            21,
            [b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf"]
                .iter()
                .flat_map(|high| [b"\xed\xb0\x80", b"\xed\xbf\xbf"].map(|low| [&high[..], low].concat()))
                .collect(),
        ),
    ];
    let mixed: Vec<(u8, Vec<Vec<u8>>)> = vec![
        (6, prefixes),
        (
            11,
            at(&[
                b"\xed\x9f\xbf",
                b"\xee\x80\x80",
                b"\xef\xbf\xbd",
                b"\xf4\x8f\xbf\xbf",
                b"\xf4\x90\x80\x80",
            ]),
        ),
    ];
    // All of 6.14 behind one another.
    let joined = vec![(15, vec![invalid[4].1.concat()])];
    for (is_valid, parts) in
        [(Some(true), valid), (Some(false), invalid), (None, mixed), (Some(false), joined)]
    {
        for (part, texts) in parts {
            for (number, text) in (1..).zip(texts) {
                let id = format!("6.{part}.{number}");
                let is_text = std::str::from_utf8(&text).is_ok();
                assert!(
                    is_valid.is_none_or(|expected| expected == is_text),
                    "{id} is not what the suite has"
                );
                let case = Case::new(id, [frame(TEXT, text)]);
                if is_text { case.echoes().play() } else { case.ends(1007).play() }
            }
        }
    }
}
