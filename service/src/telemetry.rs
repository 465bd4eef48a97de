//! Logging, with a filter that can be changed at run time.

use std::{
    io::{self, IsTerminal as _},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing_subscriber::{
    Registry,
    filter::{LevelFilter, Targets},
    fmt::writer::BoxMakeWriter,
    layer::SubscriberExt as _,
    reload,
    util::SubscriberInitExt as _,
};

use crate::{LogFormat, LogSettings, Metrics, StartError, log_file::LogFile};

/// Changes what is logged while the process runs. Clones share it; with the last one the log file is flushed.
#[derive(Clone)]
pub struct LogFilter {
    handle: Option<reload::Handle<Targets, Registry>>,
    text: Arc<Mutex<String>>,
    file: Option<Arc<Flushed>>,
}

/// Waits for the file's thread, which ends with the process.
struct Flushed(LogFile);

impl Drop for Flushed {
    fn drop(&mut self) {
        self.0.flush();
    }
}

impl LogFilter {
    /// A filter that nothing listens to, for processes whose logging belongs to somebody else (tests).
    pub fn detached() -> Self {
        Self { handle: None, text: Arc::default(), file: None }
    }

    /// The present filter.
    pub fn get(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another filter in force.
    ///
    /// # Errors
    /// Says what is wrong with the text; the old filter stays.
    pub fn set(&self, text: &str) -> Result<(), String> {
        let filter = parse(text)?;
        if let Some(handle) = &self.handle {
            handle.reload(filter).map_err(|e| e.to_string())?;
        }
        text.clone_into(&mut self.text.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// Shows the log file in the metrics, and opens its path anew each time that `asked` counts (SIGHUP), until `cancel`.
    /// Does nothing without a log file.
    pub fn follow(
        &self,
        mut asked: watch::Receiver<u64>,
        metrics: &Metrics,
        tasks: &TaskTracker,
        cancel: CancellationToken,
    ) {
        let Some(file) = self.file.as_ref().map(|file| file.0.clone()) else { return };
        metrics.register("log", |registry| registry.register_collector(Box::new(file.clone())));
        tasks.spawn(async move {
            while let Some(Ok(())) = cancel.run_until_cancelled(asked.changed()).await {
                file.reopen();
            }
        });
    }
}

/// Reads `info,room=debug`: a level for modules and those below them, and one for all others (`off` unless it is said).
fn parse(text: &str) -> Result<Targets, String> {
    let parts: Vec<&str> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return Ok(Targets::new().with_default(LevelFilter::ERROR));
    }
    let plain = |c: char| c.is_alphanumeric() || "_-:=".contains(c);
    if let Some(part) = parts.iter().find(|part| !part.chars().all(plain)) {
        return Err(format!("{text:?} is no log filter: {part:?} is neither a level nor module=level"));
    }
    parts.join(",").parse().map_err(|e| format!("{text:?} is no log filter: {e}"))
}

/// Starts logging: to the file of the settings, or JSON to standard output and text to standard error.
///
/// # Errors
/// When the filter is not one, the file cannot be opened, or logging was started before.
pub fn start(settings: &LogSettings) -> Result<LogFilter, StartError> {
    let filter = parse(&settings.filter).map_err(|reason| StartError::config("log.filter", reason))?;
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    let file = LogFile::start(settings)?;
    // Colours are for people: a log file or a pipe gets none.
    let colours = file.is_none() && settings.format == LogFormat::Text && io::stderr().is_terminal();
    let writer = match (&file, settings.format) {
        (Some(file), _) => BoxMakeWriter::new(file.clone()),
        (None, LogFormat::Text) => BoxMakeWriter::new(io::stderr),
        (None, LogFormat::Json) => BoxMakeWriter::new(io::stdout),
    };
    let lines = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(writer);
    match settings.format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    }
    .map_err(StartError::other)?;
    let file = file.map(|file| Arc::new(Flushed(file)));
    Ok(LogFilter { handle: Some(handle), text: Arc::new(Mutex::new(settings.filter.clone())), file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_names_levels_and_modules() {
        let filter = parse(" info, room=debug,saver::engine=off ,").unwrap();
        assert_eq!(filter.default_level(), Some(LevelFilter::INFO));
        assert!(filter.would_enable("room::session", &tracing::Level::DEBUG));
        assert!(!filter.would_enable("saver::engine", &tracing::Level::ERROR));
        assert!(!filter.would_enable("center", &tracing::Level::DEBUG));
        let errors = parse("").unwrap();
        assert!(errors.would_enable("room", &tracing::Level::ERROR));
        assert!(!errors.would_enable("room", &tracing::Level::WARN));
    }

    #[test]
    fn what_is_no_filter_is_refused_with_its_part() {
        for (text, part) in
            [("info,room=loud", "room=loud"), ("all of it", "all of it"), ("[span]=info", "[span]")]
        {
            let reason = parse(text).err().unwrap();
            assert!(reason.contains(part), "{reason}");
        }
    }
}
