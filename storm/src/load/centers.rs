//! The centers' API as a backend sees it: any center will do, and another when one does not answer.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::{Context as _, ensure};
use proto::v1::{self, push_service_client::PushServiceClient};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use super::{Failure, http_push::HttpPush, rooms::Rooms};
use crate::http;

/// Connections to each center. One HTTP/2 connection has one flow-control window and one lock; two keep a core of
/// the center and one of ours busy.
const CONNECTIONS: usize = 2;

/// Longest answer: a full batch of results.
const MAX_ANSWER: usize = 16 << 20;

/// Where and as whom to call.
#[derive(Debug, Clone)]
pub struct ApiOptions {
    /// Base URLs of the centers.
    pub centers: Vec<String>,
    /// API key.
    pub key: String,
    /// The app's name.
    pub app: String,
    /// Push by HTTP instead of gRPC.
    pub http: bool,
}

type Result<T> = std::result::Result<T, Failure>;

/// All centers. Calls spread over them; each retry by a caller goes to the next.
pub struct Centers {
    clients: Vec<PushServiceClient<Channel>>,
    http: Option<HttpPush>,
    rooms: Option<Rooms>,
    bearer: MetadataValue<Ascii>,
    app: String,
    turn: AtomicUsize,
}

impl Centers {
    /// Connects when it is first used, and again whenever a connection breaks.
    ///
    /// # Errors
    /// If an address or the key is not legible.
    pub fn new(options: &ApiOptions) -> anyhow::Result<Self> {
        ensure!(!options.centers.is_empty(), "no address of a center");
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            for url in &options.centers {
                let endpoint = Endpoint::from_shared(url.clone())
                    .with_context(|| format!("{url:?} is not the URL of a center"))?
                    .connect_timeout(std::time::Duration::from_secs(3))
                    .timeout(http::TIMEOUT)
                    .tcp_nodelay(true)
                    .initial_stream_window_size(1 << 20)
                    .initial_connection_window_size(8 << 20);
                let client = PushServiceClient::new(endpoint.connect_lazy());
                clients.push(client.max_decoding_message_size(MAX_ANSWER));
            }
        }
        let http = options.http.then(|| HttpPush::new(&options.centers, &options.key)).transpose()?;
        let bearer = format!("Bearer {}", options.key).parse().context("the API key is not legible")?;
        Ok(Self { clients, http, rooms: None, bearer, app: options.app.clone(), turn: AtomicUsize::new(0) })
    }

    /// No centers: pushes go straight to the rooms, as transient messages, and nothing else can be asked.
    #[must_use]
    pub fn of_rooms(rooms: Rooms, app: &str) -> Self {
        Self {
            clients: Vec::new(),
            http: None,
            rooms: Some(rooms),
            bearer: MetadataValue::from_static(""),
            app: app.to_owned(),
            turn: AtomicUsize::new(0),
        }
    }

    /// The app that all calls are about.
    #[must_use]
    pub fn app(&self) -> &str {
        &self.app
    }

    fn next(&self) -> Result<PushServiceClient<Channel>> {
        let turn = self.turn.fetch_add(1, Relaxed).checked_rem(self.clients.len());
        turn.map(|turn| self.clients[turn].clone())
            .ok_or_else(|| Failure::from_word("no_route", "there is no center", 0))
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer.clone());
        request
    }

    /// Pushes a batch; one result for each, in order.
    ///
    /// # Errors
    /// If there is no answer for the batch as a whole: each of its pushes may have been stored.
    pub async fn push(&self, pushes: Vec<v1::PushRequest>) -> Result<Vec<Result<v1::PushResponse>>> {
        if let Some(http) = &self.http {
            return Ok(http.push(pushes).await);
        }
        if let Some(rooms) = &self.rooms {
            return Ok(rooms.push(pushes).await);
        }
        let asked = pushes.len();
        let request = self.request(v1::PushBatchRequest { pushes });
        let results = self.next()?.push_batch(request).await?.into_inner().results;
        if results.len() != asked {
            return Err(Failure::unanswered("the center answered another number of pushes"));
        }
        let one = |result: v1::PushResult| match result.result {
            Some(v1::push_result::Result::Ok(ok)) => Ok(ok),
            Some(v1::push_result::Result::Error(failure)) => Err(failure.into()),
            None => Err(Failure::unanswered("an empty result")),
        };
        Ok(results.into_iter().map(one).collect())
    }

    /// Broadcasts.
    ///
    /// # Errors
    /// If it was not accepted.
    pub async fn broadcast(&self, broadcast: v1::BroadcastRequest) -> Result<v1::BroadcastResponse> {
        Ok(self.next()?.broadcast(self.request(broadcast)).await?.into_inner())
    }

    /// How far a broadcast has come.
    ///
    /// # Errors
    /// If there is none.
    pub async fn broadcast_state(&self, id: u64) -> Result<v1::BroadcastState> {
        let asked = v1::GetBroadcastRequest { app: self.app.clone(), id };
        Ok(self.next()?.get_broadcast(self.request(asked)).await?.into_inner())
    }

    /// How far the newest broadcasts before an id have come, newest first.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn broadcasts(&self, before_id: u64, limit: u32) -> Result<Vec<v1::BroadcastState>> {
        let asked = v1::ListBroadcastsRequest { app: self.app.clone(), before_id, limit };
        Ok(self.next()?.list_broadcasts(self.request(asked)).await?.into_inner().broadcasts)
    }

    /// The ledger of a message.
    ///
    /// # Errors
    /// If there is none.
    pub async fn ledger(&self, id: u64) -> Result<v1::MessageLedger> {
        let asked = v1::GetMessageRequest { app: self.app.clone(), id };
        Ok(self.next()?.get_message(self.request(asked)).await?.into_inner())
    }

    /// A user's state.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn user(&self, uid: String) -> Result<v1::UserState> {
        let asked = v1::GetUserRequest { app: self.app.clone(), uid };
        Ok(self.next()?.get_user(self.request(asked)).await?.into_inner())
    }

    /// A device's token.
    ///
    /// # Errors
    /// If it was refused.
    pub async fn token(&self, uid: String) -> Result<String> {
        let asked = v1::IssueTokenRequest { app: self.app.clone(), uid, ttl_s: None };
        Ok(self.next()?.issue_token(self.request(asked)).await?.into_inner().token)
    }
}
