//! A TCP proxy that can be slow, silent or cut.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Chunks on their way in a direction of a connection, each of at most [`CHUNK`] bytes: enough for a delay of a second
/// at full load.
const CHUNKS: usize = 256;
const CHUNK: usize = 16 * 1024;

/// What a proxy does with what comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Traffic {
    /// Passes it on.
    #[default]
    Pass,
    /// Passes answers on so much later.
    Slow(Duration),
    /// Accepts connections and passes nothing on, until it does something else.
    Stall,
    /// Ends all connections, and new ones at once.
    Cut,
}

/// Stands in front of a server. It ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    traffic: watch::Sender<Traffic>,
    _running: DropGuard,
}

impl Proxy {
    /// Listens on `address` for `to`, which need not be there yet.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start(address: SocketAddr, to: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| format!("a proxy on {address}"))?;
        let address = listener.local_addr()?;
        let (traffic, cancel) = (watch::Sender::new(Traffic::Pass), CancellationToken::new());
        tokio::spawn(cancel.clone().run_until_cancelled_owned(accept(
            listener,
            to,
            traffic.subscribe(),
            cancel.clone(),
        )));
        Ok(Self { address, traffic, _running: cancel.drop_guard() })
    }

    /// From now on.
    pub fn set(&self, traffic: Traffic) {
        self.traffic.send_replace(traffic);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(
    listener: TcpListener,
    to: SocketAddr,
    traffic: watch::Receiver<Traffic>,
    cancel: CancellationToken,
) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (mut until, traffic) = (traffic.clone(), traffic.clone());
        let connection = async move {
            let Ok(server) = TcpStream::connect(to).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::select! {
                () = pass(from_client, to_server, traffic.clone(), false) => {}
                () = pass(from_server, to_client, traffic, true) => {}
                _ = until.wait_for(|t| *t == Traffic::Cut) => {}
            }
        };
        tokio::spawn(cancel.clone().run_until_cancelled_owned(connection));
    }
}

/// Passes one direction on, until its end.
async fn pass(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    mut traffic: watch::Receiver<Traffic>,
    answers: bool,
) {
    let (chunks, mut queue) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS);
    let delay = traffic.clone();
    let read = async move {
        let mut buffer = vec![0; CHUNK];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            let wait = match *delay.borrow() {
                Traffic::Slow(wait) if answers => wait,
                _ => Duration::ZERO,
            };
            if chunks.send((Instant::now() + wait, buffer[..n].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let write = async {
        while let Some((due, chunk)) = queue.recv().await {
            tokio::time::sleep_until(due).await;
            // The sender is gone with the proxy, and this task with both.
            let _ = traffic.wait_for(|t| *t != Traffic::Stall).await;
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers every byte with itself.
    async fn echo() -> anyhow::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = connection.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        Ok(address)
    }

    async fn byte(connection: &mut TcpStream) -> std::io::Result<Duration> {
        let begun = Instant::now();
        connection.write_all(b"x").await?;
        connection.read_exact(&mut [0]).await?;
        Ok(begun.elapsed())
    }

    #[tokio::test]
    async fn passes_slows_stalls_and_cuts() -> anyhow::Result<()> {
        let proxy = Proxy::start("127.0.0.1:0".parse()?, echo().await?).await?;
        let mut connection = TcpStream::connect(proxy.address()).await?;
        byte(&mut connection).await?;
        let slow = Duration::from_millis(200);
        proxy.set(Traffic::Slow(slow));
        assert!(byte(&mut connection).await? >= slow);
        proxy.set(Traffic::Stall);
        let silent = tokio::time::timeout(Duration::from_millis(100), byte(&mut connection)).await;
        assert!(silent.is_err(), "nothing passes");
        proxy.set(Traffic::Pass);
        connection.read_exact(&mut [0]).await?;
        proxy.set(Traffic::Cut);
        assert!(byte(&mut connection).await.is_err(), "it is cut");
        proxy.set(Traffic::Pass);
        byte(&mut TcpStream::connect(proxy.address()).await?).await?;
        Ok(())
    }
}
