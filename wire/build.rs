//! Compiles `client.proto` in Rust (protox), so that no `protoc` is needed.

use std::error::Error;

const ROOT: &str = "../proto/proto";
const CLIENT: &str = "longwire/v1/client.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={ROOT}/{CLIENT}");
    let files = protox::compile([CLIENT], [ROOT])?;
    // Payloads are shared between connections, never copied for each.
    prost_build::Config::new().bytes(["."]).compile_fds(files)?;
    Ok(())
}
