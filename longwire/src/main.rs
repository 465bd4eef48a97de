//! The `longwire` program.

use std::process::ExitCode;

use clap::Parser as _;
use longwire::{args::Arguments, run};

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => service::exit_code("longwire", run(arguments)),
        Err(error) => {
            let wrong = error.use_stderr();
            // Nothing is left to be done where the terminal is gone.
            let _ = error.print();
            if wrong { ExitCode::from(64) } else { ExitCode::SUCCESS }
        }
    }
}
