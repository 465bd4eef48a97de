//! The report as one HTML page: no other file, no network, plots as inline SVG. It is well-formed XML too, so that a test
//! (and anybody's tools) can take it apart.

mod chart;
mod plots;
mod scale;
mod tables;

use std::fmt::{self, Write as _};

use super::RunReport;
use scale::{bytes, count, rate};

/// Looks, in light and dark.
const STYLE: &str = include_str!("page.css");

/// A cross hair over all plots; the page is complete without it.
const SCRIPT: &str = include_str!("page.js");

/// The whole page.
#[must_use]
pub fn page(report: &RunReport) -> String {
    let mut out = String::with_capacity(256 * 1024);
    // Writing to a string cannot fail.
    let _ = write(&mut out, report);
    out
}

fn write(out: &mut String, report: &RunReport) -> fmt::Result {
    let title = Text(&report.name);
    let (class, verdict) = match (report.is_ok(), report.checks.is_empty()) {
        (true, true) => ("ok", "nothing was expected, nothing went wrong"),
        (true, false) => ("ok", "as expected"),
        (false, _) => ("bad", "failed"),
    };
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <title>{title} · storm</title><style>{STYLE}</style></head><body><header>\
         <h1>{title} <span class=\"verdict {class}\">{verdict}</span></h1><p class=\"lead\">{}</p>\
         <p class=\"meta\">{} · {:.1} s · {} devices in {} workers · {} · {} cores, {} · {} · seed {} · storm {}</p></header>\n",
        Text(report.description.trim()),
        Text(&report.started),
        report.took_s,
        count(report.storm.devices.into()),
        report.storm.workers,
        Text(&report.machine.processor),
        report.machine.cores,
        bytes(report.machine.memory_bytes as f64),
        Text(&report.machine.kernel),
        report.seed,
        report.storm.version,
    )?;
    tiles(out, report)?;
    tables::verdict(out, report)?;
    plots::all(out, report)?;
    tables::phases(out, report)?;
    tables::latencies(out, report)?;
    tables::processes(out, report)?;
    tables::floor(out, report)?;
    tables::reasons(out, report)?;
    write!(
        out,
        "<section><h2>Scenario</h2><details><summary>as it was run, every setting written out</summary><pre>{}</pre>\
         </details></section>\n<script>{SCRIPT}</script></body></html>\n",
        Text(&report.script)
    )
}

/// What a reader looks for first.
fn tiles(out: &mut String, report: &RunReport) -> fmt::Result {
    let whole = &report.whole;
    let best = |of: fn(&super::Figures) -> f64| {
        report.phases.iter().map(|phase| of(&phase.figures)).fold(0.0, f64::max)
    };
    let most = report.samples.iter().map(|sample| sample.bound).max().unwrap_or(0).max(whole.counts.bound);
    let mut all = vec![
        ("connections at most", count(most)),
        ("bindings, busiest phase", rate(best(|f| f.binds_per_s))),
    ];
    let (messages, deliveries) = (best(|f| f.messages_per_s), best(|f| f.deliveries_per_s));
    if messages > 0.0 {
        all.push(("messages, busiest phase", rate(messages)));
        all.push(("message to the app, p50 / p99", spread(&whole.delivery)));
    }
    if deliveries > 0.0 {
        all.push(("deliveries of broadcasts, busiest phase", rate(deliveries)));
        all.push(("broadcast to each device, p50 / p99", spread(&whole.broadcast)));
    }
    if let (Some(lost), true) = (whole.lost, whole.sent.pushes + whole.sent.broadcasts > 0) {
        all.push(("lost", count(lost)));
    }
    let servers: Vec<f64> = report.servers.iter().filter_map(|server| server.bytes_per_connection).collect();
    if !servers.is_empty() {
        all.push(("servers, memory a connection", bytes(servers.iter().sum())));
    }
    if let Some(kernel) = report.kernel_bytes_per_connection() {
        all.push(("kernel, memory a connection", bytes(kernel)));
    }
    if let Some(storm) = report.storm.own_bytes_per_connection {
        all.push(("storm, its own memory a connection", bytes(storm)));
    }
    if let Some(ratio) = report.floor_ratio() {
        all.push(("busiest phase beside the bare loop", format!("×{ratio:.2}")));
    }
    out.push_str("<div class=\"tiles\">");
    for (what, value) in all {
        write!(out, "<div class=\"tile\"><b>{value}</b><span>{what}</span></div>")?;
    }
    out.push_str("</div>\n");
    Ok(())
}

fn spread(latency: &crate::latency::Percentiles) -> String {
    format!("{} / {}", scale::ms(latency.p50_ms), scale::ms(latency.p99_ms))
}

/// Text of a page: nothing in it is markup.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // XML has no way to write these at all.
                c if c.is_control() && !matches!(c, '\n' | '\t') => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
