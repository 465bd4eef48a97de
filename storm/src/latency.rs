//! Latencies and their percentiles.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer as _, V2Serializer},
};
use serde::{Deserialize, Serialize, de, ser};

/// Longer ones count as this long: a storm's time-outs are shorter.
const HIGHEST_NS: u64 = 600_000_000_000;

/// Three digits: an error of 0.1 % is far below what two runs differ by, and a histogram takes 200 KB.
const DIGITS: u8 = 3;

/// A histogram of nanoseconds. Takes no memory until something is recorded: most of the histograms of most workers
/// stay empty most of the time.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Option<Box<Histogram<u64>>>);

/// The usual figures of a histogram, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many were recorded.
    pub count: u64,
    /// Mean.
    pub mean_ms: f64,
    /// Median.
    pub p50_ms: f64,
    /// 90 of 100 are at most this.
    pub p90_ms: f64,
    /// 99 of 100 are at most this.
    pub p99_ms: f64,
    /// 999 of 1,000 are at most this.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, HIGHEST_NS, DIGITS).expect("the bounds are constants in order")
}

impl Latencies {
    /// Counts one latency.
    pub fn record_ns(&mut self, ns: u64) {
        self.0.get_or_insert_with(|| Box::new(empty())).saturating_record(ns);
    }

    /// Counts one latency.
    pub fn record(&mut self, latency: Duration) {
        self.record_ns(crate::clock::nanos(latency));
    }

    /// Adds all of another histogram.
    pub fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (_, None) => {}
            (Some(mine), Some(other)) => mine.add(&**other).expect("all histograms have the same bounds"),
            (mine @ None, Some(other)) => *mine = Some(other.clone()),
        }
    }

    /// How many were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, |recorded| recorded.len())
    }

    /// The usual figures.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        let Some(recorded) = &self.0 else { return Percentiles::default() };
        let ms = |ns: u64| ns as f64 / 1e6;
        Percentiles {
            count: recorded.len(),
            mean_ms: recorded.mean() / 1e6,
            p50_ms: ms(recorded.value_at_quantile(0.5)),
            p90_ms: ms(recorded.value_at_quantile(0.9)),
            p99_ms: ms(recorded.value_at_quantile(0.99)),
            p999_ms: ms(recorded.value_at_quantile(0.999)),
            max_ms: ms(recorded.max()),
        }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("none");
        }
        write!(
            f,
            "p50 {:.2}  p90 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2} ms  ({} samples)",
            self.p50_ms, self.p90_ms, self.p99_ms, self.p999_ms, self.max_ms, self.count
        )
    }
}

impl Serialize for Latencies {
    fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        if let Some(recorded) = &self.0 {
            V2Serializer::new().serialize(&**recorded, &mut bytes).map_err(ser::Error::custom)?;
        }
        serializer.serialize_str(&STANDARD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Latencies {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(Self::default());
        }
        let bytes = STANDARD.decode(text).map_err(de::Error::custom)?;
        let read: Histogram<u64> =
            Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(de::Error::custom)?;
        let mut same_bounds = empty();
        same_bounds.add(&read).map_err(de::Error::custom)?;
        Ok(Self(Some(Box::new(same_bounds))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_journey_between_processes() {
        let mut a = Latencies::default();
        for ms in 1..=1000 {
            a.record(Duration::from_millis(ms));
        }
        a.record(Duration::from_secs(10_000));
        let b: Latencies = serde_json::from_str(&serde_json::to_string(&a).unwrap()).unwrap();
        assert_eq!(b.percentiles(), a.percentiles());
        let mut sum: Latencies = serde_json::from_str("\"\"").unwrap();
        assert_eq!(sum.percentiles(), Percentiles::default());
        sum.merge(&Latencies::default());
        sum.merge(&a);
        sum.merge(&b);
        assert_eq!(sum.count(), 2002);
        let p = sum.percentiles();
        assert!((p.p50_ms - 500.0).abs() < 2.0 && (p.p99_ms - 990.0).abs() < 2.0, "{p}");
    }
}
