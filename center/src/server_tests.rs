use std::net::SocketAddr;

use cluster::Transport;
use proto::v1::{PushRequest, push_service_client::PushServiceClient};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinHandle,
    time::timeout,
};
use tonic::Request;

use super::*;
use crate::{
    config::Config,
    testing::{DEMO_KEY, TestCenter},
};

struct Served {
    _center: TestCenter,
    address: SocketAddr,
    metrics: Metrics,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

async fn serve_here(connections_max: usize, grace: Duration) -> Served {
    let center = TestCenter::start(Config::default()).await;
    let router = crate::router(&center.ops).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (metrics, stop) = (Metrics::default(), CancellationToken::new());
    let most = Connections { max: connections_max, http2_max: 4 };
    let server = tokio::spawn(serve(listener, router, most, metrics.clone(), stop.clone(), grace));
    Served { _center: center, address, metrics, stop, server }
}

async fn get(stream: &mut TcpStream, path: &str) -> String {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = vec![0; 64];
    stream.read_exact(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn http_and_grpc_share_the_port() {
    let served = serve_here(10, Duration::from_secs(5)).await;
    let mut http = TcpStream::connect(served.address).await.unwrap();
    assert!(get(&mut http, "/nowhere").await.starts_with("HTTP/1.1 404"));

    let transport = Transport::connect_lazy(&served.address.to_string()).unwrap();
    let mut push = Request::new(PushRequest { uid: "alice".to_owned(), ..Default::default() });
    push.metadata_mut().insert("authorization", format!("Bearer {DEMO_KEY}").parse().unwrap());
    assert_eq!(PushServiceClient::new(transport).push(push).await.unwrap().into_inner().seq, 1);

    served.stop.cancel();
    // Idle connections are closed at once, not after the grace.
    timeout(Duration::from_secs(4), served.server).await.unwrap().unwrap();
    assert_eq!(served.metrics.connections_opened.get(), 2);
    assert_eq!(served.metrics.connections_closed.get(), 2);
}

#[tokio::test]
async fn a_full_house_lets_callers_wait() {
    let served = serve_here(1, Duration::from_secs(5)).await;
    let mut first = TcpStream::connect(served.address).await.unwrap();
    assert!(get(&mut first, "/nowhere").await.starts_with("HTTP/1.1 404"));
    let mut second = TcpStream::connect(served.address).await.unwrap();
    let early = timeout(Duration::from_millis(50), get(&mut second, "/nowhere")).await;
    assert!(early.is_err(), "there is no place yet");
    drop(first);
    let mut answer = [0; 12];
    second.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404");
}

#[tokio::test]
async fn who_outlasts_the_drain_is_cut_off() {
    let served = serve_here(10, Duration::from_millis(20)).await;
    let mut slow = TcpStream::connect(served.address).await.unwrap();
    let head = format!(
        "POST /v1/push HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {DEMO_KEY}\r\ncontent-length: 99\r\n\r\n"
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    while served.metrics.connections_opened.get() == 0 {
        tokio::task::yield_now().await;
    }
    served.stop.cancel();
    timeout(Duration::from_secs(4), served.server).await.unwrap().unwrap();
    assert_eq!(served.metrics.connections_closed.get(), 1);
}
