//! Compiles `client.proto` in Rust (protox), so that no `protoc` is needed.

use std::error::Error;

use prost::Message;

const ROOT: &str = "../proto/proto";
const PACKAGE: &str = ".longwire.v1";
const CLIENT: &str = "longwire/v1/client.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={ROOT}/{CLIENT}");
    let files = protox::compile([CLIENT], [ROOT])?;
    // The same frames as JSON. What a later version adds is ignored, as it is in protobuf.
    pbjson_build::Builder::new()
        .register_descriptors(&files.encode_to_vec())?
        .ignore_unknown_fields()
        .ignore_unknown_enum_variants()
        .build(&[PACKAGE])?;
    // Payloads are shared between connections, never copied for each.
    prost_build::Config::new().bytes(["."]).compile_fds(files)?;
    Ok(())
}
