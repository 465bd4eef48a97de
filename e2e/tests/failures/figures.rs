//! How long users are away when what they hang on dies. The figures are for release builds: `cargo nextest run
//! --release -p e2e --run-ignored only figures`; the small ones belong to the suite.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use e2e::{Backing, Layout, Processes, Shape, Stack, Tuning, eventually, faults::Fault, judge};
use storm::scenario::{
    Devices,
    verify::{Verdict, VerifyOptions},
};
use tokio::time::sleep;

/// How soon the kernel says that a process is dead does not matter here: the lease of a node does.
const LEASE: Duration = Duration::from_secs(5);

/// A room and a worker of `storm` are processes, which may open some 20,000 files each.
const DEVICES_OF_A_ROOM: u32 = 15_000;

fn layout(rooms: u32) -> Layout {
    Layout { rooms, backing: Backing::Own { etcd: 1, mariadb: None, replica: false }, ..Layout::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn few_devices_of_a_dead_room_are_back_soon() -> anyhow::Result<()> {
    all_are_back(600, 600.0, Duration::from_secs(30)).await
}

/// kill -9 of one of two rooms with 15,000 devices: all are bound on the other within 30 s.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure: takes a release build"]
async fn devices_of_a_dead_room_are_back_within_30_seconds() -> anyhow::Result<()> {
    all_are_back(15_000, 1_500.0, Duration::from_secs(30)).await
}

async fn all_are_back(users: u32, ramp: f64, within: Duration) -> anyhow::Result<()> {
    let stack = Stack::start(Shape::Cluster, Tuning { layout: layout(2), ..Tuning::default() }).await?;
    let cluster = stack.processes().context("a cluster has processes")?;
    let options = of(&stack, users, ramp);
    let watch = async {
        // Metrics are a second behind.
        eventually("all devices in the rooms' metrics", Duration::from_secs(10), async || {
            ensure!(bound(cluster).await? >= u64::from(users), "not all are bound");
            Ok(())
        })
        .await?;
        let begun = Instant::now();
        cluster.kill("room-1").await?;
        while bound(cluster).await? < u64::from(users) {
            ensure!(
                begun.elapsed() < within,
                "{} of {users} are back after {within:?}",
                bound(cluster).await?
            );
            sleep(Duration::from_millis(100)).await;
        }
        println!("all of {users} bound again {:?} after kill -9 of their room", begun.elapsed());
        cluster.spawn("room-1")?;
        cluster.ready().await
    };
    let verdict = judge::judge(options, watch).await?;
    judge::pass(&verdict)
}

#[tokio::test(flavor = "multi_thread")]
async fn few_users_of_a_dead_register_are_reachable_soon() -> anyhow::Result<()> {
    all_are_reachable(600, 600.0).await
}

/// kill -9 of one of two registers with 100,000 sessions: every user is reachable again within 5 s of its lease's end.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure: takes a release build"]
async fn users_of_a_dead_register_are_reachable_within_5_seconds_of_its_lease() -> anyhow::Result<()> {
    all_are_reachable(100_000, 2_000.0).await
}

/// A message that takes longer than the lease and five seconds was not told to an online user in time.
async fn all_are_reachable(users: u32, ramp: f64) -> anyhow::Result<()> {
    let rooms = users.div_ceil(DEVICES_OF_A_ROOM).max(2);
    let stack = Stack::start(Shape::Cluster, Tuning { layout: layout(rooms), ..Tuning::default() }).await?;
    let cluster = stack.processes().context("a cluster has processes")?;
    let watch = async {
        cluster.kill("register-1").await?;
        let killed = Instant::now();
        let within = LEASE + Duration::from_secs(5);
        let api = stack.api();
        // A hundred users, of whom the dead register had about fifty.
        for n in 0..100 {
            let uid = format!("storm-{}", n * users / 100);
            loop {
                let user = api.user(&uid).await;
                if user.as_ref().is_ok_and(|user| user["online"] == true) {
                    break;
                }
                ensure!(killed.elapsed() < within, "{uid} is not reachable after {within:?}: {user:?}");
                sleep(Duration::from_millis(50)).await;
            }
        }
        println!("all of a hundred users reachable {:?} after kill -9 of a register", killed.elapsed());
        Fault::Kill(vec!["register-1".to_owned()]).heal(cluster).await?;
        cluster.ready().await
    };
    let verdict: Verdict = judge::judge(of(&stack, users, ramp), watch).await?;
    judge::pass(&verdict)
}

fn of(stack: &Stack, users: u32, ramp: f64) -> VerifyOptions {
    let options = judge::options_for(stack);
    let processes = (users > DEVICES_OF_A_ROOM).then(|| users.div_ceil(DEVICES_OF_A_ROOM));
    let worker_program = e2e::program("storm").ok();
    let devices = Devices { users, ramp, processes, worker_program, ..options.devices };
    VerifyOptions { devices, seconds: Duration::from_secs(3_600), churn: 0.0, broadcasts: 0.2, ..options }
}

/// Bindings of the rooms that run, by their metrics.
async fn bound(cluster: &Processes) -> anyhow::Result<u64> {
    let http = e2e::api::http();
    let mut all = 0;
    for room in cluster.names().iter().filter(|name| name.starts_with("room-")) {
        if cluster.pid(room).is_none() {
            continue;
        }
        let url = format!("http://{}/metrics", cluster.admin(room)?);
        let text = http.get(url).send().await?.text().await?;
        let lines = text.lines().filter(|line| line.contains("room_bindings "));
        all += lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>();
    }
    Ok(all)
}
