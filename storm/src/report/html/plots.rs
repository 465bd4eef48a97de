//! Which plots there are.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
};

use super::{
    chart::{Band, Chart, Line, Steps},
    scale::{bytes, ms, short},
};
use crate::{
    latency::Percentiles,
    report::{RunReport, Sample},
};

/// Programs with lines of their own; the kernel and the storm come on top.
const PROGRAMS: usize = 6;

pub(super) fn all(out: &mut String, report: &RunReport) -> fmt::Result {
    if report.samples.is_empty() {
        return Ok(());
    }
    let times: Vec<f64> = report.samples.iter().map(|sample| sample.at_s).collect();
    let bands: Vec<Band> = report
        .phases
        .iter()
        .filter_map(|phase| Some(Band { name: phase.name.clone(), from: phase.start_s?, to: phase.end_s? }))
        .collect();
    let chart = |title, note, lines, value: fn(f64) -> String, steps| Chart {
        title,
        note,
        times: &times,
        lines,
        bands: &bands,
        value,
        steps,
    };
    let line = |name: &str, of: fn(&Sample) -> f64| Line {
        name: name.to_owned(),
        points: report.samples.iter().map(of).collect(),
    };
    let present = |lines: Vec<Line>| -> Vec<Line> {
        lines.into_iter().filter(|line| line.points.iter().any(|value| *value > 0.0)).collect()
    };
    let latency = |of: fn(&Sample) -> &Percentiles| {
        let points = |figure: fn(&Percentiles) -> f64| -> Vec<f64> {
            let all = report.samples.iter().map(of);
            // A latency of nothing is a gap; on a logarithmic axis 1 µs is the least.
            all.map(|p| if p.count == 0 { f64::NAN } else { figure(p).max(0.001) }).collect()
        };
        vec![
            Line { name: "p50".into(), points: points(|p| p.p50_ms) },
            Line { name: "p90".into(), points: points(|p| p.p90_ms) },
            Line { name: "p99".into(), points: points(|p| p.p99_ms) },
            Line { name: "max".into(), points: points(|p| p.max_ms) },
        ]
    };
    let throughput = present(vec![
        line("messages", |s| s.messages_per_s),
        line("pushes accepted", |s| s.accepted_per_s),
        line("bindings", |s| s.binds_per_s),
        line("errors", |s| s.errors_per_s),
    ]);
    let deliveries = vec![line("deliveries", |s| s.deliveries_per_s)];
    let memory = "resident, all processes of a program together";
    let moments: Vec<String> = times.iter().map(|s| format!("{s:.2}")).collect();
    write!(out, "<section><h2>Over time</h2><div class=\"plots\" data-times=\"{}\">", moments.join(","))?;
    for chart in [
        chart(
            "Connections",
            "bound at this moment",
            vec![line("bound", |s| s.bound as f64)],
            short,
            Steps::Even,
        ),
        chart("Throughput", "per second", throughput, short, Steps::Even),
        chart("Deliveries of broadcasts", "per second", deliveries, short, Steps::Even),
        chart(
            "Message to the app",
            "from the moment it was due",
            latency(|s| &s.delivery),
            ms,
            Steps::Decades,
        ),
        chart("Message to its ack", "from the moment it was due", latency(|s| &s.acked), ms, Steps::Decades),
        chart("Broadcast to each device", "from its sending", latency(|s| &s.broadcast), ms, Steps::Decades),
        chart(
            "Connection to its binding",
            "TCP, TLS, token, bind",
            latency(|s| &s.connect),
            ms,
            Steps::Decades,
        ),
        chart("Memory", memory, memory_lines(report), bytes, Steps::Binary),
        chart(
            "Processors",
            "kept busy; the kernel's share is of the whole machine",
            cpu_lines(report),
            short,
            Steps::Even,
        ),
        chart("Memory of the kernel", "of the whole machine", kernel_lines(report), bytes, Steps::Binary),
    ] {
        chart.write(out)?;
    }
    out.push_str("</div></section>\n");
    Ok(())
}

/// The programs, those with the most memory first.
fn programs(report: &RunReport) -> Vec<String> {
    let names: BTreeSet<&str> =
        report.samples.iter().flat_map(|sample| &sample.servers).map(|one| one.name.as_str()).collect();
    let most = |name: &str| {
        let of = |sample: &Sample| {
            sample.servers.iter().find(|one| one.name == name).map_or(0, |one| one.rss_bytes)
        };
        report.samples.iter().map(of).max().unwrap_or(0)
    };
    let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
    names.sort_by_key(|name| std::cmp::Reverse(most(name)));
    names.truncate(PROGRAMS);
    names
}

fn memory_lines(report: &RunReport) -> Vec<Line> {
    let of = |sample: &Sample, name: &str| {
        sample.servers.iter().find(|one| one.name == name).map_or(f64::NAN, |one| one.rss_bytes as f64)
    };
    let mut lines: Vec<Line> = programs(report)
        .into_iter()
        .map(|name| Line { points: report.samples.iter().map(|sample| of(sample, &name)).collect(), name })
        .collect();
    let storm = report.samples.iter().map(|sample| sample.storm.rss_bytes as f64).collect();
    lines.push(Line { name: "storm".into(), points: storm });
    lines
}

fn cpu_lines(report: &RunReport) -> Vec<Line> {
    let of = |sample: &Sample, name: &str| {
        sample.servers.iter().find(|one| one.name == name).map_or(f64::NAN, |one| one.cpus)
    };
    let mut lines: Vec<Line> = programs(report)
        .into_iter()
        .map(|name| Line { points: report.samples.iter().map(|sample| of(sample, &name)).collect(), name })
        .collect();
    lines.push(Line { name: "storm".into(), points: report.samples.iter().map(|s| s.storm.cpus).collect() });
    lines
        .push(Line { name: "kernel".into(), points: report.samples.iter().map(|s| s.kernel_cpus).collect() });
    lines
}

fn kernel_lines(report: &RunReport) -> Vec<Line> {
    let line = |name: &str, of: fn(&Sample) -> u64| Line {
        name: name.to_owned(),
        points: report.samples.iter().map(|sample| of(sample) as f64).collect(),
    };
    vec![
        line("objects (slab)", |s| s.kernel.slab_bytes),
        line("TCP buffers", |s| s.kernel.tcp_bytes),
        line("page tables and stacks", |s| s.kernel.tables_bytes),
    ]
}
