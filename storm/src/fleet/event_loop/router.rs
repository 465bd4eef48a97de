//! Asks the dispatcher on a thread of its own, so that the event loop never waits.

use std::{
    net::SocketAddr,
    sync::{Arc, mpsc as blocking},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use futures::StreamExt as _;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::http;

/// Questions that wait; the loop asks again later when they are this many.
const QUESTIONS: usize = 1024;

/// Questions under way. A dispatcher answers in a millisecond or so, so this is tens of thousands a second.
const AT_ONCE: usize = 64;

/// Where may this user connect?
pub(super) struct Question {
    pub(super) index: u32,
    pub(super) uid: String,
    pub(super) tried: Vec<SocketAddr>,
}

/// There, and after this time; or why nobody knows.
pub(super) struct Answer {
    pub(super) index: u32,
    pub(super) route: Result<(Vec<SocketAddr>, Duration), String>,
}

/// Handle of the thread; it ends when this is dropped.
pub(super) struct Router {
    questions: mpsc::Sender<Question>,
    pub(super) answers: blocking::Receiver<Answer>,
}

#[derive(Deserialize)]
struct Group {
    endpoints: Vec<Endpoint>,
    #[serde(default)]
    connect_after_ms: u64,
}

#[derive(Deserialize)]
struct Endpoint {
    address: String,
}

impl Router {
    pub(super) fn start(base: &str, waker: Arc<mio::Waker>) -> anyhow::Result<Self> {
        let (questions, incoming) = mpsc::channel::<Question>(QUESTIONS);
        // Every answer has its question, and there are at most so many of these.
        let (answer, answers) = blocking::sync_channel(QUESTIONS + AT_ONCE);
        let url = format!("{}/v1/route", base.trim_end_matches('/'));
        let client = http::client(None)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ask_all = async move {
            let asked = ReceiverStream::new(incoming).map(|question| route(&client, &url, question));
            let mut answered = asked.buffer_unordered(AT_ONCE);
            while let Some(one) = answered.next().await {
                if answer.send(one).is_err() || waker.wake().is_err() {
                    return;
                }
            }
        };
        let body = move || runtime.block_on(ask_all);
        thread::Builder::new().name("storm-router".into()).spawn(body).context("starting a thread")?;
        Ok(Self { questions, answers })
    }

    pub(super) fn ask(&self, question: Question) -> Result<(), ()> {
        self.questions.try_send(question).map_err(drop)
    }
}

async fn route(client: &reqwest::Client, url: &str, question: Question) -> Answer {
    let index = question.index;
    // The root alone: the rest names the user, and reasons are counted.
    let route = group(client, url, &question).await.map_err(|error| error.root_cause().to_string());
    Answer { index, route }
}

async fn group(
    client: &reqwest::Client,
    url: &str,
    question: &Question,
) -> anyhow::Result<(Vec<SocketAddr>, Duration)> {
    let mut query = vec![("uid", question.uid.clone())];
    if !question.tried.is_empty() {
        let tried: Vec<_> = question.tried.iter().map(SocketAddr::to_string).collect();
        query.push(("tried", tried.join(",")));
    }
    let url = reqwest::Url::parse_with_params(url, &query)?;
    let group: Group = http::read(client.get(url).send().await?).await?;
    let mut addresses = Vec::new();
    for endpoint in &group.endpoints {
        match endpoint.address.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => addresses.extend(tokio::net::lookup_host(&endpoint.address).await?),
        }
    }
    anyhow::ensure!(!addresses.is_empty(), "no room to connect to");
    Ok((addresses, Duration::from_millis(group.connect_after_ms)))
}
