use proptest::prelude::*;

use super::*;

/// Reads bytes that come in such parts; the first line is left out.
fn read(bytes: &[u8], parts: &[usize]) -> Result<Vec<(u64, Uid)>> {
    let (mut lines, mut users) = (Lines::new(4_096), Vec::new());
    let mut rest = bytes;
    let mut parts = parts.iter().cycle();
    while !rest.is_empty() {
        let (part, more) = rest.split_at(rest.len().min(*parts.next().unwrap()));
        lines.feed(Bytes::copy_from_slice(part));
        while let Some(line) = lines.next()? {
            if line.number > 1 {
                users.push((line.number, line.user()?));
            }
        }
        rest = more;
    }
    if let Some(line) = lines.last() {
        users.push((line.number, line.user()?));
    }
    Ok(users)
}

fn uids(bytes: &str) -> Vec<String> {
    read(format!("{{}}\n{bytes}").as_bytes(), &[usize::MAX])
        .unwrap()
        .iter()
        .map(|(_, uid)| uid.to_string())
        .collect()
}

#[test]
fn users_are_strings_or_objects() {
    let bytes = "\"alice\"\n{\"uid\": \"bob\"}\r\n\n  \"c\\u0061rol\"  \n\"д\"\n{\"uid\":\"e\"}";
    assert_eq!(uids(bytes), ["alice", "bob", "carol", "д", "e"]);
    assert_eq!(uids(""), Vec::<String>::new());
    assert_eq!(uids("\n\n \n"), Vec::<String>::new());
}

#[test]
fn errors_name_the_line() {
    for bad in [
        "alice",
        "\"a\" \"b\"",
        "\"a",
        "\"\"",
        "7",
        "null",
        "[\"a\"]",
        "{\"uid\":\"a\",\"x\":1}",
        "{\"uid\":7}",
        "{}",
        "\"a\u{1}\"",
        "\"\\ud800\"",
    ] {
        let bytes = format!("{{}}\n\"fine\"\n\n{bad}\n\"fine\"\n");
        let error = read(bytes.as_bytes(), &[3]).unwrap_err();
        assert_eq!(error.field(), Some("line 4"), "{bad}: {error}");
        assert!(error.to_string().starts_with("line 4: "), "{error}");
    }
    let error = read(b"{}\n\"a\"\n\"\xff\"\n", &[usize::MAX]).unwrap_err();
    assert_eq!(error.field(), Some("line 3"), "not UTF-8");
    let long = format!("{{}}\n\"{}\"\n", "é".repeat(65));
    assert_eq!(read(long.as_bytes(), &[1]).unwrap_err().field(), Some("line 2"));
}

/// Somebody who never sends the end of a line would have had all of it kept.
#[test]
fn what_is_kept_of_a_line_is_bounded() {
    let mut lines = Lines::new(10);
    lines.feed(Bytes::from_static(b"0123456789"));
    assert!(lines.next().unwrap().is_none());
    lines.feed(Bytes::from_static(b"0"));
    assert_eq!(lines.next().err().unwrap().field(), Some("line 1"));

    let mut lines = Lines::new(10);
    lines.feed(Bytes::from(format!("{{}}\n{}", "x".repeat(USER_LINE))));
    assert_eq!(lines.next().unwrap().unwrap().bytes, "{}\n");
    assert!(lines.next().unwrap().is_none());
    lines.feed(Bytes::from_static(b"xx\n"));
    assert_eq!(lines.next().err().unwrap().field(), Some("line 2"));
}

proptest! {
    /// However the bytes are cut, the users are the same, and they are those that serde reads.
    #[test]
    fn any_split_gives_the_same_users(
        names in prop::collection::vec("[^\\x00]{1,20}", 0..20),
        ends in prop::collection::vec(prop::sample::select(vec!["\n", "\r\n", "\n\n", " \n"]), 20),
        objects in prop::collection::vec(any::<bool>(), 20),
        parts in prop::collection::vec(1usize..40, 1..10),
    ) {
        let mut bytes = "{\"payload\":\"x\"}\n".to_owned();
        for ((name, end), object) in names.iter().zip(ends).zip(objects) {
            let json = serde_json::to_string(name).unwrap();
            bytes += &if object { format!("{{\"uid\":{json}}}") } else { json };
            bytes += end;
        }
        let whole = read(bytes.as_bytes(), &[usize::MAX]).unwrap();
        let read = read(bytes.as_bytes(), &parts).unwrap();
        prop_assert_eq!(&whole, &read);
        prop_assert_eq!(read.iter().map(|(_, uid)| uid.as_str()).collect::<Vec<_>>(), names);
    }

    /// Whatever the bytes are: the same error or the same users, however they are cut.
    #[test]
    fn any_bytes_may_come(bytes: Vec<u8>, parts in prop::collection::vec(1usize..9, 1..5)) {
        let text = |read: Result<Vec<(u64, Uid)>>| read.map_err(|error| error.to_string());
        prop_assert_eq!(text(read(&bytes, &[usize::MAX])), text(read(&bytes, &parts)));
    }
}
