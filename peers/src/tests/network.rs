//! A peer that is killed, seen over TCP.

use std::net::SocketAddr;

use cluster::Role;
use proto::internal as rpc;
use tokio::{net::TcpListener, runtime::Runtime};
use tonic::{
    service::Routes,
    transport::{Server, server::TcpIncoming},
};

use super::{
    fake_saver::FakeSaver,
    town::{Town, limits},
};
use crate::{PeerError, Savers};

/// A server on a runtime of its own: its end cuts the connections as that of a killed process does.
struct Process(Option<Runtime>);

impl Process {
    async fn start(address: SocketAddr, routes: Routes) -> (Self, SocketAddr) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.spawn(async move { TcpListener::bind(address).await.unwrap() }).await.unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(Server::builder().add_routes(routes).serve_with_incoming(TcpIncoming::from(listener)));
        (Self(Some(runtime)), address)
    }

    fn kill(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test]
async fn a_call_survives_the_death_of_its_peer() {
    let first = FakeSaver { hangs: true, ..FakeSaver::new(1) };
    let (mut process, address) = Process::start(([127, 0, 0, 1], 0).into(), first.routes()).await;
    let mut town = Town::new();
    town.add_remote(Role::Saver, 1, address).await;
    let savers = Savers::new(&town.cluster, limits(), town.cancel.clone());
    let ack = |app| {
        let savers = savers.clone();
        async move { savers.ack(rpc::AckItem { app, uid: "u".into(), ..Default::default() }).await }
    };
    let waiting = tokio::spawn(ack(7));
    first.called.notified().await;

    // Cut in the middle of the call, then nobody there: neither is an answer of the peer's.
    process.kill();
    let app = savers.put_app(rpc::App::default()).await;
    assert!(matches!(app, Err(PeerError::Unavailable { .. })), "{app:?}");

    let second = FakeSaver::new(1);
    let (_process, _) = Process::start(address, second.routes()).await;
    waiting.await.unwrap().unwrap();
    ack(8).await.unwrap();
    assert_eq!(second.seen.lock().unwrap().acks, [1, 1]);
}
