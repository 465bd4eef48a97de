//! What a service logs that wants a human: a journey that leaves such lines behind has failed, whatever it saw.

use std::{
    fmt::Write as _,
    io,
    sync::{Arc, Mutex, Once, PoisonError},
};

use tracing_subscriber::{
    filter::Targets, fmt::MakeWriter, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Keeps the log of this process. Tests that share a process (`cargo test`) share it.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Vec<u8>>>);

static KEPT: std::sync::LazyLock<Kept> = std::sync::LazyLock::new(Kept::default);
static START: Once = Once::new();

/// Begins to keep what this process logs, its panics too.
pub(crate) fn keep() -> Kept {
    START.call_once(|| {
        let filter = std::env::var("E2E_LOG").unwrap_or_else(|_| "info,client=warn".to_owned());
        let filter: Targets = filter.parse().expect("E2E_LOG is like info,room=debug");
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(KEPT.clone());
        // A test of its own may have a subscriber already; then there is nothing to keep.
        let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let mut text = String::new();
            let _ = writeln!(text, "{panic}");
            KEPT.add(text.as_bytes());
            before(panic);
        }));
    });
    KEPT.clone()
}

impl Kept {
    fn add(&self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Kept {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Lines of a log that are errors, warnings or panics, but for those that hold one of `expected`.
pub fn in_log<'a>(log: &'a str, expected: &[&str]) -> Vec<&'a str> {
    let bad =
        |line: &&str| line.contains(" ERROR ") || line.contains(" WARN ") || line.contains("panicked at");
    log.lines().filter(bad).filter(|line| !expected.iter().any(|e| line.contains(e))).collect()
}
