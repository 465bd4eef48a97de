//! What a coordinator reads: a backend's answer, and events of its spill queue.
#![no_main]

use std::time::Duration;

use http::{Response, StatusCode, header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, &[u8], &[u8])| {
    let (status, retry_after, body) = input;
    for up in [true, false] {
        if let Some((written, request)) = coordinator::fuzzing::stored(up, body) {
            assert_eq!(coordinator::fuzzing::stored(up, &written), Some((written, request.clone())));
            assert!(serde_json::from_slice::<serde_json::Value>(&request).is_ok());
        }
    }
    let Ok(status) = StatusCode::from_u16(status % 1000) else { return };
    let answer = Response::builder().status(status).header(header::RETRY_AFTER, retry_after);
    let Ok(answer) = answer.body(body.to_vec()) else { return };
    let (taken, wait) = futures::executor::block_on(coordinator::fuzzing::answered(answer));
    assert_eq!(taken, status.is_success());
    // No backend can push its events away for ever.
    assert!(wait.is_none_or(|wait| wait <= Duration::from_secs(300)));
});
