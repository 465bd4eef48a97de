//! Who gets a broadcast: tag expressions with `and`, `or`, `not` and parentheses, and filters by what is known of a device:
//! zone, network, version of the app, offset from UTC, and the user's place on a ring.
//!
//! ```
//! use audience::Audience;
//!
//! let audience: Audience = r#"ios and (beta or not "lang:en gb")"#.parse()?;
//! assert!(audience.matches(|tag| tag == "ios"));
//! assert!(!audience.matches(|tag| tag == "ios" || tag == "lang:en gb"));
//! assert!("".parse::<Audience>()?.is_everyone());
//! # Ok::<(), audience::ParseError>(())
//! ```
//!
//! An expression is judged in two ways that agree: for one tag set ([`Audience::matches`]), and over bitmaps for all
//! bindings of an app at once ([`Audience::select`]). Both are free of allocation that an outsider could steer:
//! length, depth and number of tags are bounded when the text is parsed.

mod device;
mod error;
mod expression;
mod filter;
mod lexer;
mod offset;
mod parser;
mod place;
mod select;
mod version;

pub use device::{Device, Index, MAX_VERSIONS, VersionKey};
pub use error::{ParseError, Problem};
pub use expression::{Audience, Expression};
pub use filter::{Filter, FilterError, FilterValues, MAX_NETWORK, MAX_ZONES, UTC_OFFSETS};
pub use offset::Offset;
pub use place::{PLACES, Slice, place};
pub use version::{MAX_VERSION_LENGTH, Version};

/// Longest expression, bytes. Twenty tags of the greatest length and what joins them fit.
pub const MAX_LENGTH: usize = 2_048;
/// Deepest nesting of parentheses and `not`. Sixteen is more than a person can read.
pub const MAX_DEPTH: usize = 16;
/// Most tags in one expression; each costs one bitmap operation per broadcast and room thread.
pub const MAX_TAGS: usize = 64;
/// Longest tag, bytes; the same bound holds for the tags of a binding.
pub const MAX_TAG_LENGTH: usize = 64;
