//! The worker's side: commands from standard input, reports to standard output.

use std::{
    io::{self, Write as _},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::frame;
use crate::fleet::{self, Command, Counts, FleetSpec, Report, SharedCounts};

/// Counts that only say that bytes went to and fro (heartbeats) are told this often.
const QUIET: Duration = Duration::from_millis(500);

/// What nobody waits for, deliveries of a broadcast that is not complete, is told this often: a telling costs both processes some
/// 50 µs, and a broadcast to all goes on for longer than this.
const GROWTH: Duration = Duration::from_millis(10);

/// While nothing but bytes changes, the ticker looks less and less often, down to this: a window of pushes that begins
/// then is late by at most this, once.
const LAZY: Duration = Duration::from_millis(50);

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
    let changed = Arc::new(Notify::new());
    let counts = SharedCounts::telling(changed.clone());
    let gap = Duration::from_millis(spec.tell_ms.into());
    let started = fleet::start(spec, counts.clone()).context("starting the event loop")?;
    let (commands, mut reports) = (started.commands, started.reports);
    let done = CancellationToken::new();
    thread::scope(|scope| -> anyhow::Result<()> {
        let ticker = scope.spawn(|| Ticker { counts: &counts, out: &out, gap }.run(&changed, &done));
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
        done.cancel();
        // Errors here mean that nobody listens any more, which is how a killed storm ends.
        let _ = writer.join().map_err(|_| anyhow::anyhow!("the reports' thread panicked"))?;
        let _ = ticker.join().map_err(|_| anyhow::anyhow!("the counts' thread panicked"))?;
        ended.map_err(|_| anyhow::anyhow!("the event loop panicked"))?
    })
}

/// Tells of counts when they have changed: soon if somebody may wait for them (a window of pushes, the next broadcast),
/// and without waking up for nothing, because a storm may have fifty workers on two cores.
struct Ticker<'a> {
    counts: &'a SharedCounts,
    out: &'a Mutex<io::Stdout>,
    /// The shortest time between two tellings.
    gap: Duration,
}

impl Ticker<'_> {
    /// Runs on a thread of its own: writing to the pipe blocks.
    fn run(&self, changed: &Notify, done: &CancellationToken) -> io::Result<()> {
        let timer = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (mut told, mut told_at, mut pause) = (Counts::default(), Instant::now(), self.gap);
        loop {
            timer.block_on(async {
                tokio::select! {
                    () = changed.notified() => {}
                    () = done.cancelled() => {}
                    () = self.counts.grown() => tokio::select! {
                        () = changed.notified() => {}
                        () = done.cancelled() => {}
                        () = tokio::time::sleep(GROWTH) => {}
                    },
                }
            });
            let ended = done.is_cancelled();
            if let Some(interval) = self.counts.take_interval() {
                tell(self.out, &Report::Interval(interval))?;
            }
            let now = self.counts.load();
            let news = now.tells_more_than(&told);
            if news || ended || told_at.elapsed() >= QUIET {
                tell(self.out, &Report::Counts(now))?;
                (told, told_at) = (now, Instant::now());
            }
            if ended {
                return Ok(());
            }
            pause = if news { self.gap } else { (pause * 2).min(LAZY.max(self.gap)) };
            timer.block_on(async { tokio::time::sleep(pause).await });
        }
    }
}

fn tell(out: &Mutex<io::Stdout>, report: &Report) -> io::Result<()> {
    let mut out = out.lock().map_err(|_| io::Error::other("another thread panicked while it wrote"))?;
    frame::write(&mut *out, report)?;
    out.flush()
}
