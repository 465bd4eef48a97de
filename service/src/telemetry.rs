//! Logging, with a filter that can be changed at run time.

use std::{
    io::{self, IsTerminal as _},
    sync::{Arc, Mutex, PoisonError},
};

use tracing_subscriber::{
    EnvFilter, Registry, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::{LogFormat, LogSettings, StartError};

/// Changes what is logged while the process runs. Clones share it.
#[derive(Clone)]
pub struct LogFilter {
    handle: Option<reload::Handle<EnvFilter, Registry>>,
    text: Arc<Mutex<String>>,
}

impl LogFilter {
    /// A filter that nothing listens to, for processes whose logging belongs to somebody else (tests).
    pub fn detached() -> Self {
        Self { handle: None, text: Arc::default() }
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
}

fn parse(text: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder().parse(text).map_err(|e| format!("{text:?} is no log filter: {e}"))
}

/// Starts logging to standard error.
///
/// # Errors
/// When the filter is not one, or logging was started before.
pub fn start(settings: &LogSettings) -> Result<LogFilter, StartError> {
    let filter = parse(&settings.filter).map_err(|reason| StartError::config("log.filter", reason))?;
    let (filter, handle) = reload::Layer::new(filter);
    let registry = tracing_subscriber::registry().with(filter);
    // Colours are for people: a log file or a pipe gets none.
    let colours = io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(io::stderr);
    match settings.format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    }
    .map_err(StartError::other)?;
    Ok(LogFilter { handle: Some(handle), text: Arc::new(Mutex::new(settings.filter.clone())) })
}
