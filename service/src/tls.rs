//! The certificates of this process: opened from its configuration, followed, and seen in its metrics.

use cluster::{Role, Tls, TlsFiles};
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
    metrics.register("tls", |registry| registry.register_collector(Box::new(Seen(tls.clone()))));
    tasks.spawn(tls.clone().follow(asked, cancel));
}

/// Reads the numbers when they are asked for.
#[derive(Debug)]
struct Seen(Tls);

impl Collector for Seen {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let expires = ConstGauge::new(self.0.expires_at());
        encoder
            .encode_descriptor(
                "certificate_expiry_timestamp_seconds",
                "When this node's certificate ends, seconds since 1970",
                None,
                expires.metric_type(),
            )
            .and_then(|e| expires.encode(e))?;
        let counters = [
            ("reloads", "New certificates taken into use", *self.0.changes().borrow()),
            ("reloads_refused", "Changed certificate files that were not fit", self.0.refusals()),
            (
                "connects_failed",
                "Connections to other nodes that failed in their handshake",
                self.0.failed_connects(),
            ),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            encoder
                .encode_descriptor(name, help, None, counter.metric_type())
                .and_then(|e| counter.encode(e))?;
        }
        Ok(())
    }
}
