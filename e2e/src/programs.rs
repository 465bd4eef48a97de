//! Where the programs under test are.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};

/// A program of this workspace, beside the test's own (`target/debug/deps/x` → `target/debug/NAME`).
///
/// # Errors
/// When it has not been built.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("where is the test program?")?;
    let folder = own.ancestors().nth(2).context("the test program is not in target/*/deps")?;
    let path = folder.join(name);
    ensure!(path.is_file(), "{} is not there: run `cargo build --workspace --bins` first", path.display());
    Ok(path)
}
