use std::{fs, path::Path};

use cluster::{Incarnation, Me, NodeId, NodeState, Role, TlsFiles, Transport};
use proto::internal::{self as rpc, node_client::NodeClient, node_server::NodeServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Status};

use super::*;
use crate::node_rpc::NodeRpc;

#[path = "../../cluster/src/tls/testing.rs"]
mod testing;
use testing::Authority;

#[tokio::test(start_paused = true)]
async fn a_failed_accept_is_followed_by_a_pause() {
    let errors = tokio_stream::iter((0..3).map(|_| Err::<(), _>(io::Error::from_raw_os_error(24))));
    let start = tokio::time::Instant::now();
    assert_eq!(paced(errors).collect::<Vec<_>>().await.len(), 3);
    assert_eq!(start.elapsed(), 3 * ACCEPT_PAUSE);
}

/// A room's gRPC server.
struct Served {
    address: String,
    metrics: Metrics,
    cancel: CancellationToken,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Served {
    async fn start(tls: Option<Tls>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let me = Arc::new(Me::new(Role::Room, NodeId(4), Incarnation(1), "z", None));
        me.set_state(NodeState::Ready);
        let routes = Routes::new(NodeServer::new(NodeRpc { me, end: None }));
        let (metrics, cancel) = (Metrics::default(), CancellationToken::new());
        let (own, until) = (metrics.clone(), cancel.clone());
        tokio::spawn(async move { serve(listener, routes, tls, &own, until).await });
        Self { address, metrics, cancel }
    }

    /// The message of the refusal.
    async fn refuses(&self, role: Role, tls: Option<&Tls>) -> String {
        let status = ask(&self.client(role, tls)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        status.message().to_owned()
    }

    fn client(&self, role: Role, tls: Option<&Tls>) -> Transport {
        Transport::connect(&self.address, role, tls).unwrap()
    }

    /// Waits until the server has counted so many refusals: a client may know before it does.
    async fn has_refused(&self, n: u64) {
        let line = format!("longwire_rpc_connections_refused_total {n}\n");
        let counted = async {
            while !self.metrics.encode().contains(&line) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(5), counted).await.expect(&line);
    }
}

async fn ask(transport: &Transport) -> Result<rpc::StatusResponse, Status> {
    let mut client = NodeClient::new(transport.clone());
    Ok(client.status(rpc::StatusRequest::default()).await?.into_inner())
}

/// A folder with the certificates of a role, and what they open to.
fn identity(authority: &Authority, role: Role) -> (tempfile::TempDir, Tls) {
    let folder = tempfile::tempdir().unwrap();
    authority.write(folder.path(), &cluster::tls::name_of(role));
    let tls = open(folder.path(), role);
    (folder, tls)
}

fn open(folder: &Path, role: Role) -> Tls {
    let at = |name| folder.join(name);
    Tls::open(TlsFiles { ca: at("ca.pem"), cert: at("node.pem"), key: at("node.key") }, Some(role)).unwrap()
}

#[tokio::test]
async fn nodes_of_one_ca_understand_each_other() {
    let authority = Authority::new();
    let (_a, room) = identity(&authority, Role::Room);
    let (_b, center) = identity(&authority, Role::Center);
    let served = Served::start(Some(room)).await;
    let answer = ask(&served.client(Role::Room, Some(&center))).await.unwrap();
    assert_eq!((answer.role.as_str(), answer.id), ("room", 4));
    served.has_refused(0).await;
    assert!(served.metrics.encode().contains("longwire_rpc_connections_opened_total 1\n"));
}

#[tokio::test]
async fn a_node_of_another_ca_is_refused_by_either() {
    let (_a, room) = identity(&Authority::new(), Role::Room);
    let served = Served::start(Some(room)).await;
    let (_b, stranger) = identity(&Authority::new(), Role::Center);
    let reason = served.refuses(Role::Room, Some(&stranger)).await;
    assert!(reason.contains("its certificate is of another CA than ours"), "{reason}");
    assert_eq!(stranger.failed_connects(), 1);
}

/// The client trusts the server, but not the other way round: the client is told so when it connects.
#[tokio::test]
async fn a_client_of_another_ca_is_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (_a, room) = identity(&ours, Role::Room);
    let served = Served::start(Some(room)).await;
    let (folder, _) = identity(&theirs, Role::Center);
    // Both CAs are good to the client, and only ours to the server.
    fs::write(folder.path().join("ca.pem"), theirs.pem() + &ours.pem()).unwrap();
    let stranger = open(folder.path(), Role::Center);
    let reason = served.refuses(Role::Room, Some(&stranger)).await;
    assert!(reason.contains("it refuses our certificate: UnknownCA"), "{reason}");
    served.has_refused(1).await;
}

#[tokio::test]
async fn another_role_than_the_one_called_is_refused() {
    let authority = Authority::new();
    let (_a, dispatcher) = identity(&authority, Role::Dispatcher);
    let (_b, center) = identity(&authority, Role::Center);
    let served = Served::start(Some(dispatcher)).await;
    let reason = served.refuses(Role::Saver, Some(&center)).await;
    assert!(reason.contains("its certificate is refused") && reason.contains("saver.longwire"), "{reason}");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let authority = Authority::new();
    let (_a, room) = identity(&authority, Role::Room);
    let served = Served::start(Some(room)).await;
    let mut roots = rustls::RootCertStore::empty();
    use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let nobody = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(&served.address).await.unwrap();
    let name = ServerName::try_from("room.longwire.internal").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(nobody));
    let mut stream = connector.connect(name, stream).await.unwrap();
    let error = stream.read(&mut [0]).await.unwrap_err();
    assert_eq!(peer_error(&error).unwrap(), "it wants a certificate, and we have shown none");
    served.has_refused(1).await;
}

