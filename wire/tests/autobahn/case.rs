//! A case: what is said, what is to be heard, and how it ends.

use crate::peer;

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;
/// Takes the FIN bit away.
pub(crate) const MORE: u8 = 0x7f;
/// A continuation, the last.
pub(crate) const LAST: u8 = 0x80;
/// A continuation, not the last.
pub(crate) const NEXT: u8 = 0x00;

/// A frame by its first byte and payload.
pub(crate) type Frame = (u8, Vec<u8>);

/// A frame.
pub(crate) fn frame(first: u8, payload: impl AsRef<[u8]>) -> Frame {
    (first, payload.as_ref().to_vec())
}

/// A Close with a code and words.
pub(crate) fn close(code: u16, words: impl AsRef<[u8]>) -> Frame {
    (CLOSE, [&code.to_be_bytes()[..], words.as_ref()].concat())
}

/// One case.
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) say: Vec<Frame>,
    pub(crate) hear: Vec<Frame>,
    /// The Close that the endpoint sends, if not as an answer to the one that ends each healthy case.
    pub(crate) end: Option<Option<u16>>,
    /// Bytes of the last frame that are not sent.
    pub(crate) withheld: usize,
}

impl Case {
    pub(crate) fn new(id: impl Into<String>, say: impl Into<Vec<Frame>>) -> Self {
        Self { id: id.into(), say: say.into(), hear: Vec::new(), end: None, withheld: 0 }
    }

    /// These frames come back.
    pub(crate) fn hears(mut self, hear: impl Into<Vec<Frame>>) -> Self {
        self.hear = hear.into();
        self
    }

    /// All that was said comes back.
    pub(crate) fn echoes(self) -> Self {
        let hear = self.say.clone();
        self.hears(hear)
    }

    /// The endpoint ends it with this code.
    pub(crate) fn ends(mut self, code: u16) -> Self {
        self.end = Some(Some(code));
        self
    }

    /// The endpoint ends it without a code.
    pub(crate) fn ends_without_code(mut self) -> Self {
        self.end = Some(None);
        self
    }

    /// The last so many bytes are never sent.
    pub(crate) fn withholds(mut self, bytes: usize) -> Self {
        self.withheld = bytes;
        self
    }

    /// Plays it in each role and each way of writing.
    pub(crate) fn play(&self) {
        for role in peer::Role::ALL {
            for writing in peer::Writing::ALL {
                if writing.suits(self) {
                    peer::play(self, role, writing);
                }
            }
        }
    }
}

/// Plays them all.
pub(crate) fn play(cases: impl IntoIterator<Item = Case>) {
    cases.into_iter().for_each(|case| case.play());
}
