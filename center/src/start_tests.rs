use std::path::Path;

use service::{Metrics, Node, NodeSettings};

use super::*;
use crate::{
    auth::hash_key,
    config::Bootstrap,
    testing::{FakeCluster, Fakes},
};

fn config(text: &str) -> Result<Config, String> {
    let text = format!("[center]\n{text}");
    let mut config = service::config::Config::parse(&text, "x.toml", []).map_err(|e| e.to_string())?;
    config.section("center").map_err(|e| e.to_string())
}

async fn start(config: Config, data: &Path) -> (Result<Node<Center>, StartError>, Fakes) {
    let cluster = FakeCluster::start(&config).await;
    let settings = NodeSettings {
        id: Some(9),
        zone: "default".to_owned(),
        data: data.to_owned(),
        drain_deadline: Duration::from_secs(5),
    };
    let discovery = Arc::new(cluster.discovery);
    let node = Node::start_local(&settings, config, discovery, cluster.local, Metrics::default()).await;
    (node, cluster.fakes)
}

fn any_port() -> Config {
    Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Config::default() }
}

#[test]
fn the_configuration_has_defaults_and_no_unknown_keys() {
    let read = config("payload_max_bytes = 100\ndelivery.lanes = 2\nauth.key_ttl = \"5s\"").unwrap();
    assert_eq!((read.payload_max_bytes, read.delivery.lanes, read.batch_max_pushes), (100, 2, 1_000));
    assert_eq!(read.auth.key_ttl, Duration::from_secs(5));
    for wrong in ["payload_max = 1", "delivery.lane = 1", "bootstrap.key = \"x\"", "peers.x = 1"] {
        assert!(config(wrong).unwrap_err().starts_with("x.toml: center."), "{wrong}");
    }
    // What a printed configuration says is what is read.
    let printed = toml::to_string(&Config::default()).unwrap();
    config(&printed).unwrap();
}

#[tokio::test]
async fn it_serves_creates_the_first_app_and_drains() {
    let data = tempfile::tempdir().unwrap();
    let key_file = data.path().join("key");
    std::fs::write(&key_file, "lwk_first\n").unwrap();
    let bootstrap = Bootstrap {
        app: "first".to_owned(),
        key_sha256: None,
        key_file: Some(key_file),
        scopes: vec!["push".to_owned(), "admin".to_owned()],
    };
    let (node, fakes) = start(Config { bootstrap: Some(bootstrap), ..any_port() }, data.path()).await;
    let node = node.unwrap();
    assert_ne!(node.service().address().port(), 0);
    let key = hash_key("lwk_first").to_vec();
    while !fakes.state().keys.contains_key(&key) {
        tokio::task::yield_now().await;
    }
    let (app, scopes) = fakes.state().keys[&key].clone();
    assert_eq!(scopes, ["push", "admin"]);
    assert!(fakes.state().apps.iter().any(|known| known.id == app && known.key == "first"));
    tokio::time::timeout(Duration::from_secs(4), node.drain(Duration::from_secs(5))).await.unwrap();
}

#[tokio::test]
async fn bootstrapping_twice_changes_nothing() {
    let config = Config::default();
    let cluster = FakeCluster::start(&config).await;
    let (discovery, local) = (Arc::new(cluster.discovery), cluster.local);
    let me = cluster::Me::new(Role::Center, cluster::NodeId(9), cluster::Incarnation(1), "default", None);
    let handle = cluster::Cluster::new(discovery, local, Arc::new(me));
    let cancel = CancellationToken::new();
    let savers = peers::Savers::new(&handle, config.peers, cancel.clone());
    let first = First {
        app: "demo".parse().unwrap(),
        key: hash_key(&new_api_key()),
        scopes: auth::Scopes::default().with(auth::Scope::Push),
        limits: config.new_apps.clone(),
    };
    let (before, after) =
        (bootstrap(&savers, &first).await.unwrap(), bootstrap(&savers, &first).await.unwrap());
    assert_eq!((before.id, &before.token_secret), (1, &after.token_secret));
    assert_eq!(cluster.fakes.state().apps.len(), 2);
    cancel.cancel();
}

#[tokio::test]
async fn a_wrong_start_is_one_clear_line() {
    let data = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = Config { listen: taken.local_addr().unwrap(), ..Config::default() };
    let error = start(busy, data.path()).await.0.err().unwrap().to_string();
    assert!(error.starts_with("cannot listen on 127.0.0.1:") && error.contains("center.listen"), "{error}");

    for (section, key) in [
        ("app = \"No\"\nkey_sha256 = \"00\"", "app"),
        ("app = \"a\"\nkey_sha256 = \"00\"", "key_sha256"),
        ("app = \"a\"", "key_sha256"),
        ("app = \"a\"\nkey_file = \"/nowhere\"", "key_file"),
    ] {
        let bootstrap = toml::from_str(section).unwrap();
        let error =
            start(Config { bootstrap: Some(bootstrap), ..any_port() }, data.path()).await.0.err().unwrap();
        assert!(
            matches!(&error, StartError::Config { key: at, .. } if *at == format!("center.bootstrap.{key}")),
            "{error}"
        );
    }
}
