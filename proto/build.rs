//! Compiles the `.proto` files in Rust (protox), so that no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const PUBLIC: [&str; 2] = ["longwire/v1/push.proto", "longwire/v1/route.proto"];
const INTERNAL: [&str; 7] = [
    "longwire/internal/v1/broadcast.proto",
    "longwire/internal/v1/saver.proto",
    "longwire/internal/v1/register.proto",
    "longwire/internal/v1/room.proto",
    "longwire/internal/v1/coordinator.proto",
    "longwire/internal/v1/node.proto",
    "longwire/internal/v1/center.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let public = protox::compile(PUBLIC, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Reflection shows what is public and nothing else.
    fs::write(out.join("public.bin"), public.encode_to_vec())?;
    // Payloads pass through every service: as `Bytes` they are shared, not copied.
    tonic_prost_build::configure().bytes(".").compile_fds(public)?;
    tonic_prost_build::configure().bytes(".").compile_fds(protox::compile(INTERNAL, ["proto"])?)?;
    Ok(())
}
