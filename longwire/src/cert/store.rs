//! The folder that certificates and keys lie in.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use service::ExitError;

pub(super) struct Folder(PathBuf);

impl Folder {
    /// One that is there already.
    pub(super) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(super) fn create(path: &Path) -> Result<Self, ExitError> {
        let folder = Self::at(path);
        fs::create_dir_all(path).map_err(|e| folder.failed("", &e))?;
        Ok(folder)
    }

    /// Certificate and key of the CA that is there.
    pub(super) fn authority(&self) -> Result<(String, String), ExitError> {
        let read = |name: &str| {
            fs::read_to_string(self.0.join(name)).map_err(|e| {
                let file = self.0.join(name);
                ExitError::usage(format!("{}: {e}; the CA must be there to sign with", file.display()))
            })
        };
        Ok((read("ca.pem")?, read("ca.key")?))
    }

    /// Whether the certificate and its key are there.
    pub(super) fn has(&self, name: &str) -> bool {
        [format!("{name}.pem"), format!("{name}.key")].iter().all(|file| self.0.join(file).exists())
    }

    pub(super) fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.0.join(name)).ok()
    }

    /// A CA that is replaced by mistake cuts every node off.
    pub(super) fn refuse_to_overwrite(&self, names: &[&str]) -> Result<(), ExitError> {
        let files = names.iter().flat_map(|name| [format!("{name}.pem"), format!("{name}.key")]);
        match files.map(|file| self.0.join(file)).find(|file| file.exists()) {
            None => Ok(()),
            Some(file) => Err(ExitError::usage(format!(
                "{} is there already: `longwire cert renew` makes new certificates from the CA that is there, \
                 --force makes all anew",
                file.display()
            ))),
        }
    }

    /// Writes `<name>.pem`, and `<name>.key` for the owner's eyes only. Each file is replaced at once: a node that reads
    /// it never finds half of it.
    pub(super) fn write(&self, name: &str, cert: &str, key: impl AsRef<str>) -> Result<(), ExitError> {
        self.replace(&format!("{name}.key"), key.as_ref(), 0o600)?;
        self.replace(&format!("{name}.pem"), cert, 0o644)
    }

    fn replace(&self, file: &str, text: &str, mode: u32) -> Result<(), ExitError> {
        let new = self.0.join(format!(".{file}.new"));
        let write = || {
            // One that a broken run left behind may have other rights.
            if let Err(e) = fs::remove_file(&new)
                && e.kind() != io::ErrorKind::NotFound
            {
                return Err(e);
            }
            let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
            out.write_all(text.as_bytes())?;
            out.sync_all()?;
            fs::rename(&new, self.0.join(file))
        };
        write().map_err(|e| self.failed(file, &e))
    }

    fn failed(&self, file: &str, error: &io::Error) -> ExitError {
        ExitError::failure(format!("cannot write {}: {error}", self.0.join(file).display()))
    }
}
