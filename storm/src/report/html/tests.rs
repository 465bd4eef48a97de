use roxmltree::{Document, ParsingOptions};

use super::*;
use crate::{
    fleet::Counts,
    latency::Percentiles,
    procfs::{Kernel, Machine},
    report::{Check, Figures, PhaseReport, ProcessUse, ProgramSample, Sample, Sent, ServerUse, StormUse},
};

fn latency(ms: f64, count: u64) -> Percentiles {
    Percentiles {
        count,
        mean_ms: ms,
        p50_ms: ms,
        p90_ms: ms * 2.0,
        p99_ms: ms * 5.0,
        p999_ms: ms * 8.0,
        max_ms: ms * 20.0,
    }
}

/// A run of a minute and a half that nobody ran.
fn fake() -> RunReport {
    let wave = |s: f64| (s / 7.0).sin() * 0.2 + 1.0;
    let sample = |second: u32| {
        let s = f64::from(second);
        let loaded = second >= 30;
        Sample {
            at_s: s,
            bound: (500.0 * s.min(20.0)) as u64,
            binds_per_s: if second <= 20 { 500.0 } else { 0.0 },
            messages_per_s: if loaded { 2000.0 * wave(s) } else { 0.0 },
            accepted_per_s: if loaded { 2000.0 } else { 0.0 },
            connect: latency(3.0 * wave(s), u64::from(second <= 20)),
            delivery: latency(2.0 * wave(s), u64::from(loaded)),
            servers: vec![ProgramSample {
                name: "longwire".into(),
                processes: 1,
                rss_bytes: 30_000_000 + 900 * 500 * second.min(20) as u64,
                cpus: if loaded { 0.8 } else { 0.1 },
            }],
            storm: ProgramSample { name: "storm".into(), processes: 3, rss_bytes: 20_000_000, cpus: 0.3 },
            kernel: Kernel { slab_bytes: 100_000_000 + u64::from(second) * 1_000_000, ..Kernel::default() },
            kernel_cpus: 0.4 * wave(s),
            ..Sample::default()
        }
    };
    let phase = |name: &str, kind, start: f64, end: f64| PhaseReport {
        name: name.to_owned(),
        kind,
        start_s: Some(start),
        end_s: Some(end),
        figures: Figures {
            delivery: latency(2.0, 5_000),
            ..Figures::new(
                end - start,
                Sent { pushes: 5_000, accepted: 5_000, ..Sent::default() },
                Counts { binds: 10_000, messages: 5_000, ..Counts::default() },
                &crate::fleet::Interval::default(),
            )
        },
        note: String::new(),
        failed: None,
    };
    let check = |key, ok| Check {
        phase: String::new(),
        key,
        wanted: "at most 20 ms".into(),
        got: "12.31 ms".into(),
        ok,
    };
    RunReport {
        name: "steady <&> \"quoted\" \u{7}".into(),
        description: "An ordinary day: </style><script>alert(1)</script> must stay text.".into(),
        started: "2026-01-01T00:00:00Z".into(),
        took_s: 90.0,
        seed: 7,
        run: 1,
        machine: Machine {
            cores: 2,
            processor: "A Processor & Co".into(),
            memory_bytes: 24 << 30,
            kernel: "Linux 6".into(),
        },
        storm: StormUse {
            version: "0",
            devices: 10_000,
            workers: 2,
            rss_bytes: 20_000_000,
            bytes_per_connection: Some(2000.0),
            own_bytes: 8_000_000,
            own_bytes_per_connection: Some(800.0),
            cpus: 0.3,
        },
        checks: vec![check("p99_ms", true), check("lost", false)],
        problems: vec!["worker 1 ended: <signal 9>".into()],
        whole: Figures {
            span_s: 90.0,
            sent: Sent { pushes: 5, accepted: 5, ..Sent::default() },
            lost: Some(0),
            delivery: latency(2.0, 5_000),
            ..Figures::default()
        },
        phases: vec![
            phase("open", "ramp", 0.0, 20.0),
            phase("quiet", "hold", 20.0, 30.0),
            phase("load", "unicast", 30.0, 90.0),
        ],
        servers: vec![ServerUse {
            name: "longwire".into(),
            processes: vec![ProcessUse { pid: 1, ..ProcessUse::default() }; 2],
            bytes_per_connection: Some(389.0),
        }],
        kernel_before: Kernel::default(),
        floor: None,
        reasons: [("connect: refused <by> nobody".to_owned(), 3)].into(),
        failures: [("busy".to_owned(), 2)].into(),
        samples: (1..=90).map(sample).collect(),
        script: "[fleet]\nusers = 1 # <b>\n".into(),
    }
}

fn parse(page: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(page, options).unwrap()
}

#[test]
fn a_page_is_well_formed_and_asks_nobody_for_anything() {
    let page = page(&fake());
    let document = parse(&page);
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        for attribute in node.attributes() {
            let fetches = matches!(attribute.name(), "src" | "href" | "srcset" | "data");
            assert!(!fetches, "<{} {}> fetches something", node.tag_name().name(), attribute.name());
        }
    }
    assert!(!page.contains("url(") && !page.contains("@import") && !page.contains("http"));
    let scripts = document.descendants().filter(|node| node.has_tag_name("script")).count();
    assert_eq!(scripts, 1, "what a scenario says became markup");
}

#[test]
fn lines_stay_inside_their_plots_and_gaps_are_gaps() {
    let page = page(&fake());
    let document = parse(&page);
    let plots: Vec<_> = document.descendants().filter(|node| node.has_tag_name("svg")).collect();
    assert_eq!(plots.len(), 7, "plots without anything to show are left out");
    for path in document.descendants().filter(|node| node.has_tag_name("path")) {
        let d = path.attribute("d").unwrap();
        let numbers: Vec<f64> = d
            .split(|c: char| c.is_ascii_alphabetic() || c == ' ')
            .filter_map(|number| number.parse().ok())
            .collect();
        assert!(numbers.iter().all(|n| (0.0..=640.0).contains(n)), "{d}");
    }
    let delivery = plots[2].descendants().find(|node| node.has_tag_name("path")).unwrap();
    // Nothing was delivered for 29 seconds; then there is one stroke.
    let values = delivery.attribute("data-v").unwrap();
    assert_eq!((values.split(',').count(), values.starts_with(&",".repeat(29))), (90, true));
    assert_eq!(delivery.attribute("d").unwrap().matches('M').count(), 1);
}

#[test]
fn an_empty_run_makes_a_page_too() {
    let report = RunReport {
        samples: Vec::new(),
        phases: Vec::new(),
        checks: Vec::new(),
        problems: Vec::new(),
        ..fake()
    };
    let page = page(&report);
    assert!(parse(&page).descendants().all(|node| !node.has_tag_name("svg")));
}

/// Not a test: leaves a page to look at.
#[test]
#[ignore = "writes a page to the folder given by STORM_PAGE"]
fn look_at_it() {
    std::fs::write(std::env::var("STORM_PAGE").unwrap(), page(&fake())).unwrap();
}
