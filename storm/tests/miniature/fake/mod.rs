//! A center and a room in miniature, that can be told to break their promises: the judge must see it.

mod api;
mod certificates;
mod framing;
mod room;
mod room_rpc;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use proto::{
    internal::room_server::RoomServer,
    v1::{PushResponse, push_service_server::PushServiceServer},
};
use tempfile::NamedTempFile;
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use wire::frame::{Broadcast, Push, ServerFrame};

/// What is wrong with the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Every so many-th message is accepted and thrown away.
    Lose(u64),
    /// Every so many-th message is stored twice, under two ids.
    Double(u64),
    /// Every so many-th message is stored only after the user's next.
    Swap(u64),
    /// Every so many-th batch is stored, and its answer lost.
    Mute(u64),
    /// The answer to every so many-th batch is lost, and what is repeated is stored again.
    Forget(u64),
    /// Acks do not reach the ledger.
    Ledger,
    /// Every so many-th device misses each broadcast.
    Deaf(u64),
}

#[derive(Default)]
struct Inbox {
    seq: u64,
    entries: BTreeMap<u64, (u64, Bytes)>,
    held: Option<(u64, Bytes)>,
    to: Option<mpsc::Sender<ServerFrame>>,
    bseq: u64,
}

struct State {
    fault: Fault,
    inboxes: HashMap<String, Inbox>,
    log: Vec<Broadcast>,
    by_key: HashMap<String, PushResponse>,
    acked: HashMap<u64, bool>,
    messages: u64,
    batches: u64,
    next_id: u64,
}

/// The running servers; they end when this is dropped.
pub(crate) struct Fake {
    pub(crate) center: String,
    pub(crate) room: SocketAddr,
    /// The room's gRPC, `host:port`.
    pub(crate) room_rpc: String,
    /// Whom devices trust.
    pub(crate) ca: NamedTempFile,
    _tasks: JoinSet<()>,
}

type Shared = Arc<Mutex<State>>;

impl Fake {
    pub(crate) async fn start(fault: Fault) -> Self {
        let shared: Shared = Arc::new(Mutex::new(State {
            fault,
            inboxes: HashMap::new(),
            log: Vec::new(),
            by_key: HashMap::new(),
            acked: HashMap::new(),
            messages: 0,
            batches: 0,
            next_id: 0,
        }));
        let mut tasks = JoinSet::new();
        let api = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let center = format!("http://{}", api.local_addr().unwrap());
        let room_rpc = api.local_addr().unwrap().to_string();
        let service = PushServiceServer::new(api::Api(shared.clone()));
        let rpc = RoomServer::new(room_rpc::Rpc(shared.clone()));
        tasks.spawn(async move {
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(api);
            tonic::transport::Server::builder()
                .add_service(service)
                .add_service(rpc)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        let devices = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let room = devices.local_addr().unwrap();
        let (tls, ca) = certificates::make();
        tasks.spawn(room::serve(devices, tls, shared));
        Self { center, room, room_rpc, ca, _tasks: tasks }
    }
}

impl State {
    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Stores a message, or what the fault makes of it.
    fn store(&mut self, uid: &str, payload: Bytes) -> PushResponse {
        self.messages += 1;
        let nth = |n: u64| self.messages.is_multiple_of(n);
        let (lose, double, swap) = match self.fault {
            Fault::Lose(n) => (nth(n), false, false),
            Fault::Double(n) => (false, nth(n), false),
            Fault::Swap(n) => (false, false, nth(n)),
            _ => (false, false, false),
        };
        let id = self.id();
        self.acked.insert(id, lose || swap);
        if swap {
            self.inboxes.entry(uid.into()).or_default().held = Some((id, payload));
            return PushResponse { id, outcome: 1, ..PushResponse::default() };
        }
        if !lose {
            self.append(uid, id, payload.clone());
        }
        if double {
            let again = self.id();
            self.append(uid, again, payload);
        }
        if let Some((id, payload)) = self.inboxes.entry(uid.into()).or_default().held.take() {
            self.append(uid, id, payload);
        }
        PushResponse { id, outcome: 1, ..PushResponse::default() }
    }

    fn append(&mut self, uid: &str, id: u64, payload: Bytes) {
        let inbox = self.inboxes.entry(uid.into()).or_default();
        inbox.seq += 1;
        inbox.entries.insert(inbox.seq, (id, payload.clone()));
        let push = Push { binding: 1, seq: inbox.seq, id, payload, ..Push::default() };
        if let Some(to) = &inbox.to {
            let _ = to.try_send(push.into());
        }
    }

    fn broadcast(&mut self, payload: Bytes) -> u64 {
        let id = self.id();
        let bseq = self.log.len() as u64 + 1;
        let broadcast = Broadcast { app: 1, bseq, id, payload, accepted_ms: 0, binding: 0 };
        self.log.push(broadcast.clone());
        let fault = self.fault;
        for (n, inbox) in self.inboxes.values().enumerate() {
            let deaf = matches!(fault, Fault::Deaf(every) if (n as u64).is_multiple_of(every));
            if let (false, Some(to)) = (deaf, &inbox.to) {
                let _ = to.try_send(broadcast.clone().into());
            }
        }
        id
    }

    fn ack(&mut self, uid: &str, seq: u64, bseq: u64) {
        let Some(inbox) = self.inboxes.get_mut(uid) else { return };
        inbox.bseq = inbox.bseq.max(bseq);
        let left = inbox.entries.split_off(&(seq + 1));
        let done = std::mem::replace(&mut inbox.entries, left);
        if self.fault != Fault::Ledger {
            for (id, _) in done.into_values() {
                self.acked.insert(id, true);
            }
        }
    }
}
