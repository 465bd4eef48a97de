//! The program `storm`.

use std::process::ExitCode;

fn main() -> ExitCode {
    storm::cli::main()
}
