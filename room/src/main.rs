//! The program `room`.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::process::main::<room::Room>()
}
