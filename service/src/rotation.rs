//! A file that is moved aside when it is large, and followed when somebody else moves it.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// After a rotation that failed (the folder lost its rights) the file grows on for so long.
const ROTATE_AGAIN: Duration = Duration::from_secs(60);

/// Lines go to `path`; when it would grow over `max_bytes` it becomes `path.1`, that `path.2`, and so on to `keep`.
#[derive(Debug)]
pub(crate) struct Rotating {
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    /// None after an open that failed; each line tries again.
    open: Option<Open>,
    rotations: u64,
    failed_at: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    file: File,
    size: u64,
    /// Device and inode.
    identity: (u64, u64),
    /// A file, and no device or pipe: those are not to be moved.
    regular: bool,
    /// The last line was written in part.
    cut: bool,
}

impl Open {
    fn new(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { file, size: metadata.len(), identity, regular: metadata.is_file(), cut: false })
    }

    /// Writes a line; a part of it that a full disk took is ended before the next.
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.cut {
            self.part(b"\n")?;
            self.cut = false;
        }
        self.part(line)
    }

    fn part(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let whole = bytes.len();
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.size += n as u64;
                    bytes = &bytes[n..];
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.cut |= bytes.len() < whole;
                    return Err(e);
                }
            }
        }
        Ok(())
    }
}

impl Rotating {
    pub(crate) fn open(path: &Path, max_bytes: u64, keep: u32) -> io::Result<Self> {
        let open = Some(Open::new(path)?);
        Ok(Self { path: path.to_owned(), max_bytes, keep, open, rotations: 0, failed_at: None })
    }

    /// How often the file was moved aside for its size.
    pub(crate) fn rotations(&self) -> u64 {
        self.rotations
    }

    /// Writes one line, its end included.
    pub(crate) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let full =
            |open: &Open| open.regular && open.size > 0 && open.size + line.len() as u64 > self.max_bytes;
        let again = self.failed_at.is_none_or(|at| at.elapsed() >= ROTATE_AGAIN);
        if again && self.open.as_ref().is_some_and(full) {
            // A file that is too large is better than none.
            self.failed_at = self.rotate().is_err().then(Instant::now);
        }
        if self.open.is_none() {
            self.open = Some(Open::new(&self.path)?);
        }
        self.open.as_mut().map_or(Ok(()), |open| open.write(line))
    }

    /// Opens the path anew if the open file is not there any more.
    pub(crate) fn follow_path(&mut self) {
        let there = fs::metadata(&self.path).ok().map(|m| (m.dev(), m.ino()));
        if there.is_none() || there != self.open.as_ref().map(|open| open.identity) {
            // Where it cannot be opened, what is open is still somewhere; the next second tries again.
            if let Ok(open) = Open::new(&self.path) {
                self.open = Some(open);
            }
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        for n in (1..self.keep).rev() {
            match fs::rename(self.numbered(n), self.numbered(n + 1)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        if self.keep == 0 {
            fs::remove_file(&self.path)?;
        } else {
            fs::rename(&self.path, self.numbered(1))?;
        }
        self.rotations += 1;
        self.open = None;
        Ok(())
    }

    fn numbered(&self, n: u32) -> PathBuf {
        let mut name = OsString::from(self.path.as_os_str());
        name.push(format!(".{n}"));
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(max_bytes: u64, keep: u32) -> (tempfile::TempDir, PathBuf, Rotating) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("room.log");
        let rotating = Rotating::open(&path, max_bytes, keep).unwrap();
        (folder, path, rotating)
    }

    fn text(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn rotates_by_size_and_keeps_so_many() {
        let (folder, path, mut log) = start(10, 2);
        for line in ["one\n", "two\n", "three\n", "four\n", "five\n", "six\n", "a very long line\n", "end\n"]
        {
            log.write(line.as_bytes()).unwrap();
        }
        assert_eq!(text(&path), "end\n");
        assert_eq!(text(&log.numbered(1)), "a very long line\n");
        assert_eq!(text(&log.numbered(2)), "six\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        assert_eq!(log.rotations(), 5);
    }

    /// A restart goes on with the file, and counts what is in it.
    #[test]
    fn goes_on_with_what_is_there() {
        let (_folder, path, mut log) = start(10, 1);
        log.write(b"before\n").unwrap();
        let mut log = Rotating::open(&path, 10, 1).unwrap();
        log.write(b"a\n").unwrap();
        assert_eq!(text(&path), "before\na\n");
        log.write(b"after\n").unwrap();
        assert_eq!((text(&path).as_str(), text(&log.numbered(1)).as_str()), ("after\n", "before\na\n"));
    }

    #[test]
    fn keeping_none_starts_anew() {
        let (folder, path, mut log) = start(4, 0);
        log.write(b"one\n").unwrap();
        log.write(b"two\n").unwrap();
        assert_eq!(text(&path), "two\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// `logrotate` and people move the file; lines that come before that is seen go with it.
    #[test]
    fn follows_a_move() {
        let (folder, path, mut log) = start(1000, 2);
        log.write(b"one\n").unwrap();
        let moved = folder.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        log.write(b"two\n").unwrap();
        log.follow_path();
        log.write(b"three\n").unwrap();
        assert_eq!((text(&moved).as_str(), text(&path).as_str()), ("one\ntwo\n", "three\n"));

        // Moved, and somebody has made a new one in its place.
        fs::rename(&path, &moved).unwrap();
        fs::write(&path, "new\n").unwrap();
        log.follow_path();
        log.write(b"four\n").unwrap();
        assert_eq!(text(&path), "new\nfour\n");

        // A folder that is gone for a while loses no line that the open file can take.
        fs::remove_file(&path).unwrap();
        let aside = folder.path().with_extension("aside");
        fs::rename(folder.path(), &aside).unwrap();
        log.follow_path();
        log.write(b"five\n").unwrap();
        fs::rename(&aside, folder.path()).unwrap();
        log.follow_path();
        log.write(b"six\n").unwrap();
        assert_eq!(text(&path), "six\n");
    }

    /// A file system that is full fails each line, and nothing else.
    #[test]
    fn a_full_disk_is_an_error_of_the_line() {
        let mut log = Rotating::open(Path::new("/dev/full"), 1000, 2).unwrap();
        assert!(log.write(b"one\n").is_err());
        assert!(log.write(b"two\n").is_err());
        assert_eq!(log.rotations(), 0);
    }
}
