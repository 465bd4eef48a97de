//! API keys in the data folder: written by `up`, read by the other commands.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// File of an app's key in a data folder.
pub(crate) fn key_file(data: &Path, app: &str) -> PathBuf {
    data.join(format!("{app}.key"))
}

/// Reads a key that [`write`] kept; `None` if there is none.
pub(crate) fn read(data: &Path, app: &str) -> io::Result<Option<String>> {
    match fs::read_to_string(key_file(data, app)) {
        Ok(key) => Ok(Some(key.trim().to_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Keeps a key for the owner's eyes only. The cluster itself has only its hash.
pub(crate) fn write(data: &Path, app: &str, key: &str) -> io::Result<()> {
    let file = key_file(data, app);
    let new = file.with_extension("key.new");
    let mut out = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    writeln!(out, "{key}")?;
    out.sync_all()?;
    fs::rename(new, file)
}
