//! The register as a program.

fn main() -> std::process::ExitCode {
    service::process::main::<register::Register>()
}
