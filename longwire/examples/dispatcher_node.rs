//! The whole of a program that runs one service; the tests of the operator's commands run it as a node.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::process::main::<dispatcher::Dispatcher>()
}
