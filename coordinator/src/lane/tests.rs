//! Lanes against a backend of their own, over HTTP.

use std::{collections::HashMap, sync::atomic::AtomicU16};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use flow::FlowMetrics;
use proto::internal::UpItem;
use serde_json::Value;
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::{
    event::Kind,
    intake::Intake,
    metrics::Received,
    spill::SqliteSpill,
    webhook::{ID_HEADER, SIGNATURE_HEADER, signature},
};

/// An app's backend: answers as it is told and passes on what it took.
#[derive(Clone)]
struct Backend {
    status: Arc<AtomicU16>,
    /// Requests that may be answered.
    gate: Arc<Semaphore>,
    /// The id of every event answered with 2xx.
    taken: mpsc::Sender<u64>,
    /// Told of every request when it arrives.
    arrived: mpsc::Sender<u64>,
}

struct BackendEnd {
    backend: Backend,
    url: String,
    taken: mpsc::Receiver<u64>,
    arrived: mpsc::Receiver<u64>,
}

async fn receive(State(backend): State<Backend>, headers: HeaderMap, body: axum::body::Bytes) -> StatusCode {
    let sent = headers[SIGNATURE_HEADER].to_str().unwrap();
    let seconds = sent[2..].split(',').next().unwrap().parse().unwrap();
    assert_eq!(sent, signature("secret", seconds, &body));
    let Json::<Value>(body) = Json::from_bytes(&body).unwrap();
    let id: u64 = body["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(headers[ID_HEADER].to_str().unwrap(), id.to_string());
    let _ = backend.arrived.try_send(id);
    backend.gate.acquire().await.unwrap().forget();
    backend.gate.add_permits(1);
    let status = StatusCode::from_u16(backend.status.load(Ordering::SeqCst)).unwrap();
    // A request that asks for it is refused alone.
    let status = if body["kind"] == "bad" { StatusCode::UNPROCESSABLE_ENTITY } else { status };
    if status.is_success() {
        backend.taken.send(id).await.unwrap();
    }
    status
}

impl BackendEnd {
    async fn start() -> BackendEnd {
        let (taken, taken_rx) = mpsc::channel(1000);
        let (arrived, arrived_rx) = mpsc::channel(1000);
        let gate = Arc::new(Semaphore::new(1));
        let backend = Backend { status: Arc::new(AtomicU16::new(200)), gate, taken, arrived };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let app = Router::new().route("/hook", post(receive)).with_state(backend.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        BackendEnd { backend, url, taken: taken_rx, arrived: arrived_rx }
    }

    fn answer(&self, status: u16) {
        self.backend.status.store(status, Ordering::SeqCst);
    }

    /// Requests hang from now on.
    async fn hang(&self) {
        self.backend.gate.acquire().await.unwrap().forget();
    }

    fn release(&self) {
        self.backend.gate.add_permits(1);
    }

    async fn next(&mut self, count: usize) -> Vec<u64> {
        let mut ids = Vec::new();
        while ids.len() < count {
            ids.push(self.taken.recv().await.unwrap());
        }
        ids
    }
}

struct Apps(HashMap<u32, String>);

impl Targets for Apps {
    fn target(&self, lane: LaneKey) -> BoxFuture<'_, Result<Target, NoTarget>> {
        let target = match self.0.get(&lane.app) {
            Some(url) => {
                Ok(Target { app: format!("app-{}", lane.app), url: url.clone(), secret: "secret".into() })
            }
            None if lane.app == 404 => Err(NoTarget::NotWanted),
            None => Err(NoTarget::Unknown("away".into())),
        };
        Box::pin(async move { target })
    }
}

struct World {
    tools: Arc<Tools>,
    intake: Intake,
    spill: Arc<SqliteSpill>,
    lanes: Lanes,
    workers: TaskTracker,
    closing: CancellationToken,
    spill_end: (CancellationToken, JoinHandle<()>),
}

fn config() -> Config {
    let mut config = Config::default();
    config.webhook.retry_initial = Duration::from_millis(2);
    config.webhook.retry_cap = Duration::from_millis(10);
    config
}

impl World {
    async fn start(dir: &TempDir, config: Config, urls: &[(u32, &str)]) -> World {
        let cancel = CancellationToken::new();
        let (metrics, parts) = (FlowMetrics::default(), parts(config.workers_per_app));
        let path = dir.path().join("spill.sqlite");
        let (spill, task) = SqliteSpill::open(&path, parts, 100, &metrics, cancel.clone()).await.unwrap();
        let spill = Arc::new(spill);
        let targets: Arc<dyn Targets> =
            Arc::new(Apps(urls.iter().map(|(app, url)| (*app, (*url).to_owned())).collect()));
        let metrics = CoordinatorMetrics::default();
        let tools = Arc::new(Tools {
            spill: spill.clone(),
            webhooks: Webhooks::new(&config.webhook, 8).unwrap(),
            targets: targets.clone(),
            metrics: metrics.clone(),
            spilled: AtomicI64::new(0),
            config: arc_swap::ArcSwap::from_pointee(config),
        });
        let (workers, closing) = (TaskTracker::new(), CancellationToken::new());
        let lanes = Lanes::new(tools.clone(), workers.clone(), closing.clone());
        lanes.resume().await.unwrap();
        let intake = Intake { lanes: lanes.clone(), targets, metrics };
        World { tools, intake, spill, lanes, workers, closing, spill_end: (cancel, task) }
    }

    async fn up(&self, app: u32, events: &[(&str, u64)]) -> Vec<Received> {
        let event = |(uid, id): &(&str, u64)| event(app, uid, *id, "chat");
        self.intake.take(events.iter().map(event).collect()).await
    }

    async fn stop(self) {
        self.closing.cancel();
        self.workers.close();
        self.workers.wait().await;
        self.spill.flush().await.unwrap();
        self.spill_end.0.cancel();
        self.spill_end.1.await.unwrap();
    }
}

fn event(app: u32, uid: &str, id: u64, kind: &str) -> Event {
    Event::Up(UpItem { app, uid: uid.into(), id, kind: kind.into(), payload: "hello".into(), at_ms: 1 })
}

const ALICE: [(&str, u64); 3] = [("alice", 1), ("alice", 2), ("alice", 3)];

#[tokio::test]
async fn events_reach_the_backend_signed_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut backend = BackendEnd::start().await;
    let world = World::start(&dir, config(), &[(1, &backend.url)]).await;
    assert_eq!(world.up(1, &ALICE).await, [Received::Taken; 3]);
    assert_eq!(backend.next(3).await, [1, 2, 3]);
    assert_eq!(world.up(404, &[("alice", 9)]).await, [Received::NoRoute]);
    assert_eq!(world.up(500, &[("alice", 9)]).await, [Received::Retry]);
    world.stop().await;
}

