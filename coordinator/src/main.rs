//! The coordinator as a program.

fn main() -> std::process::ExitCode {
    service::process::main::<coordinator::Coordinator>()
}
