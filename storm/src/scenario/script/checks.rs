//! `[expect]`: what a run, or a phase, must have been like.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bounds of what was measured. Each that is there is a line of the verdict; one that does not hold makes the run fail,
/// and so does one whose figure was never measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// Accepted and not arrived when the run ended, messages and broadcasts, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// Arrived more often than sent, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doubled: Option<u64>,
    /// Arrived in a place that did not ascend, or at the wrong user, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disordered: Option<u64>,
    /// Pushes and broadcasts that were not accepted, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<u64>,
    /// Connections that ended though the storm did not cut them, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disconnects: Option<u64>,
    /// Devices that will not come back by themselves, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gone: Option<u64>,
    /// Devices bound at the end, at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound: Option<u64>,
    /// Longest that a ramp may take until its last device is bound.
    #[serde(with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    pub bound_within: Option<Duration>,
    /// Median from the intended sending to the app on the device, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// 99th percentile of the same, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    /// 99.9th percentile of the same, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p999_ms: Option<f64>,
    /// The longest of the same, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ms: Option<f64>,
    /// 99th percentile to the device's ack, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_p99_ms: Option<f64>,
    /// 99th percentile to acceptance by a center, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_p99_ms: Option<f64>,
    /// 99th percentile from a broadcast's sending to each device, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broadcast_p99_ms: Option<f64>,
    /// 99th percentile from the beginning of a connection to its binding, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_p99_ms: Option<f64>,
    /// Bindings a second, at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connects_per_s: Option<f64>,
    /// Messages that reached their users a second, at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_per_s: Option<f64>,
    /// Deliveries of broadcasts a second, at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries_per_s: Option<f64>,
    /// Messages and deliveries a second as a share of the floor's bare loop of `send`, at least. Needs a `floor` phase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor_ratio: Option<f64>,
    /// Growth of the servers' resident memory for each connection, in bytes, at most. Needs servers to watch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_bytes_per_connection: Option<f64>,
    /// The same of the storm itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storm_bytes_per_connection: Option<f64>,
}