#[tokio::test]
async fn a_dead_backend_costs_nobody_anything_and_gets_all_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut dead, mut other) = (BackendEnd::start().await, BackendEnd::start().await);
    dead.answer(503);
    let world = World::start(&dir, config(), &[(1, &dead.url), (2, &other.url)]).await;
    for n in 0..20 {
        let id = n * 2 + 1;
        assert_eq!(world.up(1, &[("alice", id), ("bob", id + 1)]).await, [Received::Taken; 2]);
        assert_eq!(world.up(2, &[("alice", id)]).await, [Received::Taken]);
    }
    assert_eq!(other.next(20).await.len(), 20);
    assert!(dead.taken.try_recv().is_err());
    dead.answer(204);
    let all = dead.next(40).await;
    for of_user in [0, 1] {
        let ids: Vec<_> = all.iter().filter(|id| *id % 2 == of_user).collect();
        assert!(ids.is_sorted(), "{ids:?}");
    }
    // Caught up: the next goes straight through, and nothing is left in the file.
    assert_eq!(world.up(1, &[("alice", 100)]).await, [Received::Taken]);
    assert_eq!(dead.next(1).await, [100]);
    let spill = world.spill.clone();
    world.stop().await;
    assert_eq!(spill.backlog().await.unwrap(), []);
}

#[tokio::test]
async fn a_hanging_backend_is_waited_for_by_nobody_and_asked_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut backend = BackendEnd::start().await;
    backend.hang().await;
    let world = World::start(&dir, config(), &[(1, &backend.url)]).await;
    assert_eq!(world.up(1, &ALICE).await, [Received::Taken; 3]);
    assert_eq!(backend.arrived.recv().await, Some(1));
    backend.release();
    assert_eq!(backend.next(3).await, [1, 2, 3]);
    assert_eq!([backend.arrived.recv().await, backend.arrived.recv().await], [Some(2), Some(3)]);
    world.stop().await;
    assert!(backend.arrived.try_recv().is_err(), "no event was sent twice");
}

