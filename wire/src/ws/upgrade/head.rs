//! What requests and responses have in common.

use httparse::Header;

use super::MAX_HEAD;

/// A browser sends about twenty.
pub(super) const MAX_FIELDS: usize = 64;

/// Where a head ends.
pub(super) enum Extent {
    /// After this many bytes.
    Whole(usize),
    /// Not among the bytes that have come.
    Partial,
    /// Beyond the bound.
    TooLarge,
}

/// Looks for the end of the head, so that it is read once, however slowly it comes.
pub(super) fn extent(bytes: &[u8]) -> Extent {
    const END: &[u8] = b"\r\n\r\n";
    let within = &bytes[..bytes.len().min(MAX_HEAD)];
    match within.windows(END.len()).position(|window| window == END) {
        Some(at) => Extent::Whole(at + END.len()),
        None if bytes.len() < MAX_HEAD => Extent::Partial,
        None => Extent::TooLarge,
    }
}

/// The fields of a head.
#[derive(Clone, Copy)]
pub(super) struct Fields<'h>(pub(super) &'h [Header<'h>]);

impl<'h> Fields<'h> {
    /// All values of a field. A value that is no text counts as empty, which fits nothing.
    pub(super) fn all(self, name: &'h str) -> impl Iterator<Item = &'h str> {
        let fields = self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| std::str::from_utf8(field.value).unwrap_or_default().trim())
    }

    /// The value of a field that may be there once: `Err` if it is there more often.
    pub(super) fn one(self, name: &'h str) -> Result<Option<&'h str>, ()> {
        let mut all = self.all(name);
        let first = all.next();
        if all.next().is_some() { Err(()) } else { Ok(first) }
    }

    /// The words of a field that lists them with commas.
    pub(super) fn words(self, name: &'h str) -> impl Iterator<Item = &'h str> {
        let words = self.all(name).flat_map(|value| value.split(','));
        words.map(str::trim).filter(|word| !word.is_empty())
    }

    /// Whether a list has a word, in any case.
    pub(super) fn has_word(self, name: &'h str, word: &str) -> bool {
        self.words(name).any(|found| found.eq_ignore_ascii_case(word))
    }
}
