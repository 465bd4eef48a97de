//! Why a process could not start, and the exit code that says so.

use std::{fmt, io, net::SocketAddr, process::ExitCode};

/// Exit code for a wrong command line or configuration: EX_USAGE of sysexits.h.
const EX_USAGE: u8 = 64;

/// Why a service did not start. Every message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A configuration value that can only be judged when it is used.
    #[error("{key}: {reason}")]
    Config {
        /// Path of the key, e.g. `room.listen`.
        key: String,
        /// What is wrong with its value.
        reason: String,
    },
    /// A port that cannot be bound.
    #[error("cannot listen on {address} ({key}): {source}")]
    Listen {
        /// Path of the key that names the port.
        key: String,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The count of lives could not be kept.
    #[error(transparent)]
    Incarnation(#[from] cluster::IncarnationError),
    /// Discovery refused the node.
    #[error(transparent)]
    Discovery(#[from] cluster::DiscoveryError),
    /// Anything else, in one line.
    #[error("{0}")]
    Other(String),
}

impl StartError {
    /// Anything that has no kind of its own.
    pub fn other(error: impl fmt::Display) -> Self {
        Self::Other(error.to_string())
    }

    /// A wrong value of a key.
    pub fn config(key: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self::Config { key: key.into(), reason: reason.to_string() }
    }
}

/// How a process ends when it ends early: a line for the operator and an exit code.
#[derive(Debug)]
pub struct ExitError {
    message: String,
    code: u8,
}

impl ExitError {
    /// The configuration or the command line is wrong: exit 64.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), code: EX_USAGE }
    }

    /// The system refused something: exit 1.
    pub fn failure(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), code: 1 }
    }
}

impl From<StartError> for ExitError {
    fn from(error: StartError) -> Self {
        match &error {
            StartError::Config { .. } => Self::usage(error),
            _ => Self::failure(error),
        }
    }
}

impl fmt::Display for ExitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Prints the one line and gives the exit code. The end of every `main`.
pub fn exit_code(program: &str, result: Result<(), ExitError>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error}");
            ExitCode::from(error.code)
        }
    }
}
