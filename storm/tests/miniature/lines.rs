//! How devices are connected: transports, devices that do not read, and cuts.

use std::{collections::BTreeSet, time::Duration};

use storm::{
    fleet::{Fleet, FleetSpec, LineOptions, Route, Tokens, Workers},
    load::RoomOptions,
    scenario::{
        Api, Devices,
        connect::{self, ConnectOptions, ConnectReport},
        unicast::{self, UnicastOptions},
    },
    verify::{self, VerifyOptions},
};
use tokio::time::Instant;

use super::fake::{Fake, Fault};

const USERS: u32 = 24;

fn devices(fake: &Fake, transport: &str) -> Devices {
    let line = LineOptions {
        transport: transport.parse().unwrap(),
        ca: Some(fake.ca.path().to_owned()),
        ..LineOptions::default()
    };
    Devices {
        users: USERS,
        rooms: vec![fake.room],
        secret: Some("secret".into()),
        line,
        ..Devices::default()
    }
}

fn api(fake: &Fake) -> Api {
    Api { centers: vec![fake.center.clone()], key: Some("lwk_test".into()), ..Api::default() }
}

async fn connect(fake: &Fake, devices: Devices, churn: f64) -> ConnectReport {
    let hold = Duration::from_secs(2);
    let options = ConnectOptions { devices, api: api(fake), hold, churn, quiet: true };
    let report = connect::run(&options).await.unwrap();
    println!("{report}");
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn every_transport_keeps_the_promises() {
    let fake = Fake::start(Fault::None).await;
    let options = VerifyOptions {
        devices: devices(&fake, "mix:native=1,tls=1,ws=1,ws-json=1,wss=1,wss-json=1"),
        api: api(&fake),
        seconds: Duration::from_secs(2),
        rate: 500.0,
        broadcasts: 10.0,
        churn: 10.0,
        settle: Duration::from_millis(100),
        quiet: true,
        ..VerifyOptions::default()
    };
    let verdict = verify::run(options).await.unwrap();
    println!("{verdict}");
    assert!(verdict.is_ok());
    assert_eq!(verdict.counts.messages, verdict.accepted);
    assert!(verdict.counts.web_sockets >= u64::from(USERS) * 2 / 3, "{:?}", verdict.counts);
    assert!(verdict.counts.tls_full >= u64::from(USERS) / 2, "{:?}", verdict.counts);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_come_back_resume_tls() {
    let fake = Fake::start(Fault::None).await;
    let report = connect(&fake, devices(&fake, "tls"), 20.0).await;
    assert!(report.is_ok());
    // The first connection of each is a whole handshake; later ones only where the server has forgotten the ticket.
    let again = report.counts.tls_full - u64::from(USERS);
    assert!(again <= report.counts.tls_resumed / 5, "{:?}", report.counts);
    assert!(report.counts.tls_resumed > 10, "{:?}", report.counts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_nobody_known_is_refused() {
    let (fake, other) = (Fake::start(Fault::None).await, Fake::start(Fault::None).await);
    let mut strangers = devices(&fake, "wss");
    strangers.line.ca = Some(other.ca.path().to_owned());
    strangers.open_within = Some(Duration::from_secs(1));
    let options =
        ConnectOptions { devices: strangers, api: api(&fake), quiet: true, ..ConnectOptions::default() };
    let error = connect::run(&options).await.unwrap_err().to_string();
    assert!(error.contains("tls: invalid peer certificate"), "{error}");

    let mut careless = devices(&fake, "wss");
    careless.line.ca = None;
    careless.line.insecure_tls = true;
    assert!(connect(&fake, careless, 0.0).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_come_back_however_they_were_cut() {
    let fake = Fake::start(Fault::None).await;
    for how in ["rst", "fin", "leave", "silent"] {
        let mut devices = devices(&fake, "mix:native=2,wss=1");
        devices.line.cuts = vec![how.parse().unwrap()];
        let report = connect(&fake, devices, 20.0).await;
        assert!(report.is_ok() && report.counts.churned > 10, "{how}");
        assert!(report.counts.binds > u64::from(USERS) + 10, "{how}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_did_not_read_gets_everything_afterwards_in_order() {
    const SLOW: f64 = 0.25;
    const BROADCASTS: u64 = 60;
    let fake = Fake::start(Fault::None).await;
    let mut line = devices(&fake, "mix:native=3,ws=1").line;
    line.slow = SLOW;
    let spec = FleetSpec {
        first: 0,
        count: USERS,
        begin: USERS,
        uid_prefix: "storm".into(),
        app: "demo".into(),
        tags: Vec::new(),
        tokens: Tokens::Secret("secret".into()),
        route: Route::Rooms(vec![fake.room]),
        ramp_per_s: 1000.0,
        opening_max: USERS,
        sources: None,
        heartbeat_s: None,
        ack_delay_ms: 0,
        broadcast_ack_delay_ms: 0,
        line: line.spec().unwrap(),
        run: 7,
        seed: 7,
        receipts: true,
        sample_ms: None,
        tell_ms: 1,
    };
    let mut fleet = Fleet::launch(&spec, &Workers::default()).await.unwrap();
    let within = || Instant::now() + Duration::from_secs(20);
    assert!(fleet.wait(within(), |counts| counts.bound == u64::from(USERS)).await.unwrap());
    let slow = fleet.counts().slow;
    assert!((5..=7).contains(&slow), "{slow}");

    let centers = api(&fake).connect().unwrap();
    for number in 1..=BROADCASTS {
        let header =
            storm::payload::Header { run: spec.run, user: storm::payload::EVERYONE, number, sent_ns: 1 };
        let request = proto::v1::BroadcastRequest {
            app: "demo".into(),
            // More in all than a socket's buffers hold.
            payload: header.payload(32 * 1024),
            ..proto::v1::BroadcastRequest::default()
        };
        centers.broadcast(request).await.unwrap();
    }
    let all = |counts: &storm::fleet::Counts| counts.broadcasts_complete == BROADCASTS;
    assert!(fleet.wait(within(), all).await.unwrap(), "the others are undisturbed");
    assert_eq!(fleet.counts().slow_broadcasts, 0);

    fleet.slow(0.0).await.unwrap();
    let caught_up = |counts: &storm::fleet::Counts| counts.slow_broadcasts == slow * BROADCASTS;
    assert!(fleet.wait(within(), caught_up).await.unwrap(), "{:?}", fleet.counts());
    assert_eq!((fleet.counts().slow, fleet.counts().disconnects), (0, 0));
    let mut users = BTreeSet::new();
    let each = |receipt: storm::fleet::Receipt| {
        assert!(receipt.broadcasts.iter().eq(1..=BROADCASTS), "user {}", receipt.user);
        users.insert(receipt.user);
    };
    fleet.receipts(each).await.unwrap();
    assert_eq!(users.len(), USERS as usize);
    let findings = fleet.snapshot().await.unwrap().findings;
    assert!(findings.is_clean());
    fleet.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn unicast_through_the_rooms_own_door() {
    let fake = Fake::start(Fault::None).await;
    let mut options = UnicastOptions {
        devices: devices(&fake, "native"),
        api: api(&fake),
        room: RoomOptions { rpc: vec![fake.room_rpc.clone()], ..RoomOptions::default() },
        quiet: true,
        ..UnicastOptions::default()
    };
    options.load.seconds = Duration::from_secs(1);
    let report = unicast::run(&options).await.unwrap();
    println!("{report}");
    assert!(report.is_ok());
    assert!(report.delivered.received > 500 && report.delivered.accept.count == report.delivered.sent);
}
