//! The report as text.

use std::fmt;

use super::{Figures, PhaseReport, RunReport};

const MIB: f64 = 1_048_576.0;

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {:.1} s, {} devices in {} workers  (seed {}, run {:08x})",
            self.name, self.took_s, self.storm.devices, self.storm.workers, self.seed, self.run
        )?;
        let width = self.phases.iter().map(|phase| phase.name.chars().count()).max().unwrap_or(0);
        for phase in &self.phases {
            write_phase(f, phase, width)?;
        }
        write_whole(f, &self.whole)?;
        for (what, all) in [("connections", &self.reasons), ("pushes", &self.failures)] {
            for (reason, count) in all {
                writeln!(f, "{what}: {count} × {reason}")?;
            }
        }
        self.write_costs(f)?;
        for check in &self.checks {
            let phase = if check.phase.is_empty() { String::new() } else { format!("{}: ", check.phase) };
            let mark = if check.ok { "ok    " } else { "FAILED" };
            writeln!(f, "{mark} {phase}{} {}, was {}", check.key, check.wanted, check.got)?;
        }
        for problem in &self.problems {
            writeln!(f, "FAILED the run: {problem}")?;
        }
        match (self.is_ok(), self.checks.is_empty()) {
            (true, true) => writeln!(f, "VERDICT: nothing was expected, and nothing went wrong"),
            (true, false) => writeln!(f, "VERDICT: ok"),
            (false, _) => writeln!(f, "VERDICT: FAILED  (seed {})", self.seed),
        }
    }
}

fn write_phase(f: &mut fmt::Formatter<'_>, phase: &PhaseReport, width: usize) -> fmt::Result {
    let (Some(start), Some(end)) = (phase.start_s, phase.end_s) else {
        return writeln!(f, "{:>width$}  never began", phase.name);
    };
    write!(f, "{:>width$}  {start:>7.1} to {end:>7.1} s  {:<9}", phase.name, phase.kind)?;
    let figures = &phase.figures;
    for (count, rate, what) in [
        (figures.counts.binds, figures.binds_per_s, "bindings"),
        (figures.counts.messages + figures.counts.transients, figures.messages_per_s, "messages"),
        (figures.counts.broadcasts, figures.deliveries_per_s, "deliveries"),
    ] {
        if count > 0 {
            write!(f, "  {count} {what}, {rate:.0}/s")?;
        }
    }
    writeln!(f)?;
    if !phase.note.is_empty() {
        writeln!(f, "{:>width$}  {}", "", phase.note)?;
    }
    if let Some(failed) = &phase.failed {
        writeln!(f, "{:>width$}  FAILED: {failed}", "")?;
    }
    Ok(())
}

fn write_whole(f: &mut fmt::Formatter<'_>, whole: &Figures) -> fmt::Result {
    let (sent, counts) = (&whole.sent, &whole.counts);
    writeln!(
        f,
        "sent {} pushes and {} broadcasts, {} failed; arrived {} messages and {} deliveries",
        sent.pushes,
        sent.broadcasts,
        sent.failed,
        counts.messages + counts.transients,
        counts.broadcasts
    )?;
    let known = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
    writeln!(
        f,
        "lost {}, doubled {}, out of order {}; {} connections cut on purpose, {} ended otherwise, {} bound at the end",
        known(whole.lost),
        known(whole.doubled),
        known(whole.disordered),
        counts.churned,
        counts.disconnects,
        counts.bound
    )?;
    for (what, latency) in [
        ("connect to bound:", &whole.connect),
        ("to acceptance:", &whole.accept),
        ("to the app:", &whole.delivery),
        ("to the ack:", &whole.acked),
        ("broadcasts, each:", &whole.broadcast),
    ] {
        if latency.count > 0 {
            writeln!(f, "{what:<18} {latency}")?;
        }
    }
    Ok(())
}

impl RunReport {
    fn write_costs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for server in &self.servers {
            let rss: u64 = server.processes.iter().map(|one| one.rss_bytes).sum();
            let cpus: f64 = server.processes.iter().map(|one| one.cpus).sum();
            write!(
                f,
                "server {} × {}: {:.1} MiB resident, {cpus:.2} processors busy",
                server.name,
                server.processes.len(),
                rss as f64 / MIB
            )?;
            match server.bytes_per_connection {
                Some(bytes) => writeln!(f, ", grown by {bytes:.0} bytes a connection")?,
                None => writeln!(f)?,
            }
        }
        let storm = &self.storm;
        write!(
            f,
            "storm: {:.1} MiB resident ({:.1} its own), {:.2} processors busy",
            storm.rss_bytes as f64 / MIB,
            storm.own_bytes as f64 / MIB,
            storm.cpus
        )?;
        if let (Some(bytes), Some(own)) = (storm.bytes_per_connection, storm.own_bytes_per_connection) {
            write!(f, ", {bytes:.0} ({own:.0}) bytes a connection")?;
        }
        writeln!(f)?;
        if let Some(bytes) = self.kernel_bytes_per_connection() {
            writeln!(f, "kernel: grown by {bytes:.0} bytes a connection (both ends, if both are here)")?;
        }
        if let Some(floor) = &self.floor {
            write!(f, "floor: the bare loop sends {:.0}/s", floor.sends_per_second)?;
            match self.floor_ratio() {
                Some(ratio) => writeln!(f, "; the busiest phase reached x{ratio:.2} of it")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}
