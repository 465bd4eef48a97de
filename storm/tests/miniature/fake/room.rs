//! The room in miniature.

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};
use wire::{
    ServerDecoder, codec,
    frame::{Bound, BroadcastPosition, ClientBody, Connected, InboxPosition, Pong, Push, ServerFrame},
};

use super::Shared;

/// More than any test has on its way to one device.
const QUEUE: usize = 10_000;

pub(super) async fn serve(listener: TcpListener, shared: Shared) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = shared.clone();
        connections.spawn(async move {
            // The device cuts its connection now and then: that is what is tested.
            let _ = connection(stream, &shared).await;
        });
    }
}

async fn connection(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let (frames, mut outgoing) = mpsc::channel(QUEUE);
    let mut decoder = ServerDecoder::for_server(64 * 1024);
    let (mut uid, mut buffer) = (String::new(), vec![0; 4096]);
    loop {
        tokio::select! {
            got = stream.read(&mut buffer) => {
                let got = got?;
                if got == 0 {
                    return Ok(());
                }
                let mut input = &buffer[..got];
                while let Some(frame) = decoder.decode(&mut input).map_err(io::Error::other)? {
                    for answer in answers(frame.body, &mut uid, &frames, shared) {
                        stream.write_all(&codec::encode_server_frame(&answer)).await?;
                    }
                }
            }
            Some(frame) = outgoing.recv() => stream.write_all(&codec::encode_server_frame(&frame)).await?,
        }
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
