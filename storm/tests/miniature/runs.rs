//! `storm run` against servers in miniature.

use std::{process::Command, time::Duration};

use storm::{
    report::{RunReport, html},
    scenario::{run, script::Script},
};

use super::fake::{Fake, Fault};

/// The beginning of each scenario: who connects where, with two worker processes.
fn fleet(fake: &Fake) -> String {
    format!(
        "[fleet]\nusers = 30\nrooms = ['{}']\nsecret = 'secret'\nprocesses = 2\npids = [{}]\n\
         [api]\ncenters = ['{}']\nkey = 'lwk_test'\n[run]\nsample = '200ms'\nsettle = '3s'\n",
        fake.room,
        std::process::id(),
        fake.center
    )
}

async fn run_text(text: &str) -> RunReport {
    let mut script = Script::parse(text, &[]).unwrap();
    script.fleet.worker_program = Some(env!("CARGO_BIN_EXE_storm").into());
    script.fleet.seed = Some(7);
    let report = run::run(script, true).await.unwrap();
    println!("{report}");
    report
}

const LOAD: &str = "
    [[phase]]
    name = 'half'
    kind = 'ramp'
    connections = 15
    rate = 500
    [[phase]]
    name = 'all'
    kind = 'ramp'
    rate = 500
    expect = { bound_within = '20s' }
    [[phase]]
    kind = 'churn'
    share = 0.5
    until = 'load'
    [[phase]]
    name = 'load'
    kind = 'unicast'
    with = 'churn'
    rate = 200
    duration = '2s'
    expect = { p99_ms = 60000 }
    [[phase]]
    name = 'news'
    kind = 'broadcast'
    with = 'churn'
    every = '100ms'
    count = 10
    [[phase]]
    name = 'window'
    kind = 'broadcast'
    after = 'load'
    outstanding = 3
    count = 10
    [expect]
    lost = 0
    doubled = 0
    failed = 0
    gone = 0
    bound = 25
";

#[tokio::test(flavor = "multi_thread")]
async fn a_scenario_is_done_as_it_says() {
    let fake = Fake::start(Fault::None).await;
    let report = run_text(&format!("{}{LOAD}", fleet(&fake))).await;
    assert!(report.is_ok());
    let phase = |name: &str| report.phases.iter().find(|phase| phase.name == name).unwrap();
    assert_eq!((phase("half").figures.counts.ever_bound, phase("all").figures.counts.ever_bound), (15, 15));
    assert!((350..=401).contains(&phase("load").figures.sent.pushes), "{:?}", phase("load").figures.sent);
    assert!(phase("churn").figures.counts.churned > 10);
    assert_eq!((phase("news").figures.sent.broadcasts, phase("window").figures.sent.broadcasts), (10, 10));
    assert_eq!(report.whole.counts.messages, phase("load").figures.sent.accepted);
    assert_eq!(report.whole.counts.broadcasts, 600);
    assert!(report.whole.delivery.count > 0 && report.whole.broadcast.count == 600);
    assert!(phase("load").figures.delivery.count > 100, "a phase has latencies of its own");
    assert_eq!((report.storm.workers, report.servers.len()), (2, 1));
    assert!(report.samples.len() > 8 && report.samples.iter().any(|sample| sample.delivery.count > 0));
    assert!(
        report.samples.iter().any(|sample| sample.storm.processes == 3 && sample.storm.rss_bytes > 1 << 20)
    );
    let page = html::page(&report);
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    roxmltree::Document::parse_with_options(&page, options).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn loss_is_seen_and_fails_the_run() {
    let fake = Fake::start(Fault::Lose(50)).await;
    let report = run_text(&format!("{}{LOAD}", fleet(&fake))).await;
    let lost = report.checks.iter().find(|check| check.key == "lost").unwrap();
    assert!(!report.is_ok() && !lost.ok);
    assert_eq!(report.whole.lost, Some(report.whole.sent.accepted / 50));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_is_told_and_fails_the_run() {
    let fake = Fake::start(Fault::None).await;
    let text = format!("{}[[phase]]\nkind='ramp'\n[[phase]]\nkind='hold'\nduration='60s'\n", fleet(&fake));
    let killer = tokio::spawn(async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if let Some(worker) = workers().first() {
                Command::new("kill").args(["-9", &worker.to_string()]).status().unwrap();
                return;
            }
        }
    });
    let report = run_text(&text).await;
    killer.await.unwrap();
    assert!(!report.is_ok());
    assert!(report.problems[0].contains("ended before its time") && report.problems[0].contains("signal: 9"));
    assert!(report.took_s < 30.0);
}

/// Worker processes that this process has started: tests have a process each.
fn workers() -> Vec<u32> {
    let mine = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent =
            stat.rfind(')').and_then(|at| stat[at + 1..].split_ascii_whitespace().nth(1)?.parse().ok());
        parent == Some(std::process::id())
    };
    storm::procfs::of_programs(&["storm".into()]).into_iter().filter(mine).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_and_the_floor_are_phases_too() {
    let fake = Fake::start(Fault::None).await;
    let text = format!(
        "{}[[phase]]\nkind='floor'\nconnections=50\nseconds='200ms'\n[[phase]]\nkind='ramp'\n\
         [[phase]]\nkind='execute'\ncommand=['true']\n\
         [[phase]]\nname='w'\nkind='unicast'\nwindow=20\nduration='1s'\n[expect]\nfloor_ratio=0.0\nlost=0\n",
        fleet(&fake)
    );
    let report = run_text(&text).await;
    assert!(report.is_ok() && report.floor.is_some());
    let failing = text.replace("['true']", "['false']");
    let report = run_text(&failing).await;
    assert!(!report.is_ok() && report.phases[2].failed.as_ref().unwrap().contains("exit status: 1"));
}

/// What is drained here is no room, so its devices stay where they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_over_when_the_process_is_gone_and_all_are_bound() {
    let fake = Fake::start(Fault::None).await;
    let mut process = Command::new("sleep").arg("60").spawn().unwrap();
    let text = format!(
        "{}[[phase]]\nkind='ramp'\n[[phase]]\nkind='drain'\npid={}\nwithin='20s'\n[expect]\nbound=30\n",
        fleet(&fake),
        process.id()
    );
    let report = run_text(&text).await;
    assert!(report.is_ok() && report.phases[1].note.contains("all devices bound again"));
    assert!(!process.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn as_a_program_it_ends_with_what_came_of_it() {
    let fake = Fake::start(Fault::None).await;
    let folder = tempfile::tempdir().unwrap();
    let (file, page) = (folder.path().join("small.toml"), folder.path().join("report.html"));
    std::fs::write(&file, format!("{}[[phase]]\nkind='ramp'\n[expect]\nbound=30\n", fleet(&fake))).unwrap();
    let storm = async |arguments: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_storm"));
        command.arg("run").arg(&file).args(["--json", "--quiet"]).args(arguments);
        command.output().await.unwrap()
    };
    let good = storm(&["--html", page.to_str().unwrap()]).await;
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    let told: serde_json::Value = serde_json::from_slice(&good.stdout).unwrap();
    assert_eq!((&told["name"], &told["checks"][0]["ok"]), (&"small".into(), &true.into()));
    assert!(std::fs::read_to_string(&page).unwrap().contains("</html>"));
    assert_eq!(storm(&["--set", "expect.bound=31"]).await.status.code(), Some(1));
    let wrong = storm(&["--set", "fleet.usres=31"]).await;
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("did you mean `users`?"));
}
