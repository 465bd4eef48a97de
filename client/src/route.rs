//! Asking the dispatcher where to connect: `GET /v1/route?uid=&network=&tried=`.

use std::{fmt::Write, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use wire::frame::Network;

/// The answer names a handful of addresses.
const MAX_ANSWER: usize = 64 * 1024;
/// A dispatcher answers from memory; what takes longer is the network or a dead dispatcher.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The dispatcher's answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Route {
    /// Where to connect, best first.
    pub endpoints: Vec<Endpoint>,
    /// How long to wait before.
    #[serde(default)]
    pub connect_after_ms: u32,
}

/// One address.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Endpoint {
    /// `host:port`
    pub address: Arc<str>,
    /// The zone it is in.
    #[serde(default)]
    pub zone: String,
}

/// Why there is no route.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// The dispatcher's address is not one that this crate can ask.
    #[error("{0:?} is no dispatcher's address: it must be like http://host:port")]
    BadUrl(String),
    /// It did not answer in time.
    #[error("the dispatcher did not answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// It could not be reached.
    #[error("cannot reach the dispatcher: {0}")]
    Io(#[from] std::io::Error),
    /// It broke off the answer.
    #[error("no answer from the dispatcher: {0}")]
    Http(#[from] hyper::Error),
    /// It refused.
    #[error("the dispatcher answered {0}")]
    Status(http::StatusCode),
    /// Its answer is too long or breaks off.
    #[error("cannot read the dispatcher's answer: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// Its answer is not what it should be.
    #[error("cannot understand the dispatcher's answer: {0}")]
    Json(#[from] serde_json::Error),
}

/// A dispatcher.
#[derive(Debug, Clone)]
pub struct Dispatcher {
    authority: Arc<str>,
    /// With the default port put in.
    host_port: Arc<str>,
    /// Before `/v1/route`, for a dispatcher behind a proxy.
    base: Arc<str>,
}

impl Dispatcher {
    /// The dispatcher at a URL like `http://host:port`.
    ///
    /// # Errors
    /// [`RouteError::BadUrl`] unless it is an `http` URL with a host.
    pub fn new(url: &str) -> Result<Self, RouteError> {
        let bad = || RouteError::BadUrl(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let authority = uri.authority().filter(|_| uri.scheme_str() == Some("http")).ok_or_else(bad)?;
        let host_port = match authority.port_u16() {
            Some(_) => authority.as_str().into(),
            None => format!("{}:80", authority.host()).into(),
        };
        let base = uri.path().trim_end_matches('/').into();
        Ok(Self { authority: authority.as_str().into(), host_port, base })
    }

    /// Asks where `uid` connects on this network. `tried` failed before.
    ///
    /// # Errors
    /// [`RouteError`]; all but `BadUrl` may pass with time.
    pub async fn route(&self, uid: &str, network: Network, tried: &[Arc<str>]) -> Result<Route, RouteError> {
        tokio::time::timeout(TIMEOUT, self.ask(uid, network, tried)).await.map_err(|_| RouteError::Timeout)?
    }

    async fn ask(&self, uid: &str, network: Network, tried: &[Arc<str>]) -> Result<Route, RouteError> {
        let request = Request::get(self.path(uid, network, tried))
            .header(header::HOST, &*self.authority)
            .header(header::ACCEPT, "application/json")
            .body(Empty::<Bytes>::new())
            .map_err(|_| RouteError::BadUrl(self.authority.as_ref().to_owned()))?;
        let stream = TcpStream::connect(&*self.host_port).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut connection = pin!(connection);
        let mut answer = pin!(async move {
            let response = sender.send_request(request).await?;
            if !response.status().is_success() {
                return Err(RouteError::Status(response.status()));
            }
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            Ok(serde_json::from_slice(&body.map_err(RouteError::Body)?.to_bytes())?)
        });
        // One request on one connection: driven here, so that no task is left behind.
        tokio::select! {
            answer = &mut answer => answer,
            ended = &mut connection => {
                ended?;
                answer.await
            }
        }
    }

    fn path(&self, uid: &str, network: Network, tried: &[Arc<str>]) -> String {
        let mut path = format!("{}/v1/route?uid=", self.base);
        escape(uid, &mut path);
        let _ = write!(path, "&network={}", network_name(network));
        if !tried.is_empty() {
            path.push_str("&tried=");
            escape(&tried.join(","), &mut path);
        }
        path
    }
}

/// The network's name in a route request.
#[must_use]
pub const fn network_name(network: Network) -> &'static str {
    match network {
        Network::Unspecified => "",
        Network::Wired => "wired",
        Network::Wifi => "wifi",
        Network::Network2g => "2g",
        Network::Network3g => "3g",
        Network::Network4g => "4g",
        Network::Network5g => "5g",
    }
}

/// Appends `text` as part of a query.
fn escape(text: &str, query: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            query.push(byte.into());
        } else {
            // Writing to a String cannot fail.
            let _ = write!(query, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    /// Answers one request with `answer`; the request's first line.
    async fn serve(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..length]).lines().next().unwrap().to_owned()
        });
        (url, served)
    }

    #[tokio::test]
    async fn asks_and_understands() {
        let (url, served) = serve(
            "HTTP/1.1 200 OK\r\ncontent-length: 83\r\n\r\n\
             {\"endpoints\":[{\"address\":\"h:1\",\"zone\":\"z\"},{\"address\":\"h:2\"}],\"connect_after_ms\":5}",
        )
        .await;
        let dispatcher = Dispatcher::new(&url).unwrap();
        let route = dispatcher.route("a&b é", Network::Wifi, &["x:1".into(), "y:2".into()]).await.unwrap();
        assert_eq!(route.connect_after_ms, 5);
        assert_eq!(route.endpoints.iter().map(|e| &*e.address).collect::<Vec<_>>(), ["h:1", "h:2"]);
        let line = served.await.unwrap();
        assert_eq!(line, "GET /v1/route?uid=a%26b%20%C3%A9&network=wifi&tried=x%3A1%2Cy%3A2 HTTP/1.1");
    }

    #[tokio::test]
    async fn refusals_and_nonsense_are_told_apart() {
        let (url, _served) = serve("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
        let error = Dispatcher::new(&url).unwrap().route("u", Network::Wired, &[]).await.unwrap_err();
        assert_eq!(error.to_string(), "the dispatcher answered 503 Service Unavailable");
        let (url, _served) = serve("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
        let error = Dispatcher::new(&url).unwrap().route("u", Network::Wired, &[]).await.unwrap_err();
        assert!(matches!(error, RouteError::Json(_)), "{error}");
        let (url, _served) = serve("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhi").await;
        let error = Dispatcher::new(&url).unwrap().route("u", Network::Wired, &[]).await.unwrap_err();
        assert!(matches!(error, RouteError::Body(_) | RouteError::Http(_)), "{error}");
    }

    #[test]
    fn only_http_addresses() {
        for bad in ["", "host:1", "https://h:1", "/x"] {
            assert!(Dispatcher::new(bad).is_err(), "{bad}");
        }
        assert_eq!(&*Dispatcher::new("http://h/p/").unwrap().host_port, "h:80");
        assert_eq!(&*Dispatcher::new("http://h:1/p/").unwrap().base, "/p");
    }
}
