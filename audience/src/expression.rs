//! The parsed form.

use std::{
    fmt::{self, Display as _},
    str::FromStr,
};

use crate::{error::ParseError, parser};

/// One node of a parsed expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// Holds for a set that has the tag.
    Tag(Box<str>),
    /// Holds where the inner does not.
    Not(Box<Expression>),
    /// Holds where all hold; two or more.
    And(Vec<Expression>),
    /// Holds where any holds; two or more.
    Or(Vec<Expression>),
}

/// Everyone, or those for whom an expression holds. Exists only within the bounds of this crate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audience {
    pub(crate) root: Option<Expression>,
}

impl Audience {
    /// All bindings of the app; what the empty text means.
    pub fn everyone() -> Self {
        Self::default()
    }

    /// Whether nobody is left out.
    pub fn is_everyone(&self) -> bool {
        self.root.is_none()
    }

    /// The expression; `None` for everyone.
    pub fn expression(&self) -> Option<&Expression> {
        self.root.as_ref()
    }

    /// How many tags it names; judging it over bitmaps costs about one operation for each.
    pub fn terms(&self) -> usize {
        self.root.as_ref().map_or(0, Expression::terms)
    }

    /// Judges one tag set, given as a membership test.
    pub fn matches(&self, has: impl Fn(&str) -> bool) -> bool {
        self.root.as_ref().is_none_or(|root| root.matches(&has))
    }
}

impl FromStr for Audience {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        parser::parse(text).map(|root| Self { root })
    }
}

impl Expression {
    fn terms(&self) -> usize {
        match self {
            Self::Tag(_) => 1,
            Self::Not(inner) => inner.terms(),
            Self::And(parts) | Self::Or(parts) => parts.iter().map(Self::terms).sum(),
        }
    }

    fn matches(&self, has: &impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Tag(tag) => has(tag),
            Self::Not(inner) => !inner.matches(has),
            Self::And(parts) => parts.iter().all(|part| part.matches(has)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(has)),
        }
    }
}

/// Writes a text that parses to the same audience.
impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.as_ref().map_or(Ok(()), |root| root.fmt(f))
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => write!(f, "\"{}\"", tag.replace('\\', "\\\\").replace('"', "\\\"")),
            Self::Not(inner) => {
                f.write_str("not ")?;
                grouped(inner, matches!(**inner, Self::And(_) | Self::Or(_)), f)
            }
            Self::And(parts) => joined(parts, " and ", |part| matches!(part, Self::And(_) | Self::Or(_)), f),
            // `and` binds closer, so it needs no parentheses here: the text never nests deeper than what was read.
            Self::Or(parts) => joined(parts, " or ", |part| matches!(part, Self::Or(_)), f),
        }
    }
}

fn joined(
    parts: &[Expression],
    by: &str,
    group: impl Fn(&Expression) -> bool,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(by)?;
        }
        grouped(part, group(part), f)?;
    }
    Ok(())
}

fn grouped(part: &Expression, group: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if group { write!(f, "({part})") } else { part.fmt(f) }
}
