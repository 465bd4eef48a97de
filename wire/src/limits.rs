//! The protocol's bounds. Frame sizes are defaults that a room's configuration may change; the others are
//! part of the protocol.

/// Largest frame from a device, in bytes after the length prefix. Upstream data is telemetry and short
/// requests; 64 KiB is also what one read of a room's event loop takes in.
pub const MAX_CLIENT_FRAME: usize = 64 * 1024;

/// Largest frame to a device, in bytes after the length prefix. Ten times what any phone's notification
/// service carries, and still sent within seconds over a slow mobile link.
pub const MAX_SERVER_FRAME: usize = 1024 * 1024;

/// What a frame adds around a payload at the very most: field tags, numbers and lengths.
pub const MAX_FRAME_OVERHEAD: usize = 96;

/// Longest uid in bytes: holds any UUID, e-mail-like name or hash.
pub const MAX_UID_BYTES: usize = 128;

/// Longest app key in bytes.
pub const MAX_APP_KEY_BYTES: usize = 64;

/// Longest device name in bytes.
pub const MAX_DEVICE_BYTES: usize = 128;

/// Longest name and version of an SDK in bytes.
pub const MAX_SDK_BYTES: usize = 64;

/// Tags of one binding.
pub const MAX_TAGS: usize = 32;

/// Longest tag in bytes.
pub const MAX_TAG_BYTES: usize = 64;

/// Longest routing word of an upstream frame in bytes.
pub const MAX_KIND_BYTES: usize = 64;

/// Longest token in bytes: a JWT with an Ed25519 signature and room for claims of the app's own.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// Version of the protocol that this crate speaks.
pub const VERSION: u32 = 1;
