//! Slows a paced job while its devices' answers break a bound, and says when it had better pause. No I/O and no clock.

use std::time::Duration;

use proto::internal::{Job, Progress};

/// A bound is judged when so many could have told: fewer are chance.
const EVIDENCE: u64 = 20;
/// A change of speed shows in the answers after some seconds; judged sooner, one bad moment would halve the speed many times.
const SETTLE: Duration = Duration::from_secs(2);
/// Below a part of what was asked for, or one user a second, slowing down is as good as a pause.
const LEAST: u32 = 64;
/// At the least speed a bound may be broken for so long.
const LAST_CHANCE: Duration = Duration::from_secs(10);

/// What is to be done with the job.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing.
    Keep,
    /// Users a second from now on, and why they are not those asked for (empty: they are).
    Speed(u32, String),
    /// Why.
    Pause(String),
}

/// What has been told of one run of a job.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    /// Counts at the beginning of this run: what was judged before a pause is not held against it after.
    ripe: u64,
    ripe_acked: u64,
    begun: bool,
    changed: Duration,
    at_least_since: Option<Duration>,
}

impl Judge {
    /// Judges what all rooms together have told at `now` (time since the job was taken up).
    pub(crate) fn judge(&mut self, now: Duration, job: &Job, told: &Progress) -> Verdict {
        if !self.begun || told.ripe < self.ripe || told.ripe_acked < self.ripe_acked {
            // Rooms that went took their counts along.
            *self = Judge {
                ripe: told.ripe,
                ripe_acked: told.ripe_acked,
                begun: true,
                changed: now,
                at_least_since: self.at_least_since,
            };
            return Verdict::Keep;
        }
        let (speed, asked) = (job.users_per_second, job.users_per_second_asked);
        let least = (asked / LEAST).max(1);
        let broken = self.broken(job, told);
        if speed > least || broken.is_none() {
            self.at_least_since = None;
        }
        match broken {
            Some(what) if speed <= least => {
                let since = *self.at_least_since.get_or_insert(now);
                match now.saturating_sub(since) >= LAST_CHANCE {
                    true => Verdict::Pause(format!(
                        "paused: {what}, for {} s at the least speed of {speed} users/s",
                        LAST_CHANCE.as_secs()
                    )),
                    false => Verdict::Keep,
                }
            }
            _ if now.saturating_sub(self.changed) < SETTLE => Verdict::Keep,
            Some(what) => {
                self.changed = now;
                let speed = (speed / 2).max(least);
                Verdict::Speed(speed, format!("slowed to {speed} of {asked} users/s: {what}"))
            }
            None if speed < asked => {
                self.changed = now;
                let speed = speed.saturating_add((asked / 10).max(1)).min(asked);
                let why = match speed < asked {
                    true => format!("recovers, at {speed} of {asked} users/s: its bounds are kept again"),
                    false => String::new(),
                };
                Verdict::Speed(speed, why)
            }
            None => Verdict::Keep,
        }
    }

    /// Which bound is broken, with the numbers. What nothing was told about is kept.
    fn broken(&self, job: &Job, told: &Progress) -> Option<String> {
        let (ripe, acked) = (told.ripe - self.ripe, told.ripe_acked - self.ripe_acked);
        let ratio = acked as f64 / ripe.max(1) as f64;
        if job.min_ack_ratio > 0.0 && ripe >= EVIDENCE && ratio < job.min_ack_ratio {
            return Some(format!(
                "{acked} of {ripe} ({ratio:.3}) have acked after 10 s; the bound is {}",
                job.min_ack_ratio
            ));
        }
        let acks: u64 = told.latency.iter().sum();
        let p95 = percentile(&told.latency, 0.95)?;
        let bound = job.max_latency_ms;
        (bound > 0 && acks >= EVIDENCE && p95 > f64::from(bound)).then(|| {
            format!("95 of 100 of the last {acks} acks took up to {p95:.0} ms; the bound is {bound} ms")
        })
    }
}

/// The time within which a share of the acks came, ms; bucket `i` counts those up to 2^i ms. Within a bucket they are taken to be
/// spread evenly.
pub(crate) fn percentile(buckets: &[u64], share: f64) -> Option<f64> {
    let all: u64 = buckets.iter().sum();
    let mut wanted = all as f64 * share;
    for (i, count) in buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
        let (low, high) = (if i == 0 { 0.0 } else { 2f64.powi(i as i32 - 1) }, 2f64.powi(i as i32));
        if wanted <= *count as f64 {
            return Some(low + (high - low) * wanted / *count as f64);
        }
        wanted -= *count as f64;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(speed: u32) -> Job {
        Job {
            users_per_second: speed,
            users_per_second_asked: 1_000,
            min_ack_ratio: 0.9,
            max_latency_ms: 500,
            ..Default::default()
        }
    }

    fn told(ripe: u64, ripe_acked: u64, latency: &[u64]) -> Progress {
        Progress { ripe, ripe_acked, latency: latency.to_vec(), ..Default::default() }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn nothing_is_judged_on_nothing() {
        let mut judge = Judge::default();
        for second in 0..60 {
            assert_eq!(judge.judge(at(second), &job(1_000), &told(0, 0, &[])), Verdict::Keep);
        }
        assert_eq!(judge.judge(at(61), &job(1_000), &told(19, 0, &[0; 20])), Verdict::Keep);
        let Verdict::Speed(500, why) = judge.judge(at(62), &job(1_000), &told(20, 3, &[])) else { panic!() };
        assert_eq!(
            why,
            "slowed to 500 of 1000 users/s: 3 of 20 (0.150) have acked after 10 s; the bound is 0.9"
        );
    }

    #[test]
    fn it_halves_recovers_by_a_tenth_and_pauses_at_last() {
        let (mut judge, mut job) = (Judge::default(), job(1_000));
        let slow = [0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 90];
        let mut speeds = Vec::new();
        let mut second = 0;
        let why = loop {
            match judge.judge(at(second), &job, &told(0, 0, &slow)) {
                Verdict::Keep => {}
                Verdict::Speed(speed, _) => {
                    job.users_per_second = speed;
                    speeds.push(speed);
                }
                Verdict::Pause(why) => break why,
            }
            second += 1;
        };
        assert_eq!(speeds, [500, 250, 125, 62, 31, 15]);
        assert_eq!(second, 12 + 1 + 10);
        assert_eq!(
            why,
            "paused: 95 of 100 of the last 100 acks took up to 996 ms; the bound is 500 ms, for 10 s at the least speed \
             of 15 users/s"
        );

        let mut judge = Judge::default();
        job.users_per_second = 850;
        let mut done = Vec::new();
        for second in 0..10 {
            if let Verdict::Speed(speed, why) = judge.judge(at(second), &job, &told(0, 0, &[50])) {
                job.users_per_second = speed;
                done.push((speed, why.is_empty()));
            }
        }
        assert_eq!(done, [(950, false), (1_000, true)]);
    }

    #[test]
    fn percentiles_are_those_of_the_buckets() {
        assert_eq!(percentile(&[], 0.5), None);
        assert_eq!(percentile(&[0, 0, 4], 0.5), Some(3.0));
        assert_eq!(percentile(&[1, 0, 0, 1], 0.95).unwrap().round(), 8.0);
    }
}
