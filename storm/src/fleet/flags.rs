//! The flags about connections.

use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::line::{Cut, LineSpec, Mix, Trust};

/// How devices are connected.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LineOptions {
    /// What carries frames: native, tls, ws, ws-json, wss, wss-json, or several as mix:native=50,ws=30,wss=20
    #[arg(long, default_value = "native", value_name = "TRANSPORT")]
    pub transport: Mix,
    /// PEM file of the authorities whose certificates the devices take
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Take any certificate: TLS is measured, and nothing is proved about the server
    #[arg(long, conflicts_with = "ca")]
    pub insecure_tls: bool,
    /// Name that the room's certificate carries; default: the address connected to
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// Share of the devices that stop reading once they are bound, 0 to 1
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub slow: f64,
    /// How churn cuts: rst, fin, leave or silent, several times for several; default: rst and fin
    #[arg(long = "cut", value_name = "HOW")]
    pub cuts: Vec<Cut>,
    /// Ack nothing, to measure what delivery alone costs; what is stored stays stored
    #[arg(long)]
    pub no_acks: bool,
    /// Processor that the storm's own threads are kept on; several times for several, worker by worker
    #[arg(long = "pin", value_name = "CPU")]
    pub cpus: Vec<usize>,
}

impl LineOptions {
    /// What the workers are told.
    ///
    /// # Errors
    /// If the flags do not go together.
    pub fn spec(&self) -> anyhow::Result<LineSpec> {
        ensure!((0.0..=1.0).contains(&self.slow), "--slow is a share of the devices, 0 to 1");
        let trust = match (&self.ca, self.insecure_tls) {
            (Some(path), _) => Trust::Ca(path.clone()),
            (None, true) => Trust::Anybody,
            (None, false) => Trust::Nobody,
        };
        let known = trust != Trust::Nobody || !self.transport.has_tls();
        ensure!(known, "--transport {} needs --ca FILE, or --insecure-tls", self.transport);
        Ok(LineSpec {
            transports: self.transport.clone(),
            trust,
            server_name: self.server_name.clone(),
            slow: self.slow,
            cuts: self.cuts.clone(),
            no_acks: self.no_acks,
            cpus: self.cpus.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_needs_somebody_to_trust() {
        let mut options =
            LineOptions { transport: "mix:native=9,wss=1".parse().unwrap(), ..LineOptions::default() };
        assert!(options.spec().is_err());
        options.insecure_tls = true;
        assert_eq!(options.spec().unwrap().trust, Trust::Anybody);
        options.slow = 1.5;
        assert!(options.spec().is_err());
    }
}
