#![allow(clippy::unwrap_used)] // A test may fail by panic.
//! What parses, what is refused and where, and that both ways of judging agree.

use std::collections::{BTreeMap, BTreeSet};

use audience::{Audience, MAX_DEPTH, MAX_LENGTH, MAX_TAGS, Problem};
use proptest::prelude::*;
use roaring::RoaringBitmap;

fn holds(text: &str, tags: &[&str]) -> bool {
    text.parse::<Audience>().unwrap().matches(|tag| tags.contains(&tag))
}

fn refused(text: &str) -> (usize, Problem) {
    let error = text.parse::<Audience>().unwrap_err();
    (error.position, error.problem)
}

#[test]
fn empty_text_is_everyone() {
    for text in ["", "   ", "\n\t"] {
        assert!(text.parse::<Audience>().unwrap().is_everyone());
    }
    assert!(holds("", &[]));
}

#[test]
fn and_binds_closer_than_or_and_not_closest() {
    assert!(holds("a or b and c", &["a"]));
    assert!(!holds("(a or b) and c", &["a"]));
    assert!(holds("not a and b", &["b"]));
    assert!(holds("not (a and b)", &["a"]));
    assert!(holds("not not a", &["a"]));
    assert!(holds("a AND Not b", &["a"]));
}

#[test]
fn tags_may_be_bare_or_quoted() {
    assert!(holds("lang:de-DE", &["lang:de-DE"]));
    assert!(holds(r#""and" and "with space""#, &["and", "with space"]));
    assert!(holds(r#""a\"b\\c""#, &["a\"b\\c"]));
    assert!(holds("日本 or x", &["日本"]));
    assert!(holds("android", &["android"]), "a word that begins with an operator is a tag");
}

#[test]
fn errors_say_where() {
    assert_eq!(refused("a and"), (5, Problem::UnexpectedEnd));
    assert_eq!(refused("a b"), (2, Problem::ExpectedOperator("b".into())));
    assert_eq!(refused("and a"), (0, Problem::ExpectedTag("and".into())));
    assert_eq!(refused("a or )"), (5, Problem::ExpectedTag(")".into())));
    assert_eq!(refused("a and (b or c"), (6, Problem::UnclosedParenthesis));
    assert_eq!(refused("a)"), (1, Problem::ExpectedOperator(")".into())));
    assert_eq!(refused("a or \"b"), (5, Problem::UnclosedQuote));
    assert_eq!(refused("\"\""), (0, Problem::EmptyTag));
    assert_eq!(refused(r#""a\n""#), (3, Problem::BadEscape));
    assert_eq!(refused(&format!("a or {}", "x".repeat(65))), (5, Problem::TagTooLong));
    let shown = "a and".parse::<Audience>().unwrap_err().to_string();
    assert_eq!(shown, "expected a tag, `not` or `(`; the text ends at byte 5");
}

#[test]
fn bounds_hold() {
    assert_eq!(refused(&" ".repeat(MAX_LENGTH + 1)).1, Problem::TooLong);
    assert_eq!(refused(&"(".repeat(MAX_LENGTH)), (MAX_DEPTH, Problem::TooDeep));
    assert_eq!(refused(&"not ".repeat(MAX_DEPTH + 1)), (MAX_DEPTH * 4, Problem::TooDeep));
    let deep = format!("{}a{}", "(".repeat(MAX_DEPTH), ")".repeat(MAX_DEPTH));
    assert!(deep.parse::<Audience>().is_ok());
    let many = vec!["a"; MAX_TAGS + 1].join(" or ");
    assert_eq!(refused(&many).1, Problem::TooManyTags);
}

fn expression() -> impl Strategy<Value = String> {
    let leaf = "[a-f]|\"[a-f]\"".prop_map(|tag| tag);
    leaf.prop_recursive(5, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|e| format!("not {e}")),
            inner.clone().prop_map(|e| format!("({e})")),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| parts.join(" and ")),
            prop::collection::vec(inner, 2..4).prop_map(|parts| parts.join(" or ")),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_parses_or_is_refused_inside_it(text in ".{0,200}") {
        if let Err(error) = text.parse::<Audience>() {
            prop_assert!(error.position <= text.len());
        }
    }

    #[test]
    fn display_parses_to_the_same(text in expression()) {
        if let Ok(audience) = text.parse::<Audience>() {
            prop_assert_eq!(audience.to_string().parse::<Audience>().unwrap(), audience);
        }
    }

    #[test]
    fn bitmaps_agree_with_tag_sets(
        text in expression(),
        members in prop::collection::btree_map(0u32..200, prop::collection::btree_set("[a-f]", 0..6), 0..40),
    ) {
        let Ok(audience) = text.parse::<Audience>() else { return Ok(()) };
        let all: RoaringBitmap = members.keys().copied().collect();
        let mut tags: BTreeMap<&str, RoaringBitmap> = BTreeMap::new();
        for (member, set) in &members {
            for tag in set {
                tags.entry(tag).or_default().insert(*member);
            }
        }
        let selected: BTreeSet<u32> = audience.select(&all, |tag| tags.get(tag)).iter().collect();
        let judged: BTreeSet<u32> = members
            .iter()
            .filter(|(_, set)| audience.matches(|tag| set.contains(tag)))
            .map(|(member, _)| *member)
            .collect();
        prop_assert_eq!(selected, judged);
    }
}
