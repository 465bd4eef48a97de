//! The certificates of this process: opened from its configuration, followed, and seen in its metrics.

use std::fmt;

use cluster::{PublicTls, Role, Tls, TlsFiles};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Metrics, StartError, TlsSettings};

/// Opens the certificates of a node; `None` where plaintext is configured.
///
/// # Errors
/// Names the key (`tls.ca`, `tls.cert`, `tls.key`), the file and what is wrong with it.
pub fn open(settings: &TlsSettings, role: Role) -> Result<Option<Tls>, StartError> {
    let TlsSettings::Mutual { ca, cert, key } = settings else { return Ok(None) };
    let files = TlsFiles { ca: ca.clone(), cert: cert.clone(), key: key.clone() };
    let tls = Tls::open(files, Some(role));
    Ok(Some(tls.map_err(|e| StartError::config(format!("tls.{}", e.file.as_str()), e))?))
}

/// Takes changed files into use until `cancel`, every few seconds or when `asked` counts; and shows in the metrics when
/// the certificate ends.
pub fn follow(
    tls: &Tls,
    metrics: &Metrics,
    asked: watch::Receiver<u64>,
    tasks: &TaskTracker,
    cancel: CancellationToken,
) {
    let seen = tls.clone();
    show(metrics, "tls", move || Facts {
        expires_at: seen.expires_at(),
        counts: vec![
            ("reloads", "New certificates taken into use", *seen.changes().borrow()),
            ("reloads_refused", "Changed certificate files that were not fit", seen.refusals()),
            (
                "connects_failed",
                "Connections to other nodes that failed in their handshake",
                seen.failed_connects(),
            ),
        ],
    });
    tasks.spawn(tls.clone().follow(asked, cancel));
}

/// The same for a certificate that devices see, by another name in the metrics; the files are looked at every few seconds.
pub fn follow_public(
    tls: &PublicTls,
    name: &'static str,
    metrics: &Metrics,
    tasks: &TaskTracker,
    cancel: CancellationToken,
) {
    let seen = tls.clone();
    show(metrics, name, move || Facts {
        expires_at: seen.expires_at(),
        counts: vec![
            ("reloads", "New certificates taken into use", seen.reloads()),
            ("reloads_refused", "Changed certificate files that were not fit", seen.refusals()),
        ],
    });
    // Nobody asks.
    tasks.spawn(tls.clone().follow(watch::channel(0).1, cancel));
}

/// What is known of a certificate.
struct Facts {
    expires_at: i64,
    counts: Vec<(&'static str, &'static str, u64)>,
}

fn show(metrics: &Metrics, name: &'static str, facts: impl Fn() -> Facts + Send + Sync + 'static) {
    metrics.register(name, |registry| registry.register_collector(Box::new(Seen(facts))));
}

/// Reads the numbers when they are asked for.
struct Seen<F>(F);

impl<F> fmt::Debug for Seen<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen").finish_non_exhaustive()
    }
}

impl<F: Fn() -> Facts + Send + Sync + 'static> Collector for Seen<F> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Facts { expires_at, counts } = (self.0)();
        let expires = ConstGauge::new(expires_at);
        encoder
            .encode_descriptor(
                "certificate_expiry_timestamp_seconds",
                "When this node's certificate ends, seconds since 1970",
                None,
                expires.metric_type(),
            )
            .and_then(|e| expires.encode(e))?;
        for (name, help, value) in counts {
            let counter = ConstCounter::new(value);
            encoder
                .encode_descriptor(name, help, None, counter.metric_type())
                .and_then(|e| counter.encode(e))?;
        }
        Ok(())
    }
}
