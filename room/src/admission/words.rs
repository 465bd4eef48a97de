//! What is said to who is refused at the door: made before anybody comes, so that a refusal costs a few system calls.

use std::time::Duration;

use bytes::Bytes;
use wire::{codec::encode_server_frame, frame::Close, ws::upgrade};

use super::Reason;

/// Different waits. Devices that were refused together and told the same come back together; with the time that each
/// takes to connect on top, so many are enough.
const WAITS: usize = 32;

/// Answers to who is refused before its connection has a place, for each [`Reason`] and each of some waits.
///
/// Nothing is known then of the transport but what has come already. Native frames are for devices that speak them and
/// those that have said nothing yet: another transport takes them for an error, and it would be one for it either way. An
/// HTTP request is answered in HTTP. A TLS client gets no word, because a word would need a handshake.
#[derive(Debug, Clone)]
pub struct Words {
    /// By reason and wait.
    words: Box<[Word]>,
}

#[derive(Debug, Clone)]
struct Word {
    native: Bytes,
    http: Box<[u8]>,
}

/// First byte of a TLS record that begins a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

impl Words {
    /// Words that tell waits between `retry_after_ms` and twice that.
    pub fn new(retry_after_ms: u32) -> Self {
        let word = |reason: Reason, step: usize| {
            let more = u64::from(retry_after_ms) * step as u64 / (WAITS as u64 - 1);
            Word::new(reason, retry_after_ms.saturating_add(more as u32))
        };
        let words = Reason::ALL.iter().flat_map(|reason| (0..WAITS).map(move |step| word(*reason, step)));
        Self { words: words.collect() }
    }

    /// What to answer, if anything, to who has said `spoken` so far. `dice` chooses the wait.
    pub fn answer(&self, reason: Reason, spoken: &[u8], dice: u32) -> &[u8] {
        let word = &self.words[reason as usize * WAITS + dice as usize % WAITS];
        match spoken.first() {
            Some(&TLS_HANDSHAKE) => &[],
            // GET, and whatever else HTTP has.
            Some(first) if *first != wire::codec::PREAMBLE[0] && first.is_ascii_uppercase() => &word.http,
            _ => &word.native,
        }
    }
}

impl Word {
    fn new(reason: Reason, retry_after_ms: u32) -> Self {
        // Who is not allowed need not come back.
        let told = if reason == Reason::Denied { 0 } else { retry_after_ms };
        let close =
            Close { code: reason.code().into(), retry_after_ms: told, message: reason.message().to_owned() };
        let refusal = match reason {
            Reason::Denied => upgrade::Refusal::Forbidden,
            _ => upgrade::Refusal::Busy { retry_after: Duration::from_millis(told.into()) },
        };
        Self { native: encode_server_frame(&close.into()), http: refusal.response().into() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use wire::{
        ClientDecoder,
        frame::{CloseCode, ServerBody},
    };

    use super::*;

    fn close(mut bytes: &[u8]) -> Close {
        let frame = ClientDecoder::for_client(1 << 20).decode(&mut bytes).unwrap().unwrap();
        assert!(bytes.is_empty());
        let Some(ServerBody::Close(close)) = frame.body else { panic!("no close") };
        close
    }

    #[test]
    fn waits_are_spread() {
        let words = Words::new(1_000);
        let waits: BTreeSet<u32> =
            (0..200).map(|dice| close(words.answer(Reason::Full, b"", dice)).retry_after_ms).collect();
        assert_eq!((waits.len(), waits.first(), waits.last()), (WAITS, Some(&1_000), Some(&2_000)));
        assert_eq!(close(Words::new(u32::MAX).answer(Reason::Full, b"", 31)).retry_after_ms, u32::MAX);
    }

    #[test]
    fn each_is_answered_in_its_own_way() {
        let words = Words::new(1_500);
        for spoken in [&b""[..], b"L", b"LW\x01\x05", b"\x00\xff"] {
            let close = close(words.answer(Reason::IpRate, spoken, 0));
            assert_eq!((close.code(), close.retry_after_ms), (CloseCode::Busy, 1_500));
        }
        assert!(words.answer(Reason::IpRate, &[0x16, 3, 1], 0).is_empty());
        let http = words.answer(Reason::IpRate, b"GET / HTTP/1.1\r\n", 0);
        let http = std::str::from_utf8(http).unwrap();
        assert!(http.starts_with("HTTP/1.1 503 ") && http.contains("Retry-After: 2\r\n"), "{http}");
        let denied = words.answer(Reason::Denied, b"GET", 0);
        assert!(denied.starts_with(b"HTTP/1.1 403 "));
        assert_eq!(close(words.answer(Reason::Denied, b"", 9)).retry_after_ms, 0);
    }
}
