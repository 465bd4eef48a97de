//! The tables of the page.

use std::fmt::{self, Write as _};

use super::{
    Text,
    scale::{bytes, count, ms, rate},
};
use crate::{latency::Percentiles, report::RunReport};

pub(super) fn verdict(out: &mut String, report: &RunReport) -> fmt::Result {
    let failed: Vec<_> =
        report.phases.iter().filter_map(|phase| Some((&phase.name, phase.failed.as_ref()?))).collect();
    if report.checks.is_empty() && report.problems.is_empty() && failed.is_empty() {
        return Ok(());
    }
    out.push_str(
        "<section><h2>Verdict</h2><table><thead><tr><th>of</th><th>figure</th><th>wanted</th><th>was</th><th></th></tr>\
         </thead><tbody>",
    );
    for check in &report.checks {
        let phase = if check.phase.is_empty() { "the whole run" } else { &check.phase };
        let (class, mark) = if check.ok { ("ok", "✓") } else { ("bad", "✗") };
        write!(
            out,
            "<tr class=\"{class}\"><td>{}</td><td><code>{}</code></td><td>{}</td><td>{}</td><td>{mark}</td></tr>",
            Text(phase),
            check.key,
            Text(&check.wanted),
            Text(&check.got)
        )?;
    }
    let whole = "the run".to_owned();
    for (what, why) in failed.into_iter().chain(report.problems.iter().map(|problem| (&whole, problem))) {
        write!(
            out,
            "<tr class=\"bad\"><td>{}</td><td colspan=\"3\">{}</td><td>✗</td></tr>",
            Text(what),
            Text(why)
        )?;
    }
    out.push_str("</tbody></table></section>\n");
    Ok(())
}

pub(super) fn phases(out: &mut String, report: &RunReport) -> fmt::Result {
    out.push_str(
        "<section><h2>Phases</h2><table class=\"figures\"><thead><tr><th>phase</th><th>kind</th><th>from</th><th>to</th>\
         <th>bindings</th><th>messages</th><th>deliveries</th><th>failed</th><th>to acceptance p99</th>\
         <th>to the app p50</th><th>p99</th><th>broadcast p50</th><th>p99</th></tr></thead><tbody>",
    );
    for phase in &report.phases {
        let f = &phase.figures;
        let when = |s: Option<f64>| s.map_or_else(|| "–".to_owned(), |s| format!("{s:.1} s"));
        let many = |n: u64, per_s: f64| match n {
            0 => "–".to_owned(),
            n => format!("{} <small>{}</small>", count(n), rate(per_s)),
        };
        let at = |p: &Percentiles, value: f64| if p.count == 0 { "–".to_owned() } else { ms(value) };
        write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            Text(&phase.name),
            phase.kind,
            when(phase.start_s),
            when(phase.end_s),
            many(f.counts.binds, f.binds_per_s),
            many(f.counts.messages + f.counts.transients, f.messages_per_s),
            many(f.counts.broadcasts, f.deliveries_per_s),
            count(f.sent.failed),
            at(&f.accept, f.accept.p99_ms),
            at(&f.delivery, f.delivery.p50_ms),
            at(&f.delivery, f.delivery.p99_ms),
            at(&f.broadcast, f.broadcast.p50_ms),
            at(&f.broadcast, f.broadcast.p99_ms),
        )?;
        let notes = [Some(&phase.note), phase.failed.as_ref()];
        for note in notes.into_iter().flatten().filter(|note| !note.is_empty()) {
            write!(out, "<tr class=\"note\"><td></td><td colspan=\"12\">{}</td></tr>", Text(note))?;
        }
    }
    out.push_str(
        "</tbody></table><p class=\"small\">Phases that overlap share what devices did and measured; what was sent is \
         each one's own.</p></section>\n",
    );
    Ok(())
}

