//! A log file that never holds anybody up: lines go into a bounded queue, and a thread of its own writes them. What the
//! disk does not take, or not fast enough, is dropped and counted.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::counter::ConstCounter,
};
use tracing_subscriber::fmt::MakeWriter;

use crate::{LogSettings, StartError, rotation::Rotating};

/// Memory for lines that wait for the disk: some 20,000, several seconds of a log at its busiest.
const MAX_WAITING: usize = 4 << 20;
/// How often the path is compared with the open file. Who moves a log away sees a new one after this time.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// At the end of the process, for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Where lines go. Clones write to the same file.
#[derive(Clone, Debug)]
pub(crate) struct LogFile(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// There are lines, or the process ends.
    filled: Condvar,
    /// All lines are written.
    drained: Condvar,
    reopen: AtomicBool,
    dropped: AtomicU64,
    rotations: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The thread has taken lines that it has not written yet.
    writing: bool,
}

impl LogFile {
    /// Opens the file of the settings, if they name one, and starts its thread.
    pub(crate) fn start(settings: &LogSettings) -> Result<Option<Self>, StartError> {
        let Some(path) = &settings.file else { return Ok(None) };
        if settings.max_bytes < crate::settings::MIN_LOG_BYTES {
            let reason = format!("must be at least {}", crate::settings::MIN_LOG_BYTES);
            return Err(StartError::config("log.max_bytes", reason));
        }
        let wrong = |e: io::Error| StartError::config("log.file", format!("{}: {e}", path.display()));
        let rotating = Rotating::open(path, settings.max_bytes, settings.keep).map_err(wrong)?;
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        // It lives as long as the process: the subscriber does.
        let thread = thread::Builder::new().name("log".to_owned());
        thread.spawn(move || own.write(rotating)).map_err(StartError::other)?;
        Ok(Some(Self(shared)))
    }

    /// Opens the path anew before the next line.
    pub(crate) fn reopen(&self) {
        self.0.reopen.store(true, Ordering::Relaxed);
    }

    /// Waits for what is queued to be written, for a while.
    pub(crate) fn flush(&self) {
        let queue = self.0.lock();
        let waiting = |queue: &mut Queue| queue.writing || !queue.lines.is_empty();
        // A disk that does not answer must not keep the process.
        drop(self.0.drained.wait_timeout_while(queue, FLUSH_TIMEOUT, waiting));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread.
    fn write(&self, mut file: Rotating) {
        let (mut checked, mut told) = (Instant::now(), 0);
        loop {
            let lines = self.take();
            if checked.elapsed() >= CHECK_EVERY || self.reopen.swap(false, Ordering::Relaxed) {
                checked = Instant::now();
                file.follow_path();
            }
            let mut failed = false;
            for line in &lines {
                failed = file.write(line).is_err();
                if failed {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            self.rotations.store(file.rotations(), Ordering::Relaxed);
            let dropped = self.dropped.load(Ordering::Relaxed);
            // Only where the file takes lines again; once a batch, which is seldom.
            if dropped > told && !failed && !lines.is_empty() {
                tracing::warn!(lines = dropped - told, "log lines were dropped: the disk did not take them");
                told = dropped;
            }
        }
    }

    /// All lines that wait; none after a second without any.
    fn take(&self) -> VecDeque<Vec<u8>> {
        let mut queue = self.lock();
        queue.writing = false;
        if queue.lines.is_empty() {
            self.drained.notify_all();
            let waited = self.filled.wait_timeout_while(queue, CHECK_EVERY, |q| q.lines.is_empty());
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        queue.writing = !queue.lines.is_empty();
        queue.bytes = 0;
        std::mem::take(&mut queue.lines)
    }

    fn push(&self, line: &[u8]) {
        let mut queue = self.lock();
        if queue.bytes + line.len() > MAX_WAITING {
            drop(queue);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.to_owned());
        self.filled.notify_one();
    }
}

/// The subscriber writes each line with one call.
impl io::Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogFile {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Under `longwire_log_`.
impl Collector for LogFile {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counters = [
            ("lines_dropped", "Lines that the log file did not take", &self.0.dropped),
            ("rotations", "Log files closed because of their size", &self.0.rotations),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value.load(Ordering::Relaxed));
            let metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "log_file_tests.rs"]
mod tests;
