//! Tokens to an expression: `or` binds weakest, then `and`, then `not`.

use crate::{
    MAX_DEPTH, MAX_LENGTH, MAX_TAGS,
    error::{ParseError, Problem},
    expression::Expression,
    lexer::{Lexer, Token},
};

/// Parses a text; `None` is everyone.
pub(crate) fn parse(text: &str) -> Result<Option<Expression>, ParseError> {
    if text.len() > MAX_LENGTH {
        return Err(ParseError::new(MAX_LENGTH, Problem::TooLong));
    }
    let mut parser = Parser { lexer: Lexer::new(text), ahead: None, end: text.len(), depth: 0, tags: 0 };
    parser.ahead = parser.lexer.next_token()?;
    if parser.ahead.is_none() {
        return Ok(None);
    }
    let root = parser.or()?;
    match parser.ahead {
        None => Ok(Some(root)),
        Some((at, token)) => Err(ParseError::new(at, Problem::ExpectedOperator(token.to_string()))),
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    ahead: Option<(usize, Token)>,
    end: usize,
    depth: usize,
    tags: usize,
}

impl Parser<'_> {
    fn or(&mut self) -> Result<Expression, ParseError> {
        self.chain(&Token::Or, Self::and, Expression::Or)
    }

    fn and(&mut self) -> Result<Expression, ParseError> {
        self.chain(&Token::And, Self::operand, Expression::And)
    }

    fn chain(
        &mut self,
        operator: &Token,
        part: fn(&mut Self) -> Result<Expression, ParseError>,
        join: fn(Vec<Expression>) -> Expression,
    ) -> Result<Expression, ParseError> {
        let first = part(self)?;
        if self.ahead.as_ref().is_none_or(|(_, token)| token != operator) {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.ahead.as_ref().is_some_and(|(_, token)| token == operator) {
            self.advance()?;
            parts.push(part(self)?);
        }
        Ok(join(parts))
    }

    fn operand(&mut self) -> Result<Expression, ParseError> {
        let Some((at, token)) = self.advance()? else {
            return Err(ParseError::new(self.end, Problem::UnexpectedEnd));
        };
        match token {
            Token::Tag(tag) => {
                self.tags += 1;
                if self.tags > MAX_TAGS {
                    return Err(ParseError::new(at, Problem::TooManyTags));
                }
                Ok(Expression::Tag(tag))
            }
            Token::Not => self.nested(at, |parser| Ok(Expression::Not(Box::new(parser.operand()?)))),
            Token::Open => self.nested(at, |parser| {
                let inner = parser.or()?;
                match parser.advance()? {
                    Some((_, Token::Close)) => Ok(inner),
                    Some((found, token)) => {
                        Err(ParseError::new(found, Problem::ExpectedOperator(token.to_string())))
                    }
                    None => Err(ParseError::new(at, Problem::UnclosedParenthesis)),
                }
            }),
            other => Err(ParseError::new(at, Problem::ExpectedTag(other.to_string()))),
        }
    }

    /// The recursion goes through here and nowhere else, so the depth bound is a bound of the stack too.
    fn nested(
        &mut self,
        at: usize,
        inner: impl FnOnce(&mut Self) -> Result<Expression, ParseError>,
    ) -> Result<Expression, ParseError> {
        if self.depth == MAX_DEPTH {
            return Err(ParseError::new(at, Problem::TooDeep));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn advance(&mut self) -> Result<Option<(usize, Token)>, ParseError> {
        let next = self.lexer.next_token()?;
        Ok(std::mem::replace(&mut self.ahead, next))
    }
}
