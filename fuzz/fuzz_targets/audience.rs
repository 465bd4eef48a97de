//! A tag expression, as the API of the center takes it: what parses can be written and parses to the same again.
#![no_main]

use audience::Audience;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| match text.parse::<Audience>() {
    Ok(audience) => {
        // Quotes make the text longer than what was read, so it may be over the bound of length and of nothing else.
        let written = audience.to_string();
        if written.len() <= audience::MAX_LENGTH {
            let again: Audience = written.parse().unwrap_or_else(|error| panic!("{written:?}: {error}"));
            assert_eq!(again.matches(|tag| tag.len() % 2 == 0), audience.matches(|tag| tag.len() % 2 == 0));
        }
    }
    Err(error) => assert!(error.position <= text.len()),
});
