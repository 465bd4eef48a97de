//! Connections to Redis: one server, the master among several, or Redis Cluster.
//!
//! A connection that fails is not mended: whoever answers at the same address may be another server, or the same one
//! without its data. So the link is given up, and a new one is only used once the life of the store has been judged.

use std::time::Duration;

use futures::future::join_all;
use redis::{
    AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, Value,
    aio::{ConnectionLike as _, MultiplexedConnection},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo},
};

use super::{RedisSettings, scripts::Source};

/// Why a call to Redis did nothing that is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// The partition is in another epoch than the caller.
    #[error("another epoch")]
    Stale,
    /// The journal is full.
    #[error("the journal is full")]
    Behind,
    /// `maxmemory` is reached.
    #[error("Redis is at its maxmemory")]
    Full,
    /// The connection failed, or nobody answered in time, or the server is no master.
    #[error("{0}")]
    Down(String),
    /// A script is wrong, or what it read is.
    #[error("Redis answers {0}")]
    Broken(String),
}

impl From<RedisError> for Failure {
    fn from(e: RedisError) -> Self {
        Self::Down(e.to_string())
    }
}

/// What a connection is used for: one kind of call does not wait behind another's large answers.
#[derive(Clone, Copy, Debug)]
pub(super) enum Line {
    Appends,
    Calls,
    Journal,
}

/// A call of a script, or a command, for one partition.
pub(super) struct Call {
    pub(super) cmd: Cmd,
    pub(super) source: Option<&'static Source>,
}

enum Lines {
    Single([MultiplexedConnection; 3]),
    Cluster(Box<[ClusterConnection; 3]>),
}

/// Connections to one life of Redis.
pub(super) struct Link {
    lines: Lines,
    wait_replicas: u32,
    wait: Duration,
}

impl Link {
    /// Connects to the master.
    pub(super) async fn open(settings: &RedisSettings) -> Result<Self, Failure> {
        let lines = if settings.cluster { clustered(settings).await? } else { single(settings).await? };
        Ok(Self { lines, wait_replicas: settings.wait_replicas, wait: settings.timeout / 2 })
    }

    /// What the masters are known by: a replication id is new whenever a server starts or is promoted.
    pub(super) async fn identity(&self) -> Result<String, Failure> {
        let mut cmd = redis::cmd("INFO");
        cmd.arg("replication");
        let answer = match &self.lines {
            Lines::Single(lines) => lines[1].clone().req_packed_command(&cmd).await?,
            Lines::Cluster(lines) => {
                let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                lines[1].clone().route_command(cmd, all).await?
            }
        };
        let mut texts = Vec::new();
        collect_text(answer, &mut texts);
        let field = |text: &str, name: &str| {
            text.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_owned())
        };
        if texts.iter().any(|t| field(t, "role:").as_deref() == Some("slave")) {
            return Err(Failure::Down("the server is not a master any more".to_owned()));
        }
        let mut ids: Vec<String> = texts.iter().filter_map(|t| field(t, "master_replid:")).collect();
        ids.sort_unstable();
        match ids.len() {
            0 => Err(Failure::Broken("INFO without a replication id".to_owned())),
            1 => Ok(ids.remove(0)),
            // Three masters have 120 characters; a hash of many keeps within the archive's column.
            _ => Ok(redis::Script::new(&ids.join(" ")).get_hash().to_owned()),
        }
    }

    /// What `INFO` says, of each server.
    pub(super) async fn info(&self) -> Result<Vec<String>, Failure> {
        let cmd = redis::cmd("INFO");
        let answer = match &self.lines {
            Lines::Single(lines) => lines[1].clone().req_packed_command(&cmd).await?,
            Lines::Cluster(lines) => {
                let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                lines[1].clone().route_command(cmd, all).await?
            }
        };
        let mut texts = Vec::new();
        collect_text(answer, &mut texts);
        Ok(texts)
    }

    /// Makes calls at once, in their order for each partition. One answer for each.
    pub(super) async fn run(&self, line: Line, calls: Vec<Call>) -> Vec<Result<Value, Failure>> {
        let mut answers = self.send(line, &calls).await;
        let unknown =
            |a: &Result<Value, Failure>| matches!(a, Err(Failure::Broken(e)) if e.starts_with("NOSCRIPT"));
        let again: Vec<usize> = (0..calls.len()).filter(|n| unknown(&answers[*n])).collect();
        if !again.is_empty() {
            // The server has forgotten the scripts, or is another of the cluster.
            let with_code = again.iter().map(|n| Call {
                cmd: calls[*n].source.map_or_else(Cmd::new, |source| source.by_code(&calls[*n].cmd)),
                source: None,
            });
            let with_code: Vec<Call> = with_code.collect();
            for (n, answer) in again.into_iter().zip(self.send(line, &with_code).await) {
                answers[n] = answer;
            }
        }
        answers
    }

    /// One call.
    pub(super) async fn one(&self, line: Line, call: Call) -> Result<Value, Failure> {
        self.run(line, vec![call]).await.pop().unwrap_or_else(|| Err(Failure::Down("no answer".to_owned())))
    }

    async fn send(&self, line: Line, calls: &[Call]) -> Vec<Result<Value, Failure>> {
        let replicas = matches!(line, Line::Appends) && self.wait_replicas > 0;
        match &self.lines {
            Lines::Single(lines) => {
                let mut line = lines[line as usize].clone();
                let mut pipeline = Pipeline::with_capacity(calls.len() + 1);
                for call in calls {
                    pipeline.add_command(call.cmd.clone());
                }
                if replicas {
                    pipeline.add_command(self.wait());
                }
                let expected = calls.len() + usize::from(replicas);
                match line.req_packed_commands(&pipeline, 0, expected).await {
                    Ok(mut answers) => {
                        let seen = if replicas { answers.pop() } else { None };
                        let mut answers: Vec<_> = answers.into_iter().map(judged).collect();
                        if replicas && !self.enough(seen.as_ref()) {
                            answers.iter_mut().filter(|a| a.is_ok()).for_each(|a| *a = Err(unreplicated()));
                        }
                        answers
                    }
                    Err(e) => vec![Err(e.into()); calls.len()],
                }
            }
            Lines::Cluster(lines) => {
                let one = |call: &Call| {
                    let mut line = lines[line as usize].clone();
                    let cmd = call.cmd.clone();
                    async move {
                        match line.req_packed_command(&cmd).await {
                            Ok(value) => judged(value),
                            Err(e) => Err(refused(&e)),
                        }
                    }
                };
                join_all(calls.iter().map(one)).await
            }
        }
    }

    fn wait(&self) -> Cmd {
        let mut cmd = redis::cmd("WAIT");
        cmd.arg(self.wait_replicas).arg(u64::try_from(self.wait.as_millis()).unwrap_or(1_000));
        cmd
    }

    fn enough(&self, seen: Option<&Value>) -> bool {
        matches!(seen, Some(Value::Int(n)) if *n >= i64::from(self.wait_replicas))
    }
}