/// A backend that refuses one event for good must not keep the others from it for ever.
#[tokio::test]
async fn a_refused_event_becomes_a_dead_letter_and_can_be_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let mut backend = BackendEnd::start().await;
    let world = World::start(&dir, config(), &[(1, &backend.url)]).await;
    let events = vec![event(1, "alice", 1, "bad"), event(1, "alice", 2, "chat")];
    assert_eq!(world.intake.take(events).await, [Received::Taken; 2]);
    assert_eq!(backend.next(1).await, [2]);
    let letters = world.spill.dead(1, 0, 10).await.unwrap();
    assert_eq!(
        letters.iter().map(|l| (l.event.as_ref().unwrap().id(), l.reason.as_str())).collect::<Vec<_>>(),
        [(1, "refused: HTTP 422")]
    );
    while backend.arrived.try_recv().is_ok() {}
    assert_eq!(world.lanes.replay(1, letters[0].row).await, Ok(1));
    assert_eq!(backend.arrived.recv().await, Some(1));
    world.stop().await;
}

#[tokio::test]
async fn what_was_taken_survives_a_restart_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut backend = BackendEnd::start().await;
    backend.answer(500);
    let world = World::start(&dir, config(), &[(1, &backend.url)]).await;
    for id in 1..=30 {
        assert_eq!(world.up(1, &[("alice", id)]).await, [Received::Taken]);
    }
    world.stop().await;
    backend.answer(200);
    let config = Config { workers_per_app: 3, ..config() };
    let world = World::start(&dir, config, &[(1, &backend.url)]).await;
    assert_eq!(world.up(1, &[("alice", 31)]).await, [Received::Taken], "and what is new comes after it");
    assert_eq!(backend.next(31).await, (1..=31).collect::<Vec<_>>());
    world.stop().await;
}

#[tokio::test]
async fn bounds_of_memory_and_disk_answer_retry_to_that_app_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (backend, mut other) = (BackendEnd::start().await, BackendEnd::start().await);
    backend.answer(500);
    let size = event(1, "alice", 1, "chat").bytes() as u64;
    let mut config = config();
    config.spill.app_bytes = 3 * size;
    let world = World::start(&dir, config, &[(1, &backend.url), (2, &other.url)]).await;
    let mut received = Vec::new();
    for id in 1..=5 {
        received.extend(world.up(1, &[("alice", id)]).await);
    }
    use Received::{Retry, Taken};
    assert_eq!(received, [Taken, Taken, Taken, Retry, Retry]);
    assert_eq!(world.up(2, &[("alice", 1)]).await, [Taken]);
    assert_eq!(other.next(1).await, [1]);
    world.stop().await;
}

#[tokio::test]
async fn a_full_memory_sheds_the_rest_of_a_batch() {
    let dir = tempfile::tempdir().unwrap();
    let mut backend = BackendEnd::start().await;
    let size = event(1, "alice", 1, "chat").bytes();
    let config = Config { app_memory_bytes: 2 * size, ..config() };
    let world = World::start(&dir, config, &[(1, &backend.url)]).await;
    // The larger third does not fit; the fourth would, but comes after it.
    let mut events: Vec<_> = (1..=4).map(|id| event(1, "alice", id, "chat")).collect();
    events[2] = event(1, "alice", 3, &"k".repeat(size));
    use Received::{Retry, Taken};
    assert_eq!(world.intake.take(events).await, [Taken, Taken, Retry, Retry]);
    assert_eq!(backend.next(2).await, [1, 2]);
    world.stop().await;
}

#[tokio::test]
async fn an_event_that_fails_too_often_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut backend = BackendEnd::start().await;
    backend.answer(500);
    let mut config = config();
    // The breaker never opens, so every failure is the event's own.
    config.webhook.breaker_failures = 1_000_000;
    config.webhook.max_attempts = 4;
    let world = World::start(&dir, config, &[(1, &backend.url)]).await;
    assert_eq!(world.up(1, &[("alice", 1)]).await, [Received::Taken]);
    for _ in 0..4 {
        assert_eq!(backend.arrived.recv().await, Some(1));
    }
    backend.answer(200);
    assert_eq!(world.up(1, &[("alice", 2)]).await, [Received::Taken]);
    assert_eq!(backend.next(1).await, [2]);
    let letters = world.spill.dead(1, 0, 10).await.unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].reason.as_str(), letters[0].kind), ("failed: HTTP 500", Kind::Up));
    world.stop().await;
}

