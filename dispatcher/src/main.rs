//! The dispatcher as a program.

fn main() -> std::process::ExitCode {
    service::process::main::<dispatcher::Dispatcher>()
}
