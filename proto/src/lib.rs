//! The `.proto` files of Longwire and the gRPC code generated from them.
//!
//! [`v1`] is public: app backends and devices call it. [`internal`] is how the six services talk to one
//! another and may change with any release. The frames between a device and a room are in the crate `wire`.

/// What app backends and devices call.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("longwire.v1");
}

/// What the services call of one another.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod internal {
    tonic::include_proto!("longwire.internal.v1");
}

/// Encoded `FileDescriptorSet` of the public services, for gRPC reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/public.bin"));
