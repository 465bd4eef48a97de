//! A request of an app's backend, as the center's HTTP API reads it: what is taken is a good request, and what is not
//! is answered with an error that says so.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8], &[u8], &[u8])| {
    let (route, authorization, key, body) = input;
    // Most inputs are to get past the API key and the header.
    let authorization = if route & 0x80 == 0 { b"Bearer lwk_x" } else { authorization };
    let mut headers = vec![("authorization", authorization)];
    if route & 0x40 != 0 {
        headers.push(("idempotency-key", key));
    }
    match center::fuzzing::read(route & 0x3f, &headers, body) {
        // Base64 and JSON only make things longer; what is added here are tags, lengths and the key.
        Ok(request) => assert!(request.len() <= 16 * (body.len() + key.len()) + 64),
        Err(error) => {
            let facts = error.facts();
            assert!(facts.status.is_client_error(), "{error}");
            assert!(facts.retry_after.is_none());
        }
    }
});
