//! A clock of a process that can be changed while it runs, by libfaketime.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

/// The file that holds by how much a process' clock is wrong. Its monotonic clock stays right, as it would.
#[derive(Clone, Debug)]
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// Right at first.
    pub(super) fn new(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let clock = Self { file: folder.join(format!("{name}.clock")) };
        clock.jump("+0")?;
        Ok(clock)
    }

    /// From within a second on, the clock is wrong by so much: `+1h`, `-1h`, `+0`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn jump(&self, by: &str) -> anyhow::Result<()> {
        // Replaced in one step: a process never reads half of it.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{by}\n"))?;
        Ok(fs::rename(new, &self.file)?)
    }

    /// What a process needs to follow it.
    pub(super) fn env(&self) -> anyhow::Result<Vec<(String, OsString)>> {
        let library = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
        ensure!(Path::new(&library).is_file(), "{library} is missing: apt-get install libfaketime");
        let file = self.file.canonicalize().context("the clock's file")?;
        Ok(vec![
            ("LD_PRELOAD".to_owned(), library.into()),
            ("FAKETIME_TIMESTAMP_FILE".to_owned(), file.into()),
            ("FAKETIME_CACHE_DURATION".to_owned(), "1".into()),
            ("FAKETIME_DONT_RESET".to_owned(), "1".into()),
            ("DONT_FAKE_MONOTONIC".to_owned(), "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".into()),
        ])
    }
}
