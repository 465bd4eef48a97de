//! Reads a list of users, one JSON value a line, out of bytes that come in whatever parts.

use bytes::Bytes;
use serde::Deserialize;
use wire::id::Uid;

use crate::error::{Error, Result};

/// A line of a user: 128 bytes, each perhaps written `\u00XX`, in an object, with spaces.
const USER_LINE: usize = 1_024;

/// Lines out of bytes. The first has a bound of its own, because it holds more.
pub(super) struct Lines {
    came: Bytes,
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
    first_max: usize,
    /// Lines that were taken.
    taken: u64,
}

/// A line, as far as it is text for a reader of JSON; empty ones are left out.
pub(super) struct Line {
    pub(super) number: u64,
    pub(super) bytes: Bytes,
}

impl Lines {
    pub(super) fn new(first_max: usize) -> Lines {
        Lines { came: Bytes::new(), begun: Vec::new(), first_max, taken: 0 }
    }

    /// More has come. What came before was read: [`Lines::next`] has answered none.
    pub(super) fn feed(&mut self, bytes: Bytes) {
        debug_assert!(self.came.is_empty());
        self.came = bytes;
    }

    /// The next line that is complete.
    ///
    /// # Errors
    /// A line that is too long.
    pub(super) fn next(&mut self) -> Result<Option<Line>> {
        while let Some(end) = self.came.iter().position(|byte| *byte == b'\n') {
            let rest = self.came.split_off(end + 1);
            let came = std::mem::replace(&mut self.came, rest);
            self.check(self.begun.len() + end)?;
            self.taken += 1;
            let whole = if self.begun.is_empty() {
                came
            } else {
                self.begun.extend_from_slice(&came);
                std::mem::take(&mut self.begun).into()
            };
            if let Some(line) = self.line(whole) {
                return Ok(Some(line));
            }
        }
        // The bound comes first: it is the sender who decides how much would be kept.
        self.check(self.begun.len() + self.came.len())?;
        self.begun.extend_from_slice(&std::mem::take(&mut self.came));
        Ok(None)
    }

    /// No more comes: the last line may lack its end.
    pub(super) fn last(&mut self) -> Option<Line> {
        let whole = std::mem::take(&mut self.begun);
        self.taken += 1;
        self.line(whole.into())
    }

    fn line(&self, bytes: Bytes) -> Option<Line> {
        (!bytes.trim_ascii().is_empty()).then_some(Line { number: self.taken, bytes })
    }

    fn check(&self, length: usize) -> Result<()> {
        let most = if self.taken == 0 { self.first_max } else { USER_LINE };
        if length <= most {
            return Ok(());
        }
        Err(of_line(self.taken + 1, &format!("it is over {most} bytes")))
    }
}

impl Line {
    /// The user of this line: a JSON string, or an object with nothing but `uid`.
    ///
    /// # Errors
    /// The line is named.
    pub(super) fn user(&self) -> Result<Uid> {
        let text = self.bytes.trim_ascii();
        let uid = match plain(text) {
            Some(uid) => Uid::new(uid),
            None => match text.first() {
                Some(b'"') => Uid::new(self.json::<String>()?),
                Some(b'{') => Uid::new(self.json::<OneUser>()?.uid),
                _ => {
                    return Err(of_line(
                        self.number,
                        "must be a JSON string, or an object like {\"uid\": \"alice\"}",
                    ));
                }
            },
        };
        uid.map_err(|e| of_line(self.number, &e.to_string()))
    }

    fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        serde_json::from_slice(&self.bytes).map_err(|e| of_line(self.number, &e.to_string()))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneUser {
    uid: String,
}

/// A JSON string without anything that is written in another way than it is meant: nearly all are.
fn plain(text: &[u8]) -> Option<&str> {
    let inner = text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.iter().any(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\') {
        return None;
    }
    std::str::from_utf8(inner).ok()
}

fn of_line(number: u64, message: &str) -> Error {
    Error::invalid(format!("line {number}"), format!("line {number}: {message}"))
}

#[cfg(test)]
#[path = "ndjson_tests.rs"]
mod tests;
