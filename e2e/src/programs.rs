//! Where the programs under test are.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};

/// A program of this workspace: in the folder that `E2E_PROGRAMS` names, else beside the test's own
/// (`target/debug/deps/x` → `target/debug/NAME`).
///
/// # Errors
/// When it has not been built.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let folder = match std::env::var_os("E2E_PROGRAMS") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let own = std::env::current_exe().context("where is the test program?")?;
            own.ancestors().nth(2).context("the test program is not in target/*/deps")?.to_owned()
        }
    };
    let path = folder.join(name);
    ensure!(path.is_file(), "{} is not there: run `cargo build --workspace --bins` first", path.display());
    Ok(path)
}
