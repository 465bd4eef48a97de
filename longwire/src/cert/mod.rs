//! `longwire cert`: a CA of one's own, and the certificates of a cluster.

mod issue;
mod store;

use std::{collections::BTreeSet, path::Path};

use service::ExitError;

use crate::args;
use issue::{Authority, Days, Profile, certificates};
use store::Folder;

/// The CA's validity: replacing a CA means to touch every node, so it outlives many of its certificates.
const CA_DAYS: Days = Days(3650);

pub(crate) fn run(command: &args::Cert) -> Result<(), ExitError> {
    match command {
        args::Cert::Init(args) if args.if_absent => complete(&args.files),
        args::Cert::Init(args) => init(&args.files, args.force, args.keep_ca),
        args::Cert::Renew(files) => init(files, true, true),
    }
}

/// Makes what is missing. A run that was cut short has left a CA with some of its certificates, and all are signed
/// again; or the CA's key alone, and nothing is lost by another. The key may be kept elsewhere if all else is there.
fn complete(args: &args::CertFiles) -> Result<(), ExitError> {
    let folder = Folder::create(&args.out)?;
    let has_ca = folder.read("ca.pem").is_some();
    let profiles = certificates(&BTreeSet::new());
    if has_ca && profiles.iter().all(|profile| folder.has(profile.file)) {
        outln!("All is there in {}.", args.out.display());
        return Ok(());
    }
    let has_any = profiles.iter().any(|profile| folder.has(profile.file));
    init(args, has_ca || !has_any, has_ca)
}

fn init(args: &args::CertFiles, force: bool, keep_ca: bool) -> Result<(), ExitError> {
    let folder = if keep_ca { Folder::at(&args.out) } else { Folder::create(&args.out)? };
    let days = Days(args.days);
    let authority = if keep_ca {
        let (ca, key) = folder.authority()?;
        Authority::read(&ca, &key).map_err(|e| ExitError::usage(format!("{}: {e}", args.out.display())))?
    } else {
        Authority::new(Days(CA_DAYS.0.max(days.0))).map_err(ExitError::failure)?
    };
    // Who renews would lose a name by leaving it out.
    let mut hosts: BTreeSet<String> = args.hosts.iter().cloned().collect();
    if keep_ca {
        hosts.extend(folder.read("etcd.pem").and_then(|pem| issue::names(&pem)).unwrap_or_default());
    }
    let profiles = certificates(&hosts);

    let names = profiles.iter().map(|p| p.file);
    let all = if keep_ca { names.collect::<Vec<_>>() } else { names.chain(["ca"]).collect() };
    if !force {
        folder.refuse_to_overwrite(&all)?;
    }
    // All are made before the first is written: a host name that is none leaves the folder as it was.
    let mut issued = Vec::new();
    for profile in &profiles {
        issued.push(authority.issue(profile, days).map_err(ExitError::usage)?);
    }
    if let Some(key) = authority.new_key() {
        folder.write("ca", authority.pem(), key)?;
    }
    for (profile, (cert, key)) in profiles.iter().zip(&issued) {
        folder.write(profile.file, cert, key)?;
    }
    tell(&args.out, keep_ca, &profiles, days);
    Ok(())
}

fn tell(out: &Path, kept: bool, profiles: &[Profile], days: Days) {
    outln!("Made in {}, valid until {}:\n", out.display(), days.end_date());
    if kept {
        outln!("  {:<33}the CA, as it was", "ca.pem");
    } else {
        outln!("  {:<33}the CA: every node, etcd and the command line need it", "ca.pem");
        outln!("  {:<33}signs certificates: keep it away from the nodes", "ca.key");
    }
    for profile in profiles {
        outln!("  {:<33}{}", format!("{0}.pem {0}.key", profile.file), profile.purpose);
    }
    outln!("");
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A step that runs at every start of a cluster must not change a key, and must mend what a cut has left.
    #[test]
    fn only_what_is_not_there_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let files = args::CertFiles { out: folder.path().to_owned(), hosts: vec![], days: 30 };
        complete(&files).unwrap();
        let (ca, room) = (file("ca.pem"), file("room.pem"));
        complete(&files).unwrap();
        assert_eq!((file("ca.pem"), file("room.pem")), (ca.clone(), room));
        fs::remove_file(folder.path().join("saver.key")).unwrap();
        complete(&files).unwrap();
        assert_eq!(file("ca.pem"), ca);
        assert!(file("saver.key").contains("PRIVATE KEY"));
        fs::remove_file(folder.path().join("ca.key")).unwrap();
        complete(&files).unwrap();
        fs::remove_file(folder.path().join("saver.key")).unwrap();
        assert!(complete(&files).unwrap_err().to_string().contains("the CA must be there"));
    }

    #[test]
    fn a_run_that_was_cut_after_the_first_file_is_made_good() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.key"), "half a CA").unwrap();
        let files = args::CertFiles { out: folder.path().to_owned(), hosts: vec![], days: 30 };
        complete(&files).unwrap();
        assert!(folder.path().join("ca.pem").exists());
    }
}
