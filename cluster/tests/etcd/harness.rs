//! Nodes on an etcd, and what can be done to both.

use std::{path::Path, sync::Arc, time::Duration};

use cluster::{
    Discovery, Me, NodeId, NodeState, Picture, Role,
    etcd::{EtcdDiscovery, EtcdMetrics, EtcdOptions, Start},
};
use etcd_client::Client;
use stores::Etcd;
use tempfile::TempDir;
use tokio::{sync::watch, time::timeout};

pub(crate) const LEASE: Duration = Duration::from_secs(2);
/// A lease ends up to a second after its time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn options(etcd: &Etcd) -> EtcdOptions {
    EtcdOptions { lease: LEASE, ..EtcdOptions::new(etcd.endpoints(), "test") }
}

pub(crate) fn start(role: Role, id: Option<u32>, data: &Path) -> Start {
    Start { role, id: id.map(NodeId), any_id: false, data: data.to_owned() }
}

/// A node that has joined.
pub(crate) struct Joined {
    pub(crate) discovery: EtcdDiscovery,
    pub(crate) me: Arc<Me>,
}

pub(crate) async fn join_in(etcd: &Etcd, role: Role, id: Option<u32>, data: &Path) -> Joined {
    let discovery = EtcdDiscovery::start(options(etcd), start(role, id, data), EtcdMetrics::default());
    let discovery = timeout(PATIENCE, discovery).await.unwrap().unwrap();
    let me = Me::new(role, discovery.id(), discovery.incarnation(), "z", Some("h:1".to_owned()));
    let me = Arc::new(me);
    me.set_state(NodeState::Ready);
    timeout(PATIENCE, discovery.join(me.clone())).await.unwrap().unwrap();
    Joined { discovery, me }
}

pub(crate) async fn join(etcd: &Etcd, role: Role) -> (Joined, TempDir) {
    let data = tempfile::tempdir().unwrap();
    (join_in(etcd, role, None, data.path()).await, data)
}

pub(crate) async fn until(
    picture: &mut watch::Receiver<Arc<Picture>>,
    what: &str,
    wanted: impl Fn(&Picture) -> bool,
) {
    let found = timeout(PATIENCE, picture.wait_for(|p| wanted(p))).await.is_ok();
    assert!(found, "not in time: {what}: {:#?}", picture.borrow());
}

pub(crate) fn serving(picture: &Picture) -> Vec<u32> {
    let mut ids: Vec<_> = Role::ALL.iter().flat_map(|r| picture.serving(*r)).map(|n| n.id.0).collect();
    ids.sort();
    ids
}

pub(crate) async fn client(etcd: &Etcd) -> Client {
    Client::connect(etcd.endpoints(), None).await.unwrap()
}

/// As if the node had been killed: its lease is not revoked, and is not kept alive either.
pub(crate) async fn end_lease(etcd: &Etcd, id: NodeId) {
    let mut client = client(etcd).await;
    let got = client.get(format!("/longwire/test/ids/{id}"), None).await.unwrap();
    client.lease_client().revoke(got.kvs()[0].lease()).await.unwrap();
}

/// A way to etcd that can be closed.
pub(crate) struct Cut {
    open: watch::Sender<bool>,
}

impl Cut {
    pub(crate) async fn new(options: &EtcdOptions) -> (EtcdOptions, Self) {
        let target = options.endpoints[0].trim_start_matches("http://").to_owned();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (open, state) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (target, mut state) = (target.clone(), state.clone());
                tokio::spawn(async move {
                    if !*state.borrow() {
                        return;
                    }
                    let mut far = tokio::net::TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = state.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        (EtcdOptions { endpoints: vec![endpoint], ..options.clone() }, Self { open })
    }

    pub(crate) fn close(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}
