//! The worker's side: commands from standard input, reports to standard output.

use std::{
    io::{self, Write as _},
    sync::{Mutex, mpsc},
    thread,
    time::Duration,
};

use anyhow::Context as _;

use super::frame;
use crate::fleet::{self, Command, Counts, FleetSpec, Report, SharedCounts};

/// How often changed counts are told. A window of pushes and the next broadcast wait for them, so this adds at
/// most a millisecond to a round of many.
const TICK: Duration = Duration::from_millis(1);

/// Runs one worker to its end: when it is told to stop, or when the storm that started it is gone.
///
/// # Errors
/// If the storm does not speak as it should, or the worker cannot run.
pub fn run() -> anyhow::Result<()> {
    let mut input = io::stdin().lock();
    let spec: FleetSpec =
        frame::read(&mut input).context("reading the specification")?.context("no specification came")?;
    crate::limits::raise_open_files();
    let out = Mutex::new(io::stdout());
    let counts = SharedCounts::default();
    let started = fleet::start(spec, counts.clone()).context("starting the event loop")?;
    let (commands, mut reports) = (started.commands, started.reports);
    let (done, watch) = mpsc::sync_channel::<()>(0);
    thread::scope(|scope| -> anyhow::Result<()> {
        let ticker = scope.spawn(|| tell_counts(&counts, &out, watch));
        let writer = scope.spawn(|| {
            while let Some(report) = reports.blocking_recv() {
                tell(&out, &report)?;
            }
            io::Result::Ok(())
        });
        while let Some(command) = frame::read(&mut input).context("reading a command")? {
            let stop = matches!(command, Command::Stop);
            if commands.send(command).is_err() || stop {
                break;
            }
        }
        // The end of input is the storm's end too: its kernel closes the pipe however it ended.
        let _ = commands.send(Command::Stop);
        let ended = started.thread.join();
        drop(done);
        // Errors here mean that nobody listens any more, which is how a killed storm ends.
        let _ = writer.join();
        let _ = ticker.join();
        ended.map_err(|_| anyhow::anyhow!("the event loop panicked"))?
    })
}

#[expect(clippy::needless_pass_by_value, reason = "the receiver belongs to this thread")]
fn tell_counts(counts: &SharedCounts, out: &Mutex<io::Stdout>, done: mpsc::Receiver<()>) -> io::Result<()> {
    let mut told = Counts::default();
    loop {
        let ended = !matches!(done.recv_timeout(TICK), Err(mpsc::RecvTimeoutError::Timeout));
        let now = counts.load();
        if now != told {
            tell(out, &Report::Counts(now))?;
            told = now;
        }
        if ended {
            return Ok(());
        }
    }
}

fn tell(out: &Mutex<io::Stdout>, report: &Report) -> io::Result<()> {
    let mut out = out.lock().map_err(|_| io::Error::other("another thread panicked while it wrote"))?;
    frame::write(&mut *out, report)?;
    out.flush()
}