/// A row that could not be read held its worker for ever, and with it the events of an eighth of the app's users.
#[tokio::test]
async fn what_cannot_be_read_becomes_a_dead_letter_and_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let mut backend = BackendEnd::start().await;
    backend.answer(500);
    let world = World::start(&dir, config(), &[(1, &backend.url)]).await;
    assert_eq!(world.up(1, &ALICE).await, [Received::Taken; 3]);
    world.stop().await;
    let options = SqliteConnectOptions::new().filename(dir.path().join("spill.sqlite"));
    let mut file = options.connect().await.unwrap();
    let spoil = sqlx::query("UPDATE waiting SET event = x'ff' WHERE row <= 2").execute(&mut file).await;
    assert_eq!(spoil.unwrap().rows_affected(), 2);
    file.close().await.unwrap();

    backend.answer(200);
    let world = World::start(&dir, config(), &[(1, &backend.url)]).await;
    assert_eq!(backend.next(1).await, [3]);
    assert_eq!(world.up(1, &[("alice", 4)]).await, [Received::Taken]);
    assert_eq!(backend.next(1).await, [4]);
    let letters = world.spill.dead(1, 0, 10).await.unwrap();
    let shown: Vec<_> = letters.iter().map(|letter| letter.event.clone()).collect();
    assert_eq!(shown, [Err(vec![0xff]), Err(vec![0xff])]);
    assert!(letters[0].reason.starts_with("a stored event cannot be read"), "{}", letters[0].reason);
    let spill = world.spill.clone();
    world.stop().await;
    assert_eq!(spill.backlog().await.unwrap(), []);
}

/// Makes a dead letter of event 1.
async fn with_dead_letter(dir: &TempDir, backend: &BackendEnd) -> (World, i64) {
    let mut config = config();
    config.webhook.max_refusals = 1;
    let world = World::start(dir, config, &[(1, &backend.url)]).await;
    backend.answer(422);
    assert_eq!(world.up(1, &[("alice", 1)]).await, [Received::Taken]);
    let row = loop {
        match world.spill.dead(1, 0, 10).await.unwrap().first() {
            Some(letter) => break letter.row,
            None => tokio::task::yield_now().await,
        }
    };
    (world, row)
}

/// A worker that fell behind between the replay's commit and its notice took its own row for the first that waits, and
/// the replayed one was never sent.
#[tokio::test]
async fn a_replay_is_not_overlooked_by_a_worker_that_falls_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut backend = BackendEnd::start().await;
    let (world, row) = with_dead_letter(&dir, &backend).await;
    let replayed = world.spill.replay(1, row, 1).await.unwrap();
    backend.answer(503);
    assert_eq!(world.up(1, &[("alice", 2)]).await, [Received::Taken]);
    backend.answer(200);
    assert_eq!(backend.next(1).await, [2]);
    world.lanes.replayed(&replayed);
    assert_eq!(backend.next(1).await, [1]);
    let (spill, tools) = (world.spill.clone(), world.tools.clone());
    world.stop().await;
    assert_eq!(spill.backlog().await.unwrap(), []);
    assert_eq!(tools.spilled.load(Ordering::SeqCst), 0);
}

/// An operator who hung up in the middle of a replay left events in the queue that no worker knew of, and when they were
/// found the count of spilled bytes went below zero, which was taken for a full disk.
#[tokio::test]
async fn a_replay_goes_on_when_its_caller_has_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut backend = BackendEnd::start().await;
    let (world, row) = with_dead_letter(&dir, &backend).await;
    backend.answer(200);
    tokio::select! {
        biased;
        _ = world.lanes.replay(1, row) => panic!("it waits for the disk"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(backend.next(1).await, [1]);
    world.stop().await;
}

#[tokio::test]
async fn what_is_delivered_before_it_is_counted_fills_no_disk() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(&dir, config(), &[]).await;
    let lane = Lane::new(LaneKey { app: 1, kind: Kind::Up }, world.tools.clone());
    lane.sub_spilled(500);
    assert_eq!(lane.reserve([100].into_iter()), 1);
    lane.add_spilled(500);
    assert_eq!(lane.spilled.load(Ordering::SeqCst), 100);
    world.stop().await;
}

/// A lane that was there already.
#[tokio::test]
async fn rules_can_be_changed_while_the_coordinator_runs() {
    let dir = tempfile::tempdir().unwrap();
    let backend = BackendEnd::start().await;
    let mut config = config();
    config.webhook.max_refusals = 1_000_000;
    config.webhook.breaker_failures = 1_000_000;
    let world = World::start(&dir, config.clone(), &[(1, &backend.url)]).await;
    backend.answer(422);
    assert_eq!(world.up(1, &[("alice", 1)]).await, [Received::Taken]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(world.spill.dead(1, 0, 10).await.unwrap().is_empty());
    config.webhook.max_refusals = 1;
    world.lanes.apply(config);
    let dead = async {
        while world.spill.dead(1, 0, 10).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), dead).await.unwrap();
    world.stop().await;
}
