//! What a broadcast asks for, parsed into what cannot be wrong.

use std::time::Duration;

use audience::{Audience, FilterValues};
use bytes::Bytes;
use cluster::accepted_ms_of;
use proto::{
    internal::{App, Filter, Job, JobState},
    v1,
};

use super::{Ops, letter::priority};
use crate::{
    error::{Error, Result},
    jobs::ring,
    when::Due,
};

/// The words of the API for `longwire.v1.Network`, by its numbers.
const NETWORKS: [&str; 7] = ["unknown", "wired", "wifi", "2g", "3g", "4g", "5g"];

/// A broadcast that can be made.
#[derive(Debug)]
pub(super) struct Asked {
    /// Empty = everyone.
    pub(super) audience: String,
    pub(super) filter: Filter,
    pub(super) ttl: Duration,
    /// 0 = as fast as the rooms can.
    pub(super) users_per_second: u32,
    pub(super) due: Due,
    urgent: bool,
    feedback: v1::Feedback,
}

impl Ops {
    /// Checks everything but the payload.
    pub(super) fn asked(&self, app: &App, request: &v1::BroadcastRequest) -> Result<Asked> {
        let ttl = self.ttl(request.ttl_s, app.default_ttl_s)?;
        // Checked here, so that no room ever meets an expression that it cannot read.
        let audience: Audience = request
            .audience
            .parse()
            .map_err(|e: audience::ParseError| Error::invalid("audience", e.to_string()))?;
        let feedback = feedback(request)?;
        let ahead = self.config().schedule_ahead_max;
        let due = Due::parse_in("start", request.start.as_ref(), cluster::now_ms(), ahead)?;
        Ok(Asked {
            audience: if audience.is_everyone() { String::new() } else { request.audience.clone() },
            filter: filter(request)?,
            ttl,
            users_per_second: request.users_per_second,
            due,
            urgent: priority(request.priority)?,
            feedback,
        })
    }
}

impl Asked {
    /// Whether it can be released as a whole, now.
    pub(super) fn is_plain(&self) -> bool {
        self.users_per_second == 0 && self.due == Due::Now
    }

    /// The job of it, which is due as `due` says.
    pub(super) fn into_job(self, app: &App, id: u64, due: Due, payload: Bytes) -> Job {
        let accepted_ms = accepted_ms_of(id);
        let mut job = Job {
            id,
            app: app.id,
            payload,
            audience: self.audience,
            filter: Some(self.filter),
            revision: 0,
            users_per_second: self.users_per_second,
            users_per_second_asked: self.users_per_second,
            urgent: self.urgent,
            min_ack_ratio: self.feedback.min_ack_ratio,
            max_latency_ms: self.feedback.max_latency_ms,
            accepted_ms,
            starts_ms: due.first_ms().max(accepted_ms),
            ttl_ms: u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX),
            ..Job::default()
        };
        if let Due::Local(minutes) = due {
            job.local_minutes = Some(minutes);
            // Of local time it may be long past for the first clocks: each step has a start of its own.
            job.starts_ms = ring::due_ms(&job).max(accepted_ms);
        }
        let state = if job.starts_ms > accepted_ms { JobState::Scheduled } else { JobState::Running };
        job.set_state(state);
        job
    }
}

fn filter(request: &v1::BroadcastRequest) -> Result<Filter> {
    let number = |(at, word): (usize, &String)| {
        let number = NETWORKS.iter().position(|known| known == word);
        number.map(|number| number as u32).ok_or_else(|| {
            let message = format!("{:?} is none of {}", super::shortened(word), NETWORKS.join(", "));
            Error::invalid(format!("networks[{at}]"), message)
        })
    };
    let mut networks =
        request.networks.iter().take(64).enumerate().map(number).collect::<Result<Vec<_>>>()?;
    networks.sort_unstable();
    networks.dedup();
    let whole = Filter {
        zones: request.zones.clone(),
        networks,
        version_from: request.version_from.clone(),
        version_below: request.version_below.clone(),
        hash_from: 0,
        hash_below: share(request.percent)?,
        utc_offset_min: None,
    };
    // Each field by itself, and then together, as a room will read it: so that the error names the one to blame.
    let none = FilterValues::default();
    let values = FilterValues {
        zones: &whole.zones,
        networks: &whole.networks,
        version_from: &whole.version_from,
        version_below: &whole.version_below,
        hash_below: whole.hash_below,
        ..none
    };
    for (field, values) in [
        ("zones", FilterValues { zones: values.zones, ..none }),
        ("networks", FilterValues { networks: values.networks, ..none }),
        ("version_from", FilterValues { version_from: values.version_from, ..none }),
        ("version_below", values),
    ] {
        audience::Filter::new(&values).map_err(|e| Error::invalid(field, e.to_string()))?;
    }
    Ok(whole)
}

/// Where a share of all users ends on the ring; 0 = the whole.
fn share(percent: Option<f64>) -> Result<u64> {
    match percent {
        None => Ok(0),
        Some(percent) if percent > 0.0 && percent <= 100.0 => {
            let below = (percent / 100.0 * ring::RING as f64).ceil() as u64;
            Ok(if below >= ring::RING { 0 } else { below.max(1) })
        }
        Some(percent) => {
            Err(Error::invalid("percent", format!("is {percent}; it must be over 0 and at most 100")))
        }
    }
}

fn feedback(request: &v1::BroadcastRequest) -> Result<v1::Feedback> {
    let Some(feedback) = request.feedback else { return Ok(v1::Feedback::default()) };
    let ratio = feedback.min_ack_ratio;
    if !(0.0..=1.0).contains(&ratio) {
        return Err(Error::invalid("feedback.min_ack_ratio", format!("is {ratio}; it must be 0 to 1")));
    }
    let bounds = ratio > 0.0 || feedback.max_latency_ms > 0;
    if bounds && request.users_per_second == 0 {
        let message = "a broadcast without a speed cannot be slowed: give users_per_second too";
        return Err(Error::invalid("feedback", message));
    }
    Ok(feedback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greater_share_holds_the_smaller_one() {
        assert_eq!(share(None).unwrap(), 0);
        assert_eq!(share(Some(100.0)).unwrap(), 0);
        assert_eq!(share(Some(50.0)).unwrap(), ring::RING / 2);
        assert_eq!(share(Some(1e-300)).unwrap(), 1);
        for bad in [0.0, -1.0, 100.1, f64::NAN, f64::INFINITY] {
            assert_eq!(share(Some(bad)).unwrap_err().field(), Some("percent"));
        }
    }
}
