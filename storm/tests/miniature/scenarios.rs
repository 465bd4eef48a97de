//! The scenarios against servers in miniature, with the devices in this process and in worker processes.

use std::time::Duration;

use storm::{
    floor::{self, FloorOptions},
    scenario::{
        Api, Devices,
        broadcast::{self, BroadcastOptions},
        connect::{self, ConnectOptions},
        push::{self, PushOptions},
    },
    verify::{self, VerifyOptions},
};

use super::fake::{Fake, Fault};

/// Two worker processes with half of the devices each.
fn devices(fake: &Fake) -> Devices {
    Devices {
        users: 30,
        rooms: vec![fake.room],
        pids: vec![std::process::id()],
        processes: Some(2),
        worker_program: Some(env!("CARGO_BIN_EXE_storm").into()),
        ..Devices::default()
    }
}

fn api(fake: &Fake) -> Api {
    Api { centers: vec![fake.center.clone()], key: Some("lwk_test".into()), ..Api::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_opens_all_and_brings_back_what_was_cut() {
    let fake = Fake::start(Fault::None).await;
    let options = ConnectOptions {
        devices: devices(&fake),
        api: api(&fake),
        hold: Duration::from_secs(2),
        churn: 20.0,
        quiet: true,
    };
    let report = connect::run(&options).await.unwrap();
    println!("{report}");
    assert!(report.is_ok());
    assert!(report.counts.churned > 10 && report.counts.binds > 30);
    assert_eq!((report.opening.workers, report.servers.len()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn push_counts_what_comes_back_with_a_window_and_at_a_rate() {
    let fake = Fake::start(Fault::None).await;
    for rate in [None, Some(500.0)] {
        let options = PushOptions {
            devices: Devices { processes: rate.is_none().then_some(2), ..devices(&fake) },
            api: api(&fake),
            rate,
            seconds: Duration::from_secs(1),
            quiet: true,
            ..PushOptions::default()
        };
        let report = push::run(&options).await.unwrap();
        println!("{report}");
        assert!(report.is_ok());
        assert_eq!(
            (report.received, report.acked, report.ack.count),
            (report.sent, report.sent, report.sent)
        );
        if rate.is_some() {
            assert!((450..=501).contains(&report.sent), "{}", report.sent);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broadcast_waits_for_the_last_receiver() {
    let fake = Fake::start(Fault::None).await;
    for outstanding in [1, 10] {
        let options = BroadcastOptions {
            devices: devices(&fake),
            api: api(&fake),
            count: 20,
            outstanding,
            quiet: true,
            ..BroadcastOptions::default()
        };
        let report = broadcast::run(&options).await.unwrap();
        println!("{report}");
        assert!(report.is_ok());
        assert_eq!((report.deliveries, report.last.count), (600, 20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_joins_the_books_of_worker_processes() {
    let fake = Fake::start(Fault::Lose(50)).await;
    let options = VerifyOptions {
        devices: devices(&fake),
        api: api(&fake),
        seconds: Duration::from_secs(1),
        drain: Duration::from_secs(2),
        settle: Duration::ZERO,
        quiet: true,
        ..VerifyOptions::default()
    };
    let verdict = verify::run(options).await.unwrap();
    println!("{verdict}");
    assert_eq!(verdict.findings.lost, verdict.accepted / 50);
    assert_eq!(verdict.findings.total(), verdict.findings.lost);
}

#[test]
fn floor_measures() {
    let options = FloorOptions {
        connections: 50,
        seconds: Duration::from_millis(200),
        program: Some(env!("CARGO_BIN_EXE_storm").into()),
        ..FloorOptions::default()
    };
    let report = floor::run(&options).unwrap();
    println!("{report}");
    assert!(report.sends_per_second > 1000.0 && report.singles.count > 100);
}
