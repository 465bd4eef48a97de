//! A device without an SDK: says what a test tells it to, well or badly.

use std::{fmt::Debug, net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use wire::{
    ClientDecoder,
    codec::{PREAMBLE, encode_client_frame},
    frame::{
        Ack, Bind, BindFailed, Bound, Broadcast, ClientFrame, Close, Connect, Connected, Push, Recall,
        ServerBody, ServerFrame, Unbind, Unbound,
    },
    limits::MAX_SERVER_FRAME,
};

use crate::external;

/// What comes at all comes in this time, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(15);

/// A connection to a room, nothing more.
pub struct RawDevice {
    stream: TcpStream,
    decoder: ClientDecoder,
    /// Read, and not decoded yet.
    unread: Vec<u8>,
    /// Epoch of the inbox of each binding, for acks.
    epochs: Vec<(u32, u64)>,
}

impl RawDevice {
    /// Connects and says nothing.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn open(room: SocketAddr) -> anyhow::Result<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(room)).await.context("no connection")??;
        Self::over(stream)
    }

    fn over(stream: TcpStream) -> anyhow::Result<Self> {
        stream.set_nodelay(true)?;
        let decoder = ClientDecoder::for_client(MAX_SERVER_FRAME);
        Ok(Self { stream, decoder, unread: Vec::new(), epochs: Vec::new() })
    }

    /// Connects and greets with a receive buffer of so many bytes, so that what is not read soon waits in the room.
    ///
    /// # Errors
    /// When the room does not greet back.
    pub async fn connect_narrow(room: SocketAddr, name: &str, receive: u32) -> anyhow::Result<Self> {
        let socket = if room.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_recv_buffer_size(receive)?;
        let stream = timeout(PATIENCE, socket.connect(room)).await.context("no connection")??;
        let mut device = Self::over(stream)?;
        device.greet(name).await?;
        Ok(device)
    }

    /// Takes in more at a time from now on.
    ///
    /// # Errors
    /// What the system says.
    pub fn widen(&self, receive: usize) -> anyhow::Result<()> {
        Ok(SockRef::from(&self.stream).set_recv_buffer_size(receive)?)
    }

    /// Connects and greets as a device of this name.
    ///
    /// # Errors
    /// When the room does not greet back.
    pub async fn connect(room: SocketAddr, name: &str) -> anyhow::Result<Self> {
        let mut device = Self::open(room).await?;
        device.greet(name).await?;
        Ok(device)
    }

    async fn greet(&mut self, name: &str) -> anyhow::Result<()> {
        self.write(&PREAMBLE).await?;
        self.send(Connect { device: name.to_owned(), version: wire::limits::VERSION, ..Connect::default() })
            .await?;
        let _: Connected = self.expect().await?;
        Ok(())
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.context("the room does not read")??;
        Ok(())
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send(&mut self, frame: impl Into<ClientFrame>) -> anyhow::Result<()> {
        self.write(&encode_client_frame(&frame.into())).await
    }

    /// The next frame; `None` when the room has ended the connection.
    ///
    /// # Errors
    /// When nothing comes, or what is no frame.
    pub async fn next(&mut self) -> anyhow::Result<Option<ServerBody>> {
        self.next_within(PATIENCE).await
    }

    /// Likewise, with a time of one's own.
    ///
    /// # Errors
    /// When nothing comes, or what is no frame.
    pub async fn next_within(&mut self, patience: Duration) -> anyhow::Result<Option<ServerBody>> {
        loop {
            let mut input = &self.unread[..];
            let frame: Option<ServerFrame> = self.decoder.decode(&mut input)?;
            let left = input.len();
            self.unread.drain(..self.unread.len() - left);
            if let Some(frame) = frame {
                return Ok(Some(frame.body.context("a frame that this version does not know")?));
            }
            self.unread.reserve(16 * 1024);
            let read = timeout(patience, self.stream.read_buf(&mut self.unread)).await;
            match read.with_context(|| format!("nothing came within {patience:?}"))? {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                // The room closed while bytes of ours were on their way.
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return Ok(None),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// The next frame, which must be of this kind. Pongs are passed over.
    ///
    /// # Errors
    /// When another one comes, or none.
    pub async fn expect<F: Expected>(&mut self) -> anyhow::Result<F> {
        loop {
            match self
                .next()
                .await?
                .with_context(|| format!("the room ended the connection, no {}", F::NAME))?
            {
                ServerBody::Pong(_) => {}
                body => return F::of(body),
            }
        }
    }

    /// Waits until the room ends the connection; the `Close` frame, if it said one. Other frames are passed over.
    ///
    /// # Errors
    /// When it does not.
    pub async fn expect_end(&mut self) -> anyhow::Result<Option<Close>> {
        let mut close = None;
        while let Some(body) = self.next().await? {
            if let ServerBody::Close(frame) = body {
                close = Some(frame);
            }
        }
        Ok(close)
    }

    /// Nothing comes for this long.
    ///
    /// # Errors
    /// When something does.
    pub async fn expect_silence(&mut self, time: Duration) -> anyhow::Result<()> {
        match timeout(time, self.next()).await {
            Err(_) => Ok(()),
            Ok(came) => bail!("there should be silence, but {:?}", came?),
        }
    }

    /// Binds; what the room answers.
    ///
    /// # Errors
    /// When it answers neither `Bound` nor `BindFailed`.
    pub async fn try_bind(&mut self, bind: Bind) -> anyhow::Result<Result<Bound, BindFailed>> {
        self.send(bind).await?;
        loop {
            match self.next().await?.context("the room ended the connection")? {
                ServerBody::Bound(bound) => {
                    self.epochs.retain(|(binding, _)| *binding != bound.binding);
                    self.epochs.push((bound.binding, bound.inbox.unwrap_or_default().epoch));
                    return Ok(Ok(bound));
                }
                ServerBody::BindFailed(failed) => return Ok(Err(failed)),
                ServerBody::Pong(_) => {}
                other => bail!("asked to bind, got {other:?}"),
            }
        }
    }

    /// Binds with this token.
    ///
    /// # Errors
    /// When the room refuses.
    pub async fn bind(&mut self, binding: u32, app: &str, uid: &str, token: &str) -> anyhow::Result<Bound> {
        let bind = Bind { binding, ..bind(app, uid, token) };
        self.try_bind(bind).await?.map_err(|failed| anyhow::anyhow!("the bind failed: {failed:?}"))
    }

    /// Unbinds, and waits for the answer.
    ///
    /// # Errors
    /// When another frame comes.
    pub async fn unbind(&mut self, binding: u32) -> anyhow::Result<Unbound> {
        self.send(Unbind { binding }).await?;
        self.expect().await
    }

    /// Acks all of the binding's inbox up to `seq`.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn ack(&mut self, binding: u32, seq: u64) -> anyhow::Result<()> {
        let epoch = self.epochs.iter().find(|(b, _)| *b == binding).map_or(0, |(_, epoch)| *epoch);
        self.send(Ack { binding, seq, epoch, ..Ack::default() }).await
    }
}

/// A bind of binding 1 without tags and positions.
pub fn bind(app: &str, uid: &str, token: &str) -> Bind {
    Bind {
        binding: 1,
        app: external::app(app).into_owned(),
        uid: uid.to_owned(),
        token: token.to_owned(),
        ..Bind::default()
    }
}

/// A frame that can be waited for.
pub trait Expected: Sized + Debug {
    /// Name of the frame.
    const NAME: &'static str;

    /// Takes it out of its body.
    ///
    /// # Errors
    /// When it is another.
    fn of(body: ServerBody) -> anyhow::Result<Self>;
}

macro_rules! expected {
    ($($frame:ident),+) => {
        $(impl Expected for $frame {
            const NAME: &'static str = stringify!($frame);

            fn of(body: ServerBody) -> anyhow::Result<Self> {
                match body {
                    ServerBody::$frame(frame) => Ok(frame),
                    other => bail!("expected {}, got {other:?}", Self::NAME),
                }
            }
        })+
    };
}

use wire::frame::{Error, Pong, Reconnect, UpAck};
expected!(
    Connected, Bound, BindFailed, Unbound, Push, Broadcast, Recall, UpAck, Reconnect, Close, Error, Pong
);
