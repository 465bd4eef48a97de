//! JSON that a device reads: the dispatcher's answer, and its own snapshot from a disk it cannot trust.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = serde_json::from_slice::<client::route::Route>(data);
    if let Ok(snapshot) = serde_json::from_slice::<client::Snapshot>(data) {
        let json = serde_json::to_vec(&snapshot).expect("a snapshot can be written");
        assert_eq!(serde_json::from_slice::<client::Snapshot>(&json).expect("and read again"), snapshot);
    }
});
