//! The room in miniature.

use std::io;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use wire::frame::{Bound, BroadcastPosition, ClientBody, Connected, InboxPosition, Pong, Push, ServerFrame};

use super::{Shared, framing::Framing};

/// More than any test has on its way to one device.
const QUEUE: usize = 10_000;

pub(super) async fn serve(listener: TcpListener, tls: TlsAcceptor, shared: Shared) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (tls, shared) = (tls.clone(), shared.clone());
        connections.spawn(async move {
            // The device cuts its connection now and then: that is what is tested.
            let _ = sniff(stream, &tls, &shared).await;
        });
    }
}

/// TLS, WebSocket and native frames are told apart by their first byte.
async fn sniff(stream: TcpStream, tls: &TlsAcceptor, shared: &Shared) -> io::Result<()> {
    const TLS_HANDSHAKE: u8 = 22;
    let mut first = [0];
    stream.peek(&mut first).await?;
    if first[0] == TLS_HANDSHAKE {
        return connection(tls.accept(stream).await?, shared).await;
    }
    connection(stream, shared).await
}

async fn connection(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) -> io::Result<()> {
    let (frames, mut outgoing) = mpsc::channel(QUEUE);
    let mut framing = Framing::Unknown(Vec::new());
    let (mut uid, mut buffer) = (String::new(), vec![0; 4096]);
    loop {
        tokio::select! {
            got = stream.read(&mut buffer) => {
                let got = got?;
                if got == 0 {
                    return Ok(());
                }
                let mut out = Vec::new();
                for frame in framing.take(&buffer[..got], &mut out)? {
                    for answer in answers(frame.body, &mut uid, &frames, shared) {
                        framing.put(&answer, &mut out);
                    }
                }
                stream.write_all(&out).await?;
            }
            Some(frame) = outgoing.recv() => {
                let mut out = Vec::new();
                framing.put(&frame, &mut out);
                stream.write_all(&out).await?;
            }
        }
        stream.flush().await?;
    }
}

fn answers(
    body: Option<ClientBody>,
    uid: &mut String,
    frames: &mpsc::Sender<ServerFrame>,
    shared: &Shared,
) -> Vec<ServerFrame> {
    match body {
        Some(ClientBody::Connect(_)) => {
            vec![Connected { conn: 1, heartbeat_s: 60, version: 1, ..Connected::default() }.into()]
        }
        Some(ClientBody::Bind(bind)) => {
            uid.clone_from(&bind.uid);
            let (at, cursor) = (bind.inbox.unwrap_or_default().seq, bind.broadcasts.map(|b| b.bseq));
            let mut state = shared.lock().unwrap();
            let head = state.log.len() as u64;
            let bseq = cursor.unwrap_or(head);
            state.ack(uid, at, bseq);
            let inbox = state.inboxes.entry(bind.uid).or_default();
            let start = inbox.entries.keys().next().map_or(inbox.seq, |first| first - 1);
            inbox.to = Some(frames.clone());
            let mut all = vec![
                Bound {
                    binding: bind.binding,
                    app: 1,
                    inbox: Some(InboxPosition { epoch: 1, seq: start }),
                    broadcasts: Some(BroadcastPosition { epoch: 1, bseq }),
                }
                .into(),
            ];
            let stored = inbox.entries.iter().map(|(seq, (id, payload))| {
                Push { binding: 1, seq: *seq, id: *id, payload: payload.clone(), ..Push::default() }.into()
            });
            all.extend(stored);
            all.extend(state.log[bseq as usize..].iter().cloned().map(ServerFrame::from));
            all
        }
        Some(ClientBody::Ack(ack)) => {
            shared.lock().unwrap().ack(uid, ack.seq, ack.bseq);
            Vec::new()
        }
        Some(ClientBody::Ping(_)) => vec![Pong {}.into()],
        _ => Vec::new(),
    }
}
