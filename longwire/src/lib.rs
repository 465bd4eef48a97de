//! The Longwire command line, and all six services in one process ([`up`]).

#![deny(clippy::print_stdout, reason = "it panics when the reader has gone; see `output`")]

#[macro_use]
mod output;

pub mod api;
pub mod args;
mod broadcast;
mod cert;
mod config;
mod credentials;
mod listen;
mod multicast;
mod node;
mod operate;
mod operator;
mod payload;
mod push;
mod scheduled;
mod table;
mod targets;
pub mod up;

use service::ExitError;

use crate::args::{Arguments, Command};

/// Runs a command to its end.
///
/// # Errors
/// With the line to print and the exit code: 64 for what the caller can correct on the command line or in the
/// configuration, 1 for the rest.
pub fn run(arguments: Arguments) -> Result<(), ExitError> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(ExitError::failure)?;
    runtime.block_on(async {
        match arguments.command {
            Command::Up(up) => Box::pin(up::run(up)).await,
            Command::Listen(listen) => listen::run(listen).await,
            Command::Push(push) => push::run(push).await,
            Command::Broadcast(broadcast) => broadcast::run(*broadcast).await,
            Command::Broadcasts(command) => broadcast::manage(command).await,
            Command::Multicast(multicast) => multicast::run(multicast).await,
            Command::Targets(targets) => targets::run(targets).await,
            Command::Scheduled(command) => scheduled::run(command).await,
            Command::User(user) => operate::user(user).await,
            Command::Message(message) => operate::message(message).await,
            Command::Recall(message) => operate::recall(message).await,
            Command::Kick(user) => operate::kick(user).await,
            Command::Token(token) => operate::token(token).await,
            Command::App(app) => operate::app(app).await,
            Command::Cert(command) => cert::run(&command),
            Command::Config(command) => config::run(command).await,
            Command::Node(command) => node::run(command).await,
        }
    })
}
