//! One process a data folder.

use std::{
    fs::{self, File, TryLockError},
    path::Path,
};

use service::StartError;

/// Held for as long as the process uses the folder. The system frees it when the process dies, however it dies.
pub(super) struct DataLock {
    _file: File,
}

impl DataLock {
    /// Makes the folder and takes it, or says who must end first.
    pub(super) fn take(data: &Path) -> Result<Self, StartError> {
        let fail = |e| StartError::other(format!("cannot use the data folder {}: {e}", data.display()));
        fs::create_dir_all(data).map_err(fail)?;
        let file =
            File::options().write(true).create(true).truncate(false).open(data.join("lock")).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StartError::other(format!(
                "the data folder {} is in use by another process; end that one, or name another folder with --data",
                data.display()
            ))),
            Err(TryLockError::Error(e)) => Err(fail(e)),
        }
    }
}
