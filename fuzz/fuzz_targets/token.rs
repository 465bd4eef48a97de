//! A device's token, as a room reads it: nothing that was not signed opens.
#![no_main]

use libfuzzer_sys::fuzz_target;
use room::token::Keys;

const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";

fuzz_target!(|token: &str| {
    let keys = Keys::of(b"a secret that no input holds", PUBLIC);
    assert!(keys.verify(token, "demo", "alice", 1_800_000_000).is_err());
});
