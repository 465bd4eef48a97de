//! Runs a command with servers that it can use: `stores COMMAND [ARGUMENT…]`. Tests that can share servers find them
//! by the variables `E2E_ETCD`, `E2E_REDIS` and `E2E_MYSQL`, and their files by `E2E_FOLDERS`.

use std::process::ExitCode;

use anyhow::Context as _;
use stores::{Etcd, MariaDb, Redis};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let program = words.next().context("usage: stores COMMAND [ARGUMENT…]")?;
    let (etcd, redis, db) = tokio::try_join!(Etcd::start(), Redis::start(), MariaDb::start())?;
    let status = tokio::process::Command::new(program)
        .args(words)
        .env("E2E_ETCD", etcd.endpoints().join(","))
        .env("E2E_REDIS", redis.url())
        .env("E2E_MYSQL", db.base_url())
        .env("E2E_FOLDERS", std::env::join_paths([redis.folder(), db.folder()])?)
        .status()
        .await?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
