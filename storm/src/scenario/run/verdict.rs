//! Compares what was measured with what was expected.

use std::time::Duration;

use crate::{
    report::{Check, Figures, RunReport},
    scenario::script::{Expect, Script},
};

/// All lines of the verdict.
pub(super) fn checks(script: &Script, report: &RunReport) -> Vec<Check> {
    let ramps = report.phases.iter().filter(|phase| phase.kind == "ramp");
    // From the beginning of the first to the end of the last.
    let begun = ramps.clone().filter_map(|phase| phase.start_s).reduce(f64::min);
    let bound = ramps.filter_map(|phase| phase.end_s).reduce(f64::max);
    let whole = Judged {
        phase: "",
        figures: &report.whole,
        ramp_s: begun.zip(bound).map(|(begun, bound)| bound - begun),
        floor: report.floor_ratio(),
        servers: total(report.servers.iter().map(|server| server.bytes_per_connection)),
        storm: report.storm.bytes_per_connection,
    };
    let mut all = judge(&script.expect, &whole);
    for (phase, told) in script.phases.iter().zip(&report.phases) {
        let span = told.start_s.zip(told.end_s).map(|(start, end)| end - start);
        let floor = report.floor.as_ref().map(|floor| floor.sends_per_second);
        let judged = Judged {
            phase: &phase.name,
            figures: &told.figures,
            ramp_s: span,
            floor: floor.map(|floor| told.figures.arrivals_per_s() / floor.max(1e-9)),
            ..whole
        };
        all.extend(judge(&phase.expect, &judged));
    }
    all
}

fn total(all: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    all.flatten().reduce(|a, b| a + b)
}

#[derive(Clone, Copy)]
struct Judged<'a> {
    phase: &'a str,
    figures: &'a Figures,
    ramp_s: Option<f64>,
    floor: Option<f64>,
    servers: Option<f64>,
    storm: Option<f64>,
}

struct Lines<'a> {
    phase: &'a str,
    all: Vec<Check>,
}

fn judge(expect: &Expect, judged: &Judged<'_>) -> Vec<Check> {
    let mut lines = Lines { phase: judged.phase, all: Vec::new() };
    let f = judged.figures;
    let some = |p: &crate::latency::Percentiles, ms: f64| (p.count > 0).then_some(ms);
    lines.count("lost", expect.lost, f.lost);
    lines.count("doubled", expect.doubled, f.doubled);
    lines.count("disordered", expect.disordered, f.disordered);
    lines.count("failed", expect.failed, Some(f.sent.failed));
    lines.count("disconnects", expect.disconnects, Some(f.counts.disconnects));
    lines.count("gone", expect.gone, Some(f.counts.gone));
    if let Some(least) = expect.bound {
        let bound = f.counts.bound;
        lines.line("bound", format!("at least {least}"), Some(bound.to_string()), bound >= least);
    }
    if let Some(within) = expect.bound_within {
        let took = judged.ramp_s.map(Duration::from_secs_f64);
        let got = took.map(|took| format!("{:.2} s", took.as_secs_f64()));
        let wanted = format!("within {}", humantime::format_duration(within));
        lines.line("bound_within", wanted, got, took.is_some_and(|took| took <= within));
    }
    lines.at_most("p50_ms", " ms", expect.p50_ms, some(&f.delivery, f.delivery.p50_ms));
    lines.at_most("p99_ms", " ms", expect.p99_ms, some(&f.delivery, f.delivery.p99_ms));
    lines.at_most("p999_ms", " ms", expect.p999_ms, some(&f.delivery, f.delivery.p999_ms));
    lines.at_most("max_ms", " ms", expect.max_ms, some(&f.delivery, f.delivery.max_ms));
    lines.at_most("ack_p99_ms", " ms", expect.ack_p99_ms, some(&f.acked, f.acked.p99_ms));
    lines.at_most("accept_p99_ms", " ms", expect.accept_p99_ms, some(&f.accept, f.accept.p99_ms));
    lines.at_most("broadcast_p99_ms", " ms", expect.broadcast_p99_ms, some(&f.broadcast, f.broadcast.p99_ms));
    lines.at_most("connect_p99_ms", " ms", expect.connect_p99_ms, some(&f.connect, f.connect.p99_ms));
    lines.at_least("connects_per_s", "/s", expect.connects_per_s, Some(f.binds_per_s));
    lines.at_least("messages_per_s", "/s", expect.messages_per_s, Some(f.messages_per_s));
    lines.at_least("deliveries_per_s", "/s", expect.deliveries_per_s, Some(f.deliveries_per_s));
    lines.at_least("floor_ratio", "", expect.floor_ratio, judged.floor);
    let (servers, storm) = (expect.server_bytes_per_connection, expect.storm_bytes_per_connection);
    lines.at_most("server_bytes_per_connection", " B", servers, judged.servers);
    lines.at_most("storm_bytes_per_connection", " B", storm, judged.storm);
    lines.all
}

impl Lines<'_> {
    fn line(&mut self, key: &'static str, wanted: String, got: Option<String>, ok: bool) {
        let got = got.unwrap_or_else(|| "not measured".to_owned());
        self.all.push(Check { phase: self.phase.to_owned(), key, wanted, got, ok });
    }

    fn count(&mut self, key: &'static str, most: Option<u64>, got: Option<u64>) {
        let Some(most) = most else { return };
        let wanted = if most == 0 { "0".to_owned() } else { format!("at most {most}") };
        self.line(key, wanted, got.map(|got| got.to_string()), got.is_some_and(|got| got <= most));
    }

    fn at_most(&mut self, key: &'static str, unit: &str, most: Option<f64>, got: Option<f64>) {
        let Some(most) = most else { return };
        let told = got.map(|got| format!("{got:.2}{unit}"));
        self.line(key, format!("at most {most}{unit}"), told, got.is_some_and(|got| got <= most));
    }

    fn at_least(&mut self, key: &'static str, unit: &str, least: Option<f64>, got: Option<f64>) {
        let Some(least) = least else { return };
        let told = got.map(|got| format!("{got:.2}{unit}"));
        self.line(key, format!("at least {least}{unit}"), told, got.is_some_and(|got| got >= least));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{latency::Percentiles, report::Sent};

    #[test]
    fn what_does_not_hold_or_was_not_measured_fails() {
        let figures = Figures {
            span_s: 2.0,
            sent: Sent { failed: 3, ..Sent::default() },
            lost: Some(0),
            delivery: Percentiles { count: 10, p99_ms: 21.0, ..Percentiles::default() },
            ..Figures::default()
        };
        let judged = Judged {
            phase: "load",
            figures: &figures,
            ramp_s: Some(5.0),
            floor: None,
            servers: None,
            storm: Some(380.0),
        };
        let expect = Expect {
            lost: Some(0),
            failed: Some(2),
            p99_ms: Some(20.0),
            ack_p99_ms: Some(1e9),
            bound_within: Some(Duration::from_secs(5)),
            storm_bytes_per_connection: Some(400.0),
            ..Expect::default()
        };
        let told: Vec<(&str, bool)> =
            judge(&expect, &judged).iter().map(|check| (check.key, check.ok)).collect();
        let wanted = [
            ("lost", true),
            ("failed", false),
            ("bound_within", true),
            ("p99_ms", false),
            ("ack_p99_ms", false),
            ("storm_bytes_per_connection", true),
        ];
        assert_eq!(told, wanted);
    }
}
