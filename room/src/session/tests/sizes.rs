//! What a connection costs at rest. The goal for all of it together is 400 bytes.

use std::mem::size_of;

use wire::id::Uid;

use super::super::{binding::Binding, connection::Session};
use crate::{event_loop::CONNECTION_BYTES, exchange::ConnKey};

/// A slab entry adds its tag, or hides it in the value.
const SLAB: usize = 8;
/// A slot in the index of users, at the hash table's least load.
const INDEX: usize = 11;

#[test]
fn a_connection_at_rest_is_small() {
    assert!(size_of::<Session>() <= 32, "session: {}", size_of::<Session>());
    assert!(size_of::<Binding>() <= 136, "binding: {}", size_of::<Binding>());
    // A uid of up to 23 bytes lies in it.
    assert_eq!(size_of::<Uid>(), 24);
    assert_eq!(size_of::<ConnKey>(), 8, "entry of the timer wheel");
    // With debug assertions mio keeps the number of its poll in every socket.
    let debug = if cfg!(debug_assertions) { 16 } else { 0 };
    assert!(CONNECTION_BYTES <= 32 + debug, "socket, and what is spoken on it: {CONNECTION_BYTES}");
    let all = size_of::<Session>()
        + size_of::<Binding>()
        + 2 * SLAB
        + size_of::<ConnKey>()
        + CONNECTION_BYTES
        + INDEX;
    assert!(all <= 240 + debug, "one native connection with one binding: {all}");
}
