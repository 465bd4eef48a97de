//! A file system that fills up.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

/// A file system in memory of a fixed size, below a folder. It is unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many MiB at `path`.
    ///
    /// # Errors
    /// When this is not root.
    pub fn mount(path: &Path, mib: u32) -> anyhow::Result<Self> {
        fs::create_dir_all(path)?;
        let size = format!("size={mib}m");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &size, "longwire-test"]).arg(path).output()?;
        let error = String::from_utf8_lossy(&mounted.stderr);
        ensure!(mounted.status.success(), "mounting a small file system takes root: {error}");
        Ok(Self { path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills what is free, but for so many KiB.
    ///
    /// # Errors
    /// When the ballast cannot be opened.
    pub fn fill(&self, but_kib: u64) -> anyhow::Result<()> {
        let mut ballast = fs::File::create(self.ballast())?;
        let block = [0; 4096];
        // Until nothing fits.
        while ballast.write_all(&block).is_ok() {}
        let length = ballast.metadata()?.len().saturating_sub(but_kib * 1024);
        ballast.set_len(length).context("shortening the ballast")
    }

    /// Makes room again.
    ///
    /// # Errors
    /// When it was not filled.
    pub fn free(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.ballast())?)
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whatever is still open goes with its process.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}
