//! The saver as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::process::main::<saver::Saver>()
}
