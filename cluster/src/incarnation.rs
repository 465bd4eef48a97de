//! Which life of a node this is.

use std::{
    fmt, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// One life of a node: strictly greater at every start, and not read from a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The count of lives could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum IncarnationError {
    /// The file or its folder cannot be read or written.
    #[error("cannot keep the count of lives in {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else wrote to the file. Starting at 1 again would let old events win over new ones, and fences hold 32
    /// bits of it.
    #[error(
        "{path} holds {content:?}, which is no number below 4294967295: restore it, or write one greater than any before"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is in it.
        content: String,
    },
}

impl Incarnation {
    /// Counts one more life of `name` in the node's data folder, and makes that durable before it answers.
    ///
    /// # Errors
    /// When the folder cannot be written or the file is not ours.
    pub fn next(data: &Path, name: &str) -> Result<Self, IncarnationError> {
        Self::at_least(data, name, 0)
    }

    /// Counts one more life of `name`: `number` if that is greater than its last one, else one more than that. Durable
    /// before it answers.
    ///
    /// # Errors
    /// When the folder cannot be written, the file is not ours, or the numbers are used up.
    pub fn at_least(data: &Path, name: &str, number: u64) -> Result<Self, IncarnationError> {
        let path = data.join(format!("{name}.incarnation"));
        let io = |source| IncarnationError::Io { path: path.clone(), source };
        let corrupt = |text: &str| IncarnationError::Corrupt {
            path: path.clone(),
            content: text.chars().take(32).collect(),
        };
        let last = match fs::read_to_string(&path) {
            Ok(text) => {
                let last = text.trim().parse::<u32>().ok().filter(|last| *last < u32::MAX);
                last.ok_or_else(|| corrupt(&text))?
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(io(e)),
        };
        let next = number.max(u64::from(last) + 1);
        if next > u64::from(u32::MAX) {
            return Err(corrupt(&next.to_string()));
        }
        replace(data, &path, &next.to_string()).map_err(io)?;
        Ok(Self(next))
    }
}

/// Replaces a small file in the folder: after a crash it is the old one or the new one, and after this returned it is
/// the new one.
pub(crate) fn replace(folder: &Path, path: &Path, text: &str) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let mut file = fs::File::create(&new)?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_refuses_what_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Incarnation::next(dir.path(), "room-1").unwrap(), Incarnation(1));
        assert_eq!(Incarnation::next(dir.path(), "room-1").unwrap(), Incarnation(2));
        assert_eq!(Incarnation::next(dir.path(), "room-2").unwrap(), Incarnation(1));
        // A register's fences begin with 32 bits of it: a greater number would make new sessions look older than old ones.
        for bad in ["x", "4294967295", "4294967296", "18446744073709551615"] {
            fs::write(dir.path().join("room-1.incarnation"), bad).unwrap();
            assert!(matches!(Incarnation::next(dir.path(), "room-1"), Err(IncarnationError::Corrupt { .. })));
        }
    }
}
