//! The tokens by which a device takes up its connection again after an abrupt end.
//!
//! A token names a slot of this process and says for the how manieth time it may be taken up, and is sealed with HMAC-SHA256,
//! cut to 128 bits, over that and the device's name. So nothing of it has to be kept: the slot's generation and its count
//! tell whether the token is the last one that was given out, and the device's name need not be known before it is said.
//! The key is random and lives as long as the process, as do the slots.

use std::fmt;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::exchange::ConnKey;

/// The form below. Another one is not understood, so that it can be changed.
const FORM: u8 = 1;
const SEALED: usize = 1 + 1 + 1 + 4 + 4;
/// 128 bits cannot be guessed, and what is cut off a MAC of SHA-256 does not help who tries.
const TAG: usize = 16;
/// Bytes of a token.
pub const TOKEN_BYTES: usize = SEALED + TAG;

/// What a token names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// The thread that holds the connection.
    pub thread: u8,
    /// The connection.
    pub conn: ConnKey,
    /// Which token of the connection this is: each is good once.
    pub serial: u8,
}

/// The key of a room's tokens. Clones have the same key.
#[derive(Clone)]
pub struct Sealer(Hmac<Sha256>);

impl fmt::Debug for Sealer {
    // Never the key itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

impl Sealer {
    /// A key that nobody knows.
    pub fn random() -> Self {
        Self::with_key(&rand::random())
    }

    /// This key, for tests that are to go the same way each time.
    pub fn with_key(key: &[u8; 32]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes keys of any length"))
    }

    /// The token of a seat, for this device.
    pub fn seal(&self, seat: Seat, device: &str) -> Bytes {
        let mut token = BytesMut::with_capacity(TOKEN_BYTES);
        token.put_u8(FORM);
        token.put_u8(seat.thread);
        token.put_u8(seat.serial);
        token.put_u32(seat.conn.slot);
        token.put_u32(seat.conn.generation);
        let tag = self.mac(&token, device).finalize().into_bytes();
        token.put_slice(&tag[..TAG]);
        token.freeze()
    }

    /// The seat that a token names, if this room made it for this device.
    pub fn open(&self, token: &[u8], device: &str) -> Option<Seat> {
        if token.len() != TOKEN_BYTES {
            return None;
        }
        let (sealed, tag) = token.split_at(SEALED);
        // Takes the same time whatever is wrong.
        self.mac(sealed, device).verify_truncated_left(tag).ok()?;
        let mut fields = sealed;
        let form = fields.get_u8();
        let (thread, serial) = (fields.get_u8(), fields.get_u8());
        let conn = ConnKey { slot: fields.get_u32(), generation: fields.get_u32() };
        (form == FORM).then_some(Seat { thread, conn, serial })
    }

    fn mac(&self, sealed: &[u8], device: &str) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(sealed);
        mac.update(device.as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seat() -> Seat {
        Seat { thread: 3, conn: ConnKey { slot: 0x0102_0304, generation: 77 }, serial: 5 }
    }

    #[test]
    fn opens_for_its_device_and_room_only() {
        let sealer = Sealer::with_key(&[1; 32]);
        let token = sealer.seal(seat(), "phone-7");
        assert_eq!(sealer.open(&token, "phone-7"), Some(seat()));
        assert_eq!(sealer.open(&token, "phone-8"), None);
        assert_eq!(sealer.open(&token, ""), None);
        assert_eq!(Sealer::with_key(&[2; 32]).open(&token, "phone-7"), None);
        assert_eq!(Sealer::random().open(&token, "phone-7"), None);
        assert!(!format!("{sealer:?}").contains('1'), "the key is not shown");
    }

    proptest! {
        #[test]
        fn what_was_changed_does_not_open(at in 0..TOKEN_BYTES, bit in 0..8u8, cut in 0..TOKEN_BYTES) {
            let sealer = Sealer::with_key(&[1; 32]);
            let mut token = sealer.seal(seat(), "phone-7").to_vec();
            prop_assert_eq!(sealer.open(&token[..cut], "phone-7"), None);
            token[at] ^= 1 << bit;
            prop_assert_eq!(sealer.open(&token, "phone-7"), None);
            prop_assert_eq!(sealer.open(&[token, vec![0]].concat(), "phone-7"), None);
        }
    }
}
