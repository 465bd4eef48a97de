//! What can be wrong with an expression, and where.

/// An expression that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at byte {position}")]
pub struct ParseError {
    /// Byte offset into the text, at most its length.
    pub position: usize,
    /// What was found there.
    pub problem: Problem,
}

impl ParseError {
    pub(crate) fn new(position: usize, problem: Problem) -> Self {
        Self { position, problem }
    }
}

/// Why an expression was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The text is longer than [`crate::MAX_LENGTH`].
    #[error("an audience has at most {} bytes; the text goes on", crate::MAX_LENGTH)]
    TooLong,
    /// Nested deeper than [`crate::MAX_DEPTH`].
    #[error("an audience nests at most {} deep; this would be deeper", crate::MAX_DEPTH)]
    TooDeep,
    /// More than [`crate::MAX_TAGS`] tags.
    #[error("an audience has at most {} tags; this would be one more", crate::MAX_TAGS)]
    TooManyTags,
    /// A tag is longer than [`crate::MAX_TAG_LENGTH`].
    #[error("a tag has at most {} bytes; this one is longer", crate::MAX_TAG_LENGTH)]
    TagTooLong,
    /// `""`.
    #[error("a tag has at least one byte; found an empty one")]
    EmptyTag,
    /// A quote that is never closed.
    #[error("the quote is not closed; it opens")]
    UnclosedQuote,
    /// A backslash before something other than a quote or a backslash.
    #[error("only \\\" and \\\\ may follow a backslash; found another character")]
    BadEscape,
    /// A parenthesis that is never closed.
    #[error("the parenthesis is not closed; it opens")]
    UnclosedParenthesis,
    /// Where a tag, `not` or `(` belongs, the text ends.
    #[error("expected a tag, `not` or `(`; the text ends")]
    UnexpectedEnd,
    /// Where a tag, `not` or `(` belongs, something else stands.
    #[error("expected a tag, `not` or `(`; found `{0}`")]
    ExpectedTag(String),
    /// Where `and`, `or`, `)` or the end belongs, something else stands.
    #[error("expected `and`, `or` or the end; found `{0}`")]
    ExpectedOperator(String),
}
