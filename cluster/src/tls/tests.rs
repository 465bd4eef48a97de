use std::{fs, path::Path};

use rcgen::date_time_ymd;

use super::{
    follow::{Follower, Looked},
    testing::Authority,
    *,
};

fn files(folder: &Path) -> TlsFiles {
    TlsFiles { ca: folder.join("ca.pem"), cert: folder.join("node.pem"), key: folder.join("node.key") }
}

fn open(folder: &Path) -> Result<Tls, TlsError> {
    Tls::open(files(folder), Some(Role::Room))
}

fn room(authority: &Authority) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    authority.write(folder.path(), "room.longwire.internal");
    folder
}

#[test]
fn good_files_are_taken_whoever_they_are_for() {
    let authority = Authority::new();
    let folder = room(&authority);
    let tls = open(folder.path()).unwrap();
    assert!(tls.expires_at() > 1_700_000_000);
    authority.write(folder.path(), "operator.longwire.internal");
    Tls::open(files(folder.path()), None).unwrap();
}

/// Each mistake names its file and says what it is.
#[test]
fn mistakes_are_named() {
    let authority = Authority::new();
    let refused = |wrong: &dyn Fn(&Path)| {
        let folder = room(&authority);
        wrong(folder.path());
        let error = open(folder.path()).unwrap_err();
        assert!(error.path.starts_with(folder.path()));
        (error.file, error.reason)
    };
    let put = |folder: &Path, file: &str, text: &str| fs::write(folder.join(file), text).unwrap();

    let (file, reason) = refused(&|f| fs::remove_file(f.join("ca.pem")).unwrap());
    assert!(file == TlsFile::Ca && reason.contains("No such file"), "{reason}");
    let (file, reason) = refused(&|f| put(f, "ca.pem", "nothing"));
    assert!(file == TlsFile::Ca && reason == "holds no certificate as PEM", "{reason}");
    let (file, reason) = refused(&|f| put(f, "node.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n"));
    assert!(file == TlsFile::Cert && reason.contains("PEM"), "{reason}");
    let (file, reason) = refused(&|f| put(f, "node.key", ""));
    assert!(file == TlsFile::Key && reason.contains("no private key"), "{reason}");

    let (file, reason) = refused(&|f| put(f, "node.key", &authority.issue("x").1));
    assert!(file == TlsFile::Key && reason.starts_with("is not the key of"), "{reason}");
    let (file, reason) = refused(&|f| put(f, "ca.pem", &Authority::new().pem()));
    assert!(file == TlsFile::Cert && reason.starts_with("is not valid under"), "{reason}");
    let (file, reason) = refused(&|f| authority.write(f, "saver.longwire.internal"));
    let expected = "is for saver.longwire.internal; a room needs one for room.longwire.internal";
    assert!(file == TlsFile::Cert && reason == expected, "{reason}");
    let (file, reason) = refused(&|f| {
        let (cert, key) = authority.issue_with("room.longwire.internal", |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        });
        put(f, "node.pem", &cert);
        put(f, "node.key", &key);
    });
    assert!(file == TlsFile::Cert && reason.contains("expired"), "{reason}");
}

#[test]
fn changed_files_are_taken_when_they_have_settled() {
    let authority = Authority::new();
    let folder = room(&authority);
    let tls = open(folder.path()).unwrap();
    let before = tls.server();
    let mut follower = Follower::new(tls.clone());
    assert_eq!(follower.look(false), Looked::Same);

    // Half of a replacement is no mistake yet.
    let (cert, key) = authority.issue("room.longwire.internal");
    fs::write(folder.path().join("node.pem"), cert).unwrap();
    assert_eq!(follower.look(false), Looked::Unsettled);
    fs::write(folder.path().join("node.key"), key).unwrap();
    assert_eq!(follower.look(false), Looked::Unsettled);
    assert_eq!(follower.look(false), Looked::Taken);
    assert_eq!(follower.look(false), Looked::Same);
    assert!(!Arc::ptr_eq(&before, &tls.server()));
    assert_eq!((*tls.changes().borrow(), tls.refusals()), (1, 0));

    // An operator who asks means what is there.
    authority.write(folder.path(), "room.longwire.internal");
    assert_eq!(follower.look(true), Looked::Taken);
}

#[test]
fn a_broken_file_is_refused_once_and_the_old_stays() {
    let authority = Authority::new();
    let folder = room(&authority);
    let tls = open(folder.path()).unwrap();
    let before = tls.server();
    let mut follower = Follower::new(tls.clone());
    let good = fs::read(folder.path().join("node.pem")).unwrap();

    fs::write(folder.path().join("node.pem"), "broken").unwrap();
    assert_eq!(follower.look(false), Looked::Unsettled);
    let Looked::Refused(error) = follower.look(false) else { panic!() };
    assert_eq!((error.file, error.reason.as_str()), (TlsFile::Cert, "holds no certificate as PEM"));
    assert_eq!(follower.look(false), Looked::Same);
    assert!(matches!(follower.look(true), Looked::Refused(_)), "who asks gets an answer");
    assert_eq!(tls.refusals(), 2);
    assert!(Arc::ptr_eq(&before, &tls.server()));

    fs::remove_file(folder.path().join("node.pem")).unwrap();
    assert_eq!(follower.look(false), Looked::Unsettled);
    assert!(matches!(follower.look(false), Looked::Refused(_)));

    fs::write(folder.path().join("node.pem"), good).unwrap();
    assert_eq!(follower.look(false), Looked::Same);
    assert_eq!(*tls.changes().borrow(), 0);
}

#[test]
fn a_public_certificate_needs_no_authority_and_is_followed() {
    let authority = Authority::new();
    let folder = tempfile::TempDir::new().unwrap();
    authority.write(folder.path(), "push.example");
    let files = PublicFiles { cert: folder.path().join("node.pem"), key: folder.path().join("node.key") };
    let tls = PublicTls::open(files.clone(), true).unwrap();
    let before = tls.server();
    assert_eq!(
        (before.send_tls13_tickets, before.ticketer.enabled(), before.alpn_protocols.len()),
        (1, true, 0)
    );
    let without = PublicTls::open(files, false).unwrap().server();
    assert_eq!((without.send_tls13_tickets, without.ticketer.enabled()), (0, false));

    let mut follower = Follower::new(tls.clone());
    assert_eq!(follower.look(false), Looked::Same);
    authority.write(folder.path(), "push.example");
    assert_eq!(follower.look(false), Looked::Unsettled);
    assert_eq!(follower.look(false), Looked::Taken);
    assert!(!Arc::ptr_eq(&before, &tls.server()));
    assert!(Arc::ptr_eq(&before.ticketer, &tls.server().ticketer), "tickets outlive certificates");
    fs::write(folder.path().join("node.key"), authority.issue("x").1).unwrap();
    let Looked::Refused(error) = follower.look(true) else { panic!() };
    assert!(error.file == TlsFile::Key && error.reason.starts_with("is not the key of"), "{error}");
    assert_eq!((tls.reloads(), tls.refusals()), (1, 1));

    // No device would take it.
    let (cert, key) = authority.issue_with("push.example", |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    fs::write(folder.path().join("node.pem"), cert).unwrap();
    fs::write(folder.path().join("node.key"), key).unwrap();
    let Looked::Refused(error) = follower.look(true) else { panic!() };
    assert_eq!((error.file, error.reason.as_str()), (TlsFile::Cert, "has expired"));
    assert!(tls.expires_at() > 1_700_000_000, "the one in use stays");
}
