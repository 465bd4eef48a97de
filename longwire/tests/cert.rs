//! `longwire cert` from end to end: what it makes is what the nodes take.

#![allow(clippy::unwrap_used, reason = "the lint knows only functions marked as tests")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use cluster::{Role, Tls, TlsFiles};

fn cert(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longwire"));
    command.arg("cert").args(words).arg("--out").arg(folder.join("certs"));
    command.output().unwrap()
}

fn made(folder: &Path, words: &[&str]) -> String {
    let output = cert(folder, words);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The line on standard error.
fn refused(folder: &Path, words: &[&str]) -> String {
    let output = cert(folder, words);
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn files(folder: &Path, name: &str) -> TlsFiles {
    let at = |file: &str| folder.join("certs").join(file);
    TlsFiles { ca: at("ca.pem"), cert: at(&format!("{name}.pem")), key: at(&format!("{name}.key")) }
}

fn all_open(folder: &Path) {
    for role in Role::ALL {
        Tls::open(files(folder, role.as_str()), Some(role)).unwrap();
    }
    Tls::open(files(folder, "operator"), None).unwrap();
    Tls::open(files(folder, "etcd"), None).unwrap();
}

#[test]
fn every_role_takes_its_certificate_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let said = made(folder.path(), &["init", "--host", "etcd.example", "--host", "10.1.2.3"]);
    assert!(said.contains("etcd.example") && said.contains("room.longwire.internal"), "{said}");
    all_open(folder.path());
    let error = Tls::open(files(folder.path(), "room"), Some(Role::Saver)).unwrap_err();
    assert!(error.reason.contains("a saver needs one for saver.longwire.internal"), "{error}");

    for entry in fs::read_dir(folder.path().join("certs")).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        let key = entry.path().extension().is_some_and(|e| e == "key");
        assert_eq!(mode, if key { 0o600 } else { 0o644 }, "{}", entry.path().display());
    }
}

#[test]
fn nothing_is_overwritten_unasked() {
    let folder = tempfile::tempdir().unwrap();
    made(folder.path(), &["init"]);
    let ca = fs::read(files(folder.path(), "room").ca).unwrap();
    let said = refused(folder.path(), &["init"]);
    assert!(said.contains("is there already") && said.contains("cert renew"), "{said}");
    assert_eq!(fs::read(files(folder.path(), "room").ca).unwrap(), ca);
    made(folder.path(), &["init", "--force"]);
    assert_ne!(fs::read(files(folder.path(), "room").ca).unwrap(), ca);
    all_open(folder.path());
}

#[test]
fn renewal_keeps_the_ca_and_the_names() {
    let folder = tempfile::tempdir().unwrap();
    made(folder.path(), &["init", "--host", "10.1.2.3"]);
    let before = files(folder.path(), "room");
    let read =
        |f: &TlsFiles| (fs::read(&f.ca).unwrap(), fs::read(&f.cert).unwrap(), fs::read(&f.key).unwrap());
    let (ca, cert, key) = read(&before);
    // A node that runs takes them without a restart: the old CA is the new one.
    let said = made(folder.path(), &["renew", "--days", "30"]);
    assert!(said.contains("10.1.2.3"), "{said}");
    let after = read(&before);
    assert_eq!(ca, after.0);
    assert!(cert != after.1 && key != after.2);
    all_open(folder.path());

    // A CA and a key that do not belong together are found before anything is signed.
    let other = tempfile::tempdir().unwrap();
    made(other.path(), &["init"]);
    fs::copy(other.path().join("certs/ca.key"), folder.path().join("certs/ca.key")).unwrap();
    assert!(refused(folder.path(), &["renew"]).contains("ca.key is not the key of ca.pem"));
    assert_eq!(read(&before), after);
}

#[test]
fn mistakes_leave_the_folder_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    assert!(refused(folder.path(), &["renew"]).contains("the CA must be there to sign with"));
    assert!(!folder.path().join("certs").exists());
    assert!(refused(folder.path(), &["init", "--host", "a b"]).contains("\"a b\" is no name of a host"));
    assert_eq!(fs::read_dir(folder.path().join("certs")).unwrap().count(), 0);
}

/// `longwire … | head` once ended in a panic, and `longwire up | head` without its drain.
#[test]
fn a_reader_that_has_gone_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_longwire"));
    let output = command
        .args(["cert", "init", "--out"])
        .arg(folder.path().join("certs"))
        .stdout(writer)
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    all_open(folder.path());
}
