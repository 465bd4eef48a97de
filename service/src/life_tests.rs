//! A process among others, against a real etcd.

use clap::Parser as _;
use cluster::{
    NodeInfo, NodeState, Role, Transport,
    etcd::{Admin, EtcdOptions, Target},
};
use proto::internal::{self as rpc, node_client::NodeClient};
use std::{net::TcpListener, time::Duration};
use stores::Etcd;
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};

use super::*;
use crate::{
    ExitError,
    live::testing::{APPLIED, Sample},
    process::{Arguments, read},
    telemetry::LogFilter,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// A node's process, as far as there is one in a test.
struct Run {
    process: Arc<Process>,
    rpc: String,
    _folder: TempDir,
}

fn settings(folder: &TempDir, text: &str) -> Result<Settings, ExitError> {
    let path = folder.path().join("saver.toml");
    std::fs::write(&path, text).unwrap();
    read::<Sample>(&Arguments::try_parse_from(["saver", "--config", path.to_str().unwrap()]).unwrap())
}

impl Run {
    fn new(etcd: &Etcd, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!(
            "[node]\ndata = {:?}\n[tls]\nmode = \"plaintext\"\n[rpc]\nlisten = \"{free}\"\n\
             [discovery]\nkind = \"etcd\"\nendpoints = {:?}\nlease = \"2s\"\n{more}",
            folder.path().join("data"),
            etcd.endpoints(),
        );
        let process = Process {
            settings: settings(&folder, &text).unwrap(),
            tls: None,
            log: LogFilter::detached(),
            hangups: watch::channel(0).1,
            metrics: Metrics::default(),
            readiness: Readiness::default(),
            end: CancellationToken::new(),
        };
        Self { process: Arc::new(process), rpc: free.to_string(), _folder: folder }
    }

    fn live(&self, life: Life) -> JoinHandle<Result<Ended, StartError>> {
        let process = self.process.clone();
        tokio::spawn(async move { process.live::<Sample>(life).await })
    }
}

async fn admin(etcd: &Etcd) -> Admin {
    Admin::connect(EtcdOptions::new(etcd.endpoints(), "default")).await.unwrap()
}

/// Waits until the one node is as it should be.
async fn node(admin: &Admin, wanted: impl Fn(&NodeInfo) -> bool) -> NodeInfo {
    let mut last = Vec::new();
    for _ in 0..200 {
        last = admin.nodes().await.unwrap();
        if let [node] = last.as_slice()
            && wanted(node)
        {
            return node.clone();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not in time: {last:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_takes_tells_or_refuses_what_the_cluster_configures() {
    let etcd = Etcd::start().await.unwrap();
    let admin = admin(&etcd).await;
    let set =
        async |target, text: &str| admin.set_config(Role::Saver, target, text, "test", None).await.unwrap();
    let before = set(Target::Default, "limits.rate = 3").await;
    let run = Run::new(&etcd, "[saver]\nworkers = 2\n");
    let life = run.live(Life::First);
    let own = node(&admin, |n| n.state == NodeState::Ready).await;
    assert_eq!((own.config.revision, own.config.refused, own.rpc), (before, None, Some(run.rpc.clone())));
    let own = Target::Node(own.id);
    // Wrong: the old one stays, and the operator is told the key and the reason.
    let wrong = set(own, "limits.rate = 99").await;
    let told = node(&admin, |n| n.config.refused.is_some()).await.config;
    let refused = told.refused.unwrap();
    assert_eq!((told.revision, refused.revision), (before, wrong));
    assert!(refused.reason.starts_with("saver.limits.rate: "), "{}", refused.reason);
    assert!(APPLIED.lock().unwrap().is_empty());
    // Live.
    let good = set(own, "limits.frame = 7").await;
    node(&admin, |n| n.config.revision == good && n.config.refused.is_none()).await;
    let applied = APPLIED.lock().unwrap().last().cloned().unwrap();
    assert_eq!((applied.limits.frame, applied.limits.rate, applied.workers), (7, 3, 2));
    // Not live.
    let later = set(own, "limits.frame = 7\nname = \"b\"").await;
    let told = node(&admin, |n| n.config.revision == later).await.config;
    assert_eq!(told.restart, ["name"]);
    // And the end, over gRPC.
    let mut client = NodeClient::new(Transport::connect(&run.rpc, Role::Saver, None).unwrap());
    client.drain(rpc::DrainNodeRequest {}).await.unwrap();
    let ended = timeout(PATIENCE, life).await.unwrap().unwrap().unwrap();
    assert_eq!(ended, Ended::Asked);
    assert!(admin.nodes().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_id_is_another_s_begins_anew_as_another() {
    let etcd = Etcd::start().await.unwrap();
    let admin = admin(&etcd).await;
    let run = Run::new(&etcd, "");
    let life = run.live(Life::First);
    let first = node(&admin, |n| n.state == NodeState::Ready).await;
    // As if it had been away for longer than its lease, and the id been given to another.
    let mut client = etcd_client::Client::connect(etcd.endpoints(), None).await.unwrap();
    let (id, other) = (format!("/longwire/default/ids/{}", first.id), "somebody else's word");
    let lease = client.get(id.clone(), None).await.unwrap().kvs()[0].lease();
    let holder = format!(r#"{{"role":"room","owner":"{other}","life":"x","host":"h","process":7}}"#);
    client.put(id.clone(), holder, None).await.unwrap();
    client.lease_client().revoke(lease).await.unwrap();
    assert_eq!(timeout(PATIENCE, life).await.unwrap().unwrap().unwrap(), Ended::IdLost);
    let life = run.live(Life::Another);
    let second = node(&admin, |n| n.state == NodeState::Ready).await;
    assert_ne!(second.id, first.id);
    assert!(second.incarnation > first.incarnation);
    assert!(run.process.metrics.encode().contains("longwire_discovery_lapses_total 0"));
    run.process.end.cancel();
    assert_eq!(timeout(PATIENCE, life).await.unwrap().unwrap().unwrap(), Ended::Asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_waits_for_etcd_can_be_ended() {
    let etcd = Etcd::start().await.unwrap();
    etcd.member(0).kill().await.unwrap();
    let run = Run::new(&etcd, "");
    let life = run.live(Life::First);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!life.is_finished());
    run.process.end.cancel();
    assert_eq!(timeout(PATIENCE, life).await.unwrap().unwrap().unwrap(), Ended::Asked);
}

#[test]
fn a_wrong_configuration_is_told_by_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let error = |text: &str| settings(&folder, text).err().unwrap().to_string();
    let node = "[node]\nid = 1\ndata = \"d\"\n";
    let list = |peers: &str| format!("[discovery]\nkind = \"static\"\npeers = [{peers}]\n");
    let saver = "{ role = \"saver\", id = 1, rpc = \"h:1\" }";
    assert!(error(&format!("{node}{}", list(saver))).starts_with("tls: must say how"));
    let plain = format!("{node}[tls]\nmode = \"plaintext\"\n");
    settings(&folder, &format!("{plain}{}", list(saver))).ok().unwrap();
    let twice = format!("{saver}, {{ role = \"room\", id = 1, rpc = \"h:2\" }}");
    let text = error(&format!("{plain}{}", list(&twice)));
    assert!(text.starts_with("discovery.peers: id 1 is given to a saver and to a room"), "{text}");
    let etcd = |more: &str| format!("{plain}[discovery]\nkind = \"etcd\"\n{more}\n");
    let text = error(&etcd("endpoints = [\"http://h:1\"]"));
    assert!(text.starts_with("rpc.listen: must be given"), "{text}");
    let listen = |listen: &str| format!("endpoints = [\"http://h:1\"]\n[rpc]\nlisten = \"{listen}\"\n");
    assert!(error(&etcd(&listen("0.0.0.0:7410"))).starts_with("rpc.advertise: must be given"));
    settings(&folder, &etcd(&listen("10.0.0.1:7410"))).ok().unwrap();
    let text = error(&etcd("endpoints = [\"https://h:1\"]\n[rpc]\nlisten = \"10.0.0.1:7410\""));
    assert!(text.starts_with("discovery.ca: "), "{text}");
    let text = error(&etcd("endpoints = []\n[rpc]\nlisten = \"10.0.0.1:7410\""));
    assert!(text.starts_with("discovery.endpoints: "), "{text}");
    let text = error(&etcd(&(listen("10.0.0.1:7410") + "[saver]\nworkers = 0")));
    assert!(text.starts_with("saver.workers: "), "{text}");
}