fn unreplicated() -> Failure {
    Failure::Down("too few replicas have it".to_owned())
}

async fn single(settings: &RedisSettings) -> Result<Lines, Failure> {
    let mut last = Failure::Down("no node is configured".to_owned());
    for node in &settings.nodes {
        match master(node, settings.timeout).await {
            Ok(lines) => return Ok(lines),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Connects to a node if it is a master.
async fn master(node: &str, timeout: Duration) -> Result<Lines, Failure> {
    let client = Client::open(node)?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(timeout))
        .set_response_timeout(Some(timeout));
    let open = || client.get_multiplexed_async_connection_with_config(&config);
    let mut first = open().await?;
    let role = first.req_packed_command(&redis::cmd("ROLE")).await?;
    let Value::Array(role) = role else { return Err(Failure::Broken("ROLE".to_owned())) };
    match role.first() {
        Some(Value::BulkString(role)) if role == b"master" => {}
        _ => return Err(Failure::Down("none of the nodes is a master".to_owned())),
    }
    Ok(Lines::Single([first, open().await?, open().await?]))
}

async fn clustered(settings: &RedisSettings) -> Result<Lines, Failure> {
    let client = ClusterClient::builder(settings.nodes.clone())
        .connection_timeout(settings.timeout)
        .response_timeout(settings.timeout)
        .overall_response_timeout(Some(settings.timeout * 2))
        .retries(2)
        .build()?;
    let open = || client.get_async_connection();
    Ok(Lines::Cluster(Box::new([open().await?, open().await?, open().await?])))
}

/// An error inside an answer is an error.
fn judged(value: Value) -> Result<Value, Failure> {
    let Value::ServerError(e) = value else { return Ok(value) };
    Err(by_code(e.code(), e.details().unwrap_or_default()))
}

fn refused(e: &RedisError) -> Failure {
    match e.code() {
        Some(code) => by_code(code, e.detail().unwrap_or_default()),
        None => Failure::Down(e.to_string()),
    }
}

fn by_code(code: &str, details: &str) -> Failure {
    match code {
        "STALE" => Failure::Stale,
        "BEHIND" => Failure::Behind,
        "OOM" => Failure::Full,
        "READONLY" | "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "MOVED" | "ASK" | "TRYAGAIN"
        | "NOREPLICAS" | "MISCONF" | "NOAUTH" => Failure::Down(format!("{code} {details}")),
        // A script's own error is wrapped by older servers: the reason stands in its text.
        _ if details.contains("OOM command not allowed") => Failure::Full,
        _ if details.contains("MISCONF") || details.contains("NOREPLICAS") => {
            Failure::Down(details.to_owned())
        }
        _ => Failure::Broken(format!("{code} {details}")),
    }
}

/// Memory used and its bound, bytes, of the fullest server; `None` if none has a bound.
pub(super) fn memory(infos: &[String]) -> Option<(u64, u64)> {
    let number = |text: &str, name: &str| {
        text.lines().find_map(|l| l.strip_prefix(name)).and_then(|v| v.trim().parse::<u64>().ok())
    };
    let of =
        |t: &String| Some((number(t, "used_memory:")?, number(t, "maxmemory:").filter(|most| *most > 0)?));
    infos.iter().filter_map(of).max_by_key(|(used, most)| used.saturating_mul(1000) / most)
}

fn collect_text(value: Value, out: &mut Vec<String>) {
    match value {
        Value::BulkString(bytes) => out.push(String::from_utf8_lossy(&bytes).into_owned()),
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => out.push(text),
        Value::Map(pairs) => pairs.into_iter().for_each(|(_, v)| collect_text(v, out)),
        Value::Array(all) => all.into_iter().for_each(|v| collect_text(v, out)),
        _ => {}
    }
}
