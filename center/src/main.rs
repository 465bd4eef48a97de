//! The program `center`.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::process::main::<center::Center>()
}
