use std::{fs, io::Write as _, path::Path};

use super::*;

fn settings(path: &Path) -> LogSettings {
    LogSettings { file: Some(path.to_owned()), max_bytes: 64 << 10, keep: 2, ..LogSettings::default() }
}

fn start(path: &Path) -> LogFile {
    LogFile::start(&settings(path)).unwrap().unwrap()
}

#[test]
fn lines_are_in_the_file_after_a_flush() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("room.log");
    let mut log = start(&path);
    let line = "a line of thirty-two characters\n";
    for _ in 0..5_000 {
        log.write_all(line.as_bytes()).unwrap();
    }
    log.flush();
    let all =
        ["room.log.2", "room.log.1", "room.log"].map(|f| fs::read_to_string(folder.path().join(f)).unwrap());
    assert_eq!(all.concat(), line.repeat(5_000));
    assert_eq!((log.0.rotations.load(Ordering::Relaxed), log.0.dropped.load(Ordering::Relaxed)), (2, 0));
}

/// SIGHUP after a move: the next line is in a new file.
#[test]
fn reopens_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("room.log"), folder.path().join("moved"));
    let mut log = start(&path);
    log.write_all(b"one\n").unwrap();
    log.flush();
    fs::rename(&path, &moved).unwrap();
    log.reopen();
    log.write_all(b"two\n").unwrap();
    log.flush();
    assert_eq!((fs::read(&moved).unwrap(), fs::read(&path).unwrap()), (b"one\n".to_vec(), b"two\n".to_vec()));
}

/// Nobody asked: the thread sees by itself that the file was moved.
#[test]
fn a_move_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("room.log");
    let log = start(&path);
    fs::rename(&path, folder.path().join("moved")).unwrap();
    let by = Instant::now() + 3 * CHECK_EVERY;
    while !path.exists() {
        assert!(Instant::now() < by, "the path was not opened anew");
        thread::yield_now();
    }
    drop(log);
}

#[test]
fn a_full_disk_drops_and_counts_and_holds_nobody_up() {
    let mut log = start(Path::new("/dev/full"));
    for _ in 0..100 {
        log.write_all(b"a line\n").unwrap();
    }
    log.flush();
    assert_eq!(log.0.dropped.load(Ordering::Relaxed), 100);
}

/// A disk that hangs: what waits is bounded.
#[test]
fn what_waits_is_bounded() {
    let log = LogFile(Arc::default());
    let line = vec![b'x'; 1 << 20];
    for _ in 0..6 {
        log.0.push(&line);
    }
    assert_eq!((log.0.lock().bytes, log.0.dropped.load(Ordering::Relaxed)), (MAX_WAITING, 2));
}

#[test]
fn wrong_settings_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = |settings: LogSettings| LogFile::start(&settings).unwrap_err().to_string();
    let path = folder.path().join("no/room.log");
    assert!(error(settings(&path)).starts_with(&format!("log.file: {}: ", path.display())));
    let small = LogSettings { max_bytes: 1, ..settings(&folder.path().join("x")) };
    assert_eq!(error(small), "log.max_bytes: must be at least 65536");
    assert!(LogFile::start(&LogSettings::default()).unwrap().is_none());
}