#[tokio::test]
async fn plaintext_and_tls_say_what_is_wrong() {
    let authority = Authority::new();
    let (_a, room) = identity(&authority, Role::Room);
    let (_b, center) = identity(&authority, Role::Center);

    let served = Served::start(Some(room)).await;
    let reason = served.refuses(Role::Room, None).await;
    assert!(reason.contains("it is configured for TLS, and we are for plaintext"), "{reason}");
    served.has_refused(1).await;

    let served = Served::start(None).await;
    let reason = served.refuses(Role::Room, Some(&center)).await;
    assert!(reason.contains("it does not speak TLS: is it configured as plaintext?"), "{reason}");
    served.has_refused(1).await;
    ask(&served.client(Role::Room, None)).await.unwrap();
}

/// New certificates, of a new CA even, while a connection is open: it goes on, and new ones take the new.
#[tokio::test]
async fn certificates_change_while_connections_are_open() {
    let (old, new) = (Authority::new(), Authority::new());
    let (room_folder, room) = identity(&old, Role::Room);
    let (center_folder, center) = identity(&old, Role::Center);
    let served = Served::start(Some(room.clone())).await;
    let open = served.client(Role::Room, Some(&center));
    ask(&open).await.unwrap();

    let (asked, asking) = tokio::sync::watch::channel(0);
    tokio::spawn(room.clone().follow(asking.clone(), served.cancel.clone()));
    tokio::spawn(center.clone().follow(asking, served.cancel.clone()));
    let taken = async |tls: &Tls| {
        asked.send_modify(|n| *n += 1);
        let mut changes = tls.changes();
        timeout(Duration::from_secs(10), changes.wait_for(|n| *n == 1)).await.unwrap().unwrap();
    };

    new.write(room_folder.path(), "room.longwire.internal");
    taken(&room).await;
    ask(&open).await.expect("what is open goes on");
    let reason = served.refuses(Role::Room, Some(&center)).await;
    assert!(reason.contains("of another CA"), "{reason}");
    new.write(center_folder.path(), "center.longwire.internal");
    taken(&center).await;
    ask(&served.client(Role::Room, Some(&center))).await.expect("new connections take the new certificates");
    ask(&open).await.expect("what is open goes on");

    // A broken file changes nothing.
    fs::write(room_folder.path().join("node.pem"), "broken").unwrap();
    asked.send_modify(|n| *n += 1);
    let refused = async {
        while room.refusals() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), refused).await.unwrap();
    ask(&served.client(Role::Room, Some(&center))).await.expect("the old certificates are still in use");
}

/// Who connects and says nothing holds no place: others are greeted, and it is shown out in the end.
#[tokio::test]
async fn silence_does_not_stop_others() {
    let authority = Authority::new();
    let (_a, room) = identity(&authority, Role::Room);
    let (_b, center) = identity(&authority, Role::Center);
    let served = Served::start(Some(room)).await;
    let mut silent = Vec::new();
    for _ in 0..MAX_GREETINGS / 2 {
        let mut stream = TcpStream::connect(&served.address).await.unwrap();
        stream.write_all(&[TLS_HANDSHAKE]).await.unwrap();
        silent.push(stream);
    }
    ask(&served.client(Role::Room, Some(&center))).await.unwrap();
    let end = timeout(2 * GREET_TIMEOUT, silent[0].read(&mut [0])).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}
