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
        args::Cert::Init(args) => init(&args.files, args.force, args.keep_ca),
        args::Cert::Renew(files) => init(files, true, true),
    }
}

fn init(args: &args::CertFiles, force: bool, keep_ca: bool) -> Result<(), ExitError> {
    let folder = Folder::create(&args.out)?;
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
    println!("Made in {}, valid until {}:\n", out.display(), days.end_date());
    if kept {
        println!("  {:<32}the CA, as it was", "ca.pem");
    } else {
        println!("  {:<32}the CA: every node, etcd and the command line need it", "ca.pem");
        println!("  {:<32}signs certificates: keep it away from the nodes", "ca.key");
    }
    for profile in profiles {
        println!("  {:<32}{}", format!("{0}.pem {0}.key", profile.file), profile.purpose);
    }
    println!();
}
