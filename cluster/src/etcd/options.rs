//! How to reach etcd.

use std::{path::PathBuf, time::Duration};

use super::EtcdError;

/// etcd itself grants no shorter ones with its default election time.
pub const MIN_LEASE: Duration = Duration::from_secs(2);

/// How to reach etcd, and what to be called there.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// Members, `https://host:port`, or `http://host:port` without TLS.
    pub endpoints: Vec<String>,
    /// Name of the cluster: several can share an etcd.
    pub cluster: String,
    /// How long a silent node is still taken to be there; counted in whole seconds, at least two.
    pub lease: Duration,
    /// Certificates for `https` members.
    pub tls: Option<EtcdTls>,
}

/// Files that prove who is who. They are read again for every new connection, so replaced ones are used from then on.
#[derive(Clone, Debug)]
pub struct EtcdTls {
    /// CA of the members' certificates, PEM.
    pub ca: PathBuf,
    /// This client's certificate, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

impl EtcdOptions {
    /// Options with the default lease of 5 s and without certificates.
    pub fn new(endpoints: Vec<String>, cluster: impl Into<String>) -> Self {
        Self { endpoints, cluster: cluster.into(), lease: Duration::from_secs(5), tls: None }
    }

    /// Judges the values.
    ///
    /// # Errors
    /// Names the field and what is wrong with it.
    pub fn check(&self) -> Result<(), EtcdError> {
        let wrong = |field, reason: String| Err(EtcdError::Options { field, reason });
        if self.endpoints.is_empty() {
            return wrong("endpoints", "names no member".to_owned());
        }
        for endpoint in &self.endpoints {
            let rest = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
            if !rest.is_some_and(|rest| rest.contains(':') && rest.parse::<http::uri::Authority>().is_ok()) {
                return wrong(
                    "endpoints",
                    format!("{endpoint:?} is no http://host:port or https://host:port"),
                );
            }
            if endpoint.starts_with("https:") && self.tls.is_none() {
                return wrong("ca", format!("{endpoint} needs ca, cert and key"));
            }
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.cluster.is_empty() || !self.cluster.chars().all(plain) {
            return wrong("cluster", format!("{:?} is no name of letters, digits, - _ .", self.cluster));
        }
        if self.lease < MIN_LEASE {
            return wrong("lease", format!("must be at least {} s", MIN_LEASE.as_secs()));
        }
        Ok(())
    }

    /// The lease in etcd's unit.
    pub(crate) fn lease_seconds(&self) -> i64 {
        self.lease.as_millis().div_ceil(1000).try_into().unwrap_or(i64::MAX)
    }

    /// An answer that takes longer counts as none: the lease must survive a member that hangs, and a second one.
    pub(crate) fn patience(&self) -> Duration {
        (self.lease / 3).clamp(Duration::from_millis(700), Duration::from_secs(3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_values_are_named() {
        let good = EtcdOptions::new(vec!["http://127.0.0.1:2379".into()], "default");
        good.check().unwrap();
        let error = |o: EtcdOptions| o.check().unwrap_err().to_string();
        assert!(error(EtcdOptions { endpoints: vec![], ..good.clone() }).starts_with("endpoints: "));
        for bad in ["127.0.0.1:2379", "ftp://x:1", "http://x", "http://:x:"] {
            assert!(
                error(EtcdOptions { endpoints: vec![bad.into()], ..good.clone() }).starts_with("endpoints: ")
            );
        }
        assert!(
            error(EtcdOptions { endpoints: vec!["https://x:1".into()], ..good.clone() }).starts_with("ca: ")
        );
        assert!(error(EtcdOptions { cluster: "a/b".into(), ..good.clone() }).starts_with("cluster: "));
        assert!(error(EtcdOptions { lease: Duration::from_secs(1), ..good }).starts_with("lease: "));
    }
}