pub(super) fn latencies(out: &mut String, report: &RunReport) -> fmt::Result {
    let whole = &report.whole;
    let all = [
        ("connection to its binding", &whole.connect),
        ("push to acceptance", &whole.accept),
        ("message to the app", &whole.delivery),
        ("message to its ack", &whole.acked),
        ("broadcast to each device", &whole.broadcast),
    ];
    if all.iter().all(|(_, latency)| latency.count == 0) {
        return Ok(());
    }
    out.push_str(
        "<section><h2>Latencies of the whole run</h2><table class=\"figures\"><thead><tr><th></th><th>samples</th>\
         <th>mean</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th></tr></thead><tbody>",
    );
    for (what, p) in all.into_iter().filter(|(_, latency)| latency.count > 0) {
        write!(out, "<tr><td>{what}</td><td>{}</td>", count(p.count))?;
        for value in [p.mean_ms, p.p50_ms, p.p90_ms, p.p99_ms, p.p999_ms, p.max_ms] {
            write!(out, "<td>{}</td>", ms(value))?;
        }
        out.push_str("</tr>");
    }
    out.push_str(
        "</tbody></table><p class=\"small\">Pushes at a rate count from the moment at which each was due, so what a slow \
         server makes later ones wait is in here.</p></section>\n",
    );
    Ok(())
}

pub(super) fn processes(out: &mut String, report: &RunReport) -> fmt::Result {
    out.push_str(
        "<section><h2>Processes</h2><table class=\"figures\"><thead><tr><th>program</th><th>processes</th><th>resident</th>\
         <th>peak</th><th>grown</th><th>grown a connection</th><th>processors busy</th></tr></thead><tbody>",
    );
    let each = |bytes_each: Option<f64>| bytes_each.map_or_else(|| "–".to_owned(), bytes);
    for server in &report.servers {
        let all = &server.processes;
        write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.2}</td></tr>",
            Text(&server.name),
            all.len(),
            bytes(all.iter().map(|one| one.rss_bytes as f64).sum()),
            bytes(all.iter().map(|one| one.rss_peak_bytes as f64).sum()),
            bytes(all.iter().map(|one| one.rss_grown_bytes as f64).sum()),
            each(server.bytes_per_connection),
            all.iter().map(|one| one.cpus).sum::<f64>()
        )?;
    }
    let storm = &report.storm;
    write!(
        out,
        "<tr><td>storm</td><td>{}</td><td>{}</td><td>–</td><td>–</td><td>{} in all, {} its own</td><td>{:.2}</td></tr>\
         </tbody></table>",
        storm.workers,
        bytes(storm.rss_bytes as f64),
        each(storm.bytes_per_connection),
        each(storm.own_bytes_per_connection),
        storm.cpus
    )?;
    if report.servers.iter().any(|server| server.processes.len() > 1) {
        out.push_str(
            "<details><summary>each process</summary><table class=\"figures\"><thead><tr><th>program</th><th>pid</th>\
             <th>resident</th><th>peak</th><th>grown</th><th>processors busy</th></tr></thead><tbody>",
        );
        for (server, one) in report.servers.iter().flat_map(|s| s.processes.iter().map(move |one| (s, one))) {
            write!(
                out,
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.2}</td></tr>",
                Text(&server.name),
                one.pid,
                bytes(one.rss_bytes as f64),
                bytes(one.rss_peak_bytes as f64),
                bytes(one.rss_grown_bytes as f64),
                one.cpus
            )?;
        }
        out.push_str("</tbody></table></details>");
    }
    out.push_str("</section>\n");
    Ok(())
}

pub(super) fn floor(out: &mut String, report: &RunReport) -> fmt::Result {
    let Some(floor) = &report.floor else { return Ok(()) };
    write!(
        out,
        "<section><h2>Floor</h2><p>What the kernel allowed in the same run: a bare loop of <code>send</code>, {} a second.",
        count(floor.sends_per_second.round().max(0.0) as u64)
    )?;
    if let Some(ratio) = report.floor_ratio() {
        write!(out, " The busiest phase reached ×{ratio:.2} of it.")?;
    }
    writeln!(out, "</p><pre>{}</pre></section>", Text(&floor.to_string()))
}

pub(super) fn reasons(out: &mut String, report: &RunReport) -> fmt::Result {
    if report.reasons.is_empty() && report.failures.is_empty() {
        return Ok(());
    }
    out.push_str(
        "<section><h2>What failed or ended</h2><table><thead><tr><th>what</th><th>why</th><th>how often</th></tr></thead>\
         <tbody>",
    );
    for (what, all) in [("connections", &report.reasons), ("pushes", &report.failures)] {
        for (reason, times) in all {
            write!(out, "<tr><td>{what}</td><td>{}</td><td>{}</td></tr>", Text(reason), count(*times))?;
        }
    }
    out.push_str("</tbody></table></section>\n");
    Ok(())
}
