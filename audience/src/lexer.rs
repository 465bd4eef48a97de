//! Text to tokens.

use crate::{
    MAX_TAG_LENGTH,
    error::{ParseError, Problem},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    And,
    Or,
    Not,
    Open,
    Close,
    Tag(Box<str>),
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::And => "and",
            Self::Or => "or",
            Self::Not => "not",
            Self::Open => "(",
            Self::Close => ")",
            Self::Tag(tag) => tag,
        })
    }
}

/// Yields each token with the byte offset at which it begins.
pub(crate) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(crate) fn next_token(&mut self) -> Result<Option<(usize, Token)>, ParseError> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        let start = self.at;
        let Some(first) = self.text[start..].chars().next() else { return Ok(None) };
        let token = match first {
            '(' => self.punctuation(Token::Open),
            ')' => self.punctuation(Token::Close),
            '"' => self.quoted(start)?,
            _ => self.word(start)?,
        };
        Ok(Some((start, token)))
    }

    fn punctuation(&mut self, token: Token) -> Token {
        self.at += 1;
        token
    }

    /// A bare tag or an operator: everything up to a space, a parenthesis or a quote.
    fn word(&mut self, start: usize) -> Result<Token, ParseError> {
        let rest = &self.text[start..];
        let end =
            rest.find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"')).unwrap_or(rest.len());
        self.at = start + end;
        let word = &rest[..end];
        if word.eq_ignore_ascii_case("and") {
            Ok(Token::And)
        } else if word.eq_ignore_ascii_case("or") {
            Ok(Token::Or)
        } else if word.eq_ignore_ascii_case("not") {
            Ok(Token::Not)
        } else {
            tag(start, word.into())
        }
    }

    fn quoted(&mut self, start: usize) -> Result<Token, ParseError> {
        let mut value = String::new();
        let mut chars = self.text[start + 1..].char_indices();
        while let Some((offset, c)) = chars.next() {
            match c {
                '"' => {
                    self.at = start + 1 + offset + 1;
                    return tag(start, value.into());
                }
                '\\' => match chars.next() {
                    Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                    Some((at, _)) => return Err(ParseError::new(start + 1 + at, Problem::BadEscape)),
                    None => break,
                },
                _ => value.push(c),
            }
        }
        Err(ParseError::new(start, Problem::UnclosedQuote))
    }
}

fn tag(start: usize, value: Box<str>) -> Result<Token, ParseError> {
    if value.is_empty() {
        return Err(ParseError::new(start, Problem::EmptyTag));
    }
    if value.len() > MAX_TAG_LENGTH {
        return Err(ParseError::new(start, Problem::TagTooLong));
    }
    Ok(Token::Tag(value))
}
