//! `cert` on the command line.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `cert`.
#[derive(Clone, Debug, Subcommand)]
pub enum Cert {
    /// Make a CA, and certificates for all roles, for operators and for etcd.
    Init(CertInit),
    /// Make new certificates from the CA that is there; nodes take them without a restart.
    Renew(CertFiles),
}

/// Which certificates.
#[derive(Clone, Debug, Args)]
pub struct CertFiles {
    /// Folder of the files.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// A further name or IP address of etcd's members; repeat for more.
    #[arg(long = "host", value_name = "NAME")]
    pub hosts: Vec<String>,
    /// How long the certificates are valid. The CA itself is for ten years.
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub days: u32,
}

/// `cert init`.
#[derive(Clone, Debug, Args)]
pub struct CertInit {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub files: CertFiles,
    /// Replace what is there, the CA too.
    #[arg(long)]
    pub force: bool,
    /// Sign with the CA that is there.
    #[arg(long)]
    pub keep_ca: bool,
    /// Make only what is not there yet, and end well if that is nothing: for a step that runs at every start.
    #[arg(long, conflicts_with_all = ["force", "keep_ca"])]
    pub if_absent: bool,
}
