//! The cases of the Autobahn WebSocket test suite, made again.
//!
//! The suite itself (`autobahntestsuite` on PyPI) passes in both roles; it needs Python 2.7, so it is run by hand, by
//! `wire/tests/autobahn/run` (see the README beside it). So that every test run has its cases all the same, they are made again
//! here from its descriptions, each under its number: sections 1 to 7 and 10 in full, and those of section 9 (limits)
//! that lie within the sizes of this protocol. 12 and 13 are about compression, which is not offered.
//!
//! The other end is a test that knows RFC 6455 and nothing of the crate. Each case runs over a real loopback connection,
//! against the codec as a server and as a client, with the frames written at once, frame by frame, and octet by
//! octet where they are not too long for that.
//!
//! "Fail fast" (6.4) is proved by silence: what would follow the wrong byte is never sent.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod case;
mod echo;
mod endpoint;
mod peer;

mod closing;
mod fragments;
mod framing;
mod limits;
mod pings;
mod reserved;
mod utf8;
