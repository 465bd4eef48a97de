//! Frames as JSON: what is read can be written, and reads the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::{frame::CloseCode, json};

fuzz_target!(|data: &[u8]| {
    match json::decode_client(data) {
        Ok(frame) => assert_eq!(json::decode_client(&json::encode_client(&frame)), Ok(frame)),
        Err(error) => assert!(error.close_code() == CloseCode::BadFrame && error.to_string().len() < 300),
    }
    if let Ok(frame) = json::decode_server(data) {
        assert_eq!(json::decode_server(&json::encode_server(&frame)), Ok(frame));
    }
});
