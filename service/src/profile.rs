//! CPU profiles on demand, in the format that `pprof` tools read. Nothing runs until one is asked for.

use std::{collections::HashMap, sync::Arc, time::Duration};

use pprof::{ProfilerGuardBuilder, Report};
use prost::Message as _;
use tokio::sync::Mutex;

/// Samples a second and CPU. Not a round number, so that sampling does not march with periodic work.
const FREQUENCY_HZ: i32 = 99;

/// Takes one profile at a time. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Profiler {
    running: Arc<Mutex<()>>,
}

impl Profiler {
    /// Samples all threads for this long.
    pub(crate) async fn run(&self, length: Duration) -> Result<Vec<u8>, String> {
        let _one = self.running.try_lock().map_err(|_| "a profile is being taken already".to_owned())?;
        // Unwinding inside these could meet a lock that the interrupted thread holds.
        let guard = ProfilerGuardBuilder::default()
            .frequency(FREQUENCY_HZ)
            .blocklist(&["libc", "libgcc", "pthread", "vdso"])
            .build()
            .map_err(|e| e.to_string())?;
        tokio::time::sleep(length).await;
        // Symbols are looked up here: slow, and not for a runtime worker.
        let report = tokio::task::spawn_blocking(move || guard.report().build().map(|r| encode(&r, length)));
        report.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }
}

/// The subset of the profile format that is used: samples with two values over a stack of locations.
mod format {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Profile {
        #[prost(message, repeated, tag = "1")]
        pub(super) sample_type: Vec<ValueType>,
        #[prost(message, repeated, tag = "2")]
        pub(super) sample: Vec<Sample>,
        #[prost(message, repeated, tag = "4")]
        pub(super) location: Vec<Location>,
        #[prost(message, repeated, tag = "5")]
        pub(super) function: Vec<Function>,
        #[prost(string, repeated, tag = "6")]
        pub(super) string_table: Vec<String>,
        #[prost(int64, tag = "10")]
        pub(super) duration_nanos: i64,
        #[prost(message, optional, tag = "11")]
        pub(super) period_type: Option<ValueType>,
        #[prost(int64, tag = "12")]
        pub(super) period: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ValueType {
        #[prost(int64, tag = "1")]
        pub(super) kind: i64,
        #[prost(int64, tag = "2")]
        pub(super) unit: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Sample {
        #[prost(uint64, repeated, tag = "1")]
        pub(super) location_id: Vec<u64>,
        #[prost(int64, repeated, tag = "2")]
        pub(super) value: Vec<i64>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Location {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(message, repeated, tag = "4")]
        pub(super) line: Vec<Line>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Line {
        #[prost(uint64, tag = "1")]
        pub(super) function_id: u64,
        #[prost(int64, tag = "2")]
        pub(super) line: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Function {
        #[prost(uint64, tag = "1")]
        pub(super) id: u64,
        #[prost(int64, tag = "2")]
        pub(super) name: i64,
        #[prost(int64, tag = "3")]
        pub(super) system_name: i64,
        #[prost(int64, tag = "4")]
        pub(super) filename: i64,
    }
}

/// Index 0 of the string table is the empty string.
#[derive(Default)]
struct Strings {
    table: Vec<String>,
    index: HashMap<String, i64>,
}

impl Strings {
    fn id(&mut self, text: &str) -> i64 {
        if self.table.is_empty() {
            self.table.push(String::new());
            self.index.insert(String::new(), 0);
        }
        if let Some(id) = self.index.get(text) {
            return *id;
        }
        let id = self.table.len() as i64;
        self.table.push(text.to_owned());
        self.index.insert(text.to_owned(), id);
        id
    }
}

fn encode(report: &Report, length: Duration) -> Vec<u8> {
    let mut strings = Strings::default();
    let mut profile = format::Profile::default();
    let (samples, count) = (strings.id("samples"), strings.id("count"));
    let (cpu, nanoseconds) = (strings.id("cpu"), strings.id("nanoseconds"));
    profile.sample_type = vec![
        format::ValueType { kind: samples, unit: count },
        format::ValueType { kind: cpu, unit: nanoseconds },
    ];
    profile.period_type = Some(format::ValueType { kind: cpu, unit: nanoseconds });
    profile.period = 1_000_000_000 / i64::from(FREQUENCY_HZ);
    profile.duration_nanos = length.as_nanos() as i64;
    // One function and one location for each (name, line): inlined frames are frames of their own here.
    let mut locations: HashMap<(i64, i64, i64), u64> = HashMap::new();
    for (frames, hits) in &report.data {
        let mut stack = Vec::new();
        for symbol in frames.frames.iter().flatten() {
            let name = strings.id(&symbol.name());
            let file = strings.id(&symbol.filename());
            let line = i64::from(symbol.lineno());
            let next = locations.len() as u64 + 1;
            let id = *locations.entry((name, file, line)).or_insert_with(|| {
                profile.function.push(format::Function { id: next, name, system_name: name, filename: file });
                profile.location.push(format::Location {
                    id: next,
                    line: vec![format::Line { function_id: next, line }],
                });
                next
            });
            stack.push(id);
        }
        let hits = *hits as i64;
        profile.sample.push(format::Sample { location_id: stack, value: vec![hits, hits * profile.period] });
    }
    profile.string_table = strings.table;
    profile.encode_to_vec()
}
