//! The rooms' own gRPC, as the centers call it: transient messages straight to the users' connections, so that a room
//! can be measured without the services before it.

pub(crate) mod trust;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use proto::{
    internal::{DeliverItem, DeliverRequest, Delivery, room_client::RoomClient},
    v1,
};
use serde::{Deserialize, Serialize};
use tonic::transport::{Channel, Endpoint};

use super::Failure;
use crate::http;

/// Where the rooms are, and how they know us.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RoomOptions {
    /// Address of a room's gRPC, several times for several, in the order of --room
    #[arg(long = "room-rpc", value_name = "HOST:PORT")]
    pub rpc: Vec<String>,
    /// PEM file of the authorities that signed the rooms' certificates; without it the rooms are called in plaintext
    #[arg(long, value_name = "FILE", requires_all = ["rpc_cert", "rpc_key"])]
    pub rpc_ca: Option<PathBuf>,
    /// PEM file of the certificate that we show to the rooms
    #[arg(long, value_name = "FILE", requires = "rpc_ca")]
    pub rpc_cert: Option<PathBuf>,
    /// PEM file of its private key
    #[arg(long, value_name = "FILE", requires = "rpc_ca")]
    pub rpc_key: Option<PathBuf>,
}

/// The rooms.
pub struct Rooms {
    clients: Vec<RoomClient<Channel>>,
    /// Number of the app.
    app: u32,
    next_id: AtomicU64,
}

/// Place of an item in the caller's batch, and the item.
type Placed = (usize, DeliverItem);

impl Rooms {
    /// Connects when it is first used, and again whenever a connection breaks. `app` is the app's number, as devices
    /// learn it when they are bound.
    ///
    /// # Errors
    /// If an address or a file is not legible.
    pub fn new(options: &RoomOptions, app: u32) -> anyhow::Result<Self> {
        ensure!(!options.rpc.is_empty(), "no address of a room's gRPC: --room-rpc");
        let trust = match (&options.rpc_ca, &options.rpc_cert, &options.rpc_key) {
            (Some(ca), Some(cert), Some(key)) => Some(trust::Connector::new(ca, cert, key)?),
            (None, None, None) => None,
            _ => bail!("--rpc-ca, --rpc-cert and --rpc-key go together"),
        };
        let client = |address: &String| {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))
                .with_context(|| format!("{address:?} is not the address of a room"))?
                .connect_timeout(Duration::from_secs(3))
                .timeout(http::TIMEOUT)
                .tcp_nodelay(true)
                .initial_stream_window_size(1 << 20)
                .initial_connection_window_size(8 << 20);
            Ok(RoomClient::new(match &trust {
                Some(trust) => endpoint.connect_with_connector_lazy(trust.to(address)),
                None => endpoint.connect_lazy(),
            }))
        };
        let clients = options.rpc.iter().map(client).collect::<anyhow::Result<_>>()?;
        Ok(Self { clients, app, next_id: AtomicU64::new(1) })
    }

    /// Delivers a batch, each to its user's room; one result for each, in order.
    pub(super) async fn push(&self, pushes: Vec<v1::PushRequest>) -> Vec<Result<v1::PushResponse, Failure>> {
        let mut results: Vec<_> = pushes.iter().map(|_| Err(Failure::unanswered("no answer"))).collect();
        let mut batches: BTreeMap<usize, (Vec<bytes::Bytes>, Vec<Placed>)> = BTreeMap::new();
        for (place, push) in pushes.into_iter().enumerate() {
            let (payloads, items) = batches.entry(self.room_of(&push.uid)).or_default();
            let id = self.next_id.fetch_add(1, Relaxed);
            let payload = Some(payloads.len() as u32);
            payloads.push(push.payload);
            items.push((
                place,
                DeliverItem { app: self.app, uid: push.uid, id, payload, ..DeliverItem::default() },
            ));
        }
        let calls = batches.into_iter().map(|(room, (payloads, placed))| async move {
            let (places, items): (Vec<_>, Vec<_>) = placed.into_iter().unzip();
            let ids: Vec<_> = items.iter().map(|item: &DeliverItem| item.id).collect();
            let answer = self.clients[room].clone().deliver(DeliverRequest { payloads, items }).await;
            (places, ids, answer)
        });
        for (places, ids, answer) in futures::future::join_all(calls).await {
            match answer {
                Ok(answer) => {
                    let outcomes = answer.into_inner().results;
                    for ((place, id), outcome) in places.into_iter().zip(ids).zip(outcomes) {
                        results[place] = outcome_of(id, outcome);
                    }
                }
                Err(status) => {
                    let failure = Failure::from(status);
                    places.into_iter().for_each(|place| results[place] = Err(failure.clone()));
                }
            }
        }
        results
    }

    /// Devices are spread over the rooms by their numbers, and these end their names.
    fn room_of(&self, uid: &str) -> usize {
        let number = uid.rsplit('-').next().and_then(|number| number.parse::<usize>().ok());
        number.unwrap_or(0) % self.clients.len()
    }
}

fn outcome_of(id: u64, outcome: i32) -> Result<v1::PushResponse, Failure> {
    let answer = |outcome: v1::Outcome| {
        Ok(v1::PushResponse { id, outcome: outcome.into(), ..v1::PushResponse::default() })
    };
    match Delivery::try_from(outcome) {
        Ok(Delivery::Sent) => answer(v1::Outcome::Sent),
        Ok(Delivery::NotHere | Delivery::Away) => answer(v1::Outcome::Offline),
        Ok(Delivery::Shed) => Err(Failure::from_word("shed", "the connection is over its bound", 0)),
        Err(_) => Err(Failure::unanswered("an answer that is not known")),
    }
}
