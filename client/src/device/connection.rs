//! One connection of a device: moves bytes between the socket and the session.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use wire::close::Whither;

use super::{
    driver::{Driver, Woken},
    line::{Line, Stream},
};
use crate::{
    session::{Cause, Event},
    transport::Framing,
};

/// One read. A few frames of usual size; a longer one is put together by the decoder.
const READ_BUFFER: usize = 16 * 1024;
/// How long the room may take no bytes. It reads at all times, so this means that it is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the last bytes may take, which are a courtesy.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

impl Driver {
    /// Holds one connection until it ends.
    pub(super) async fn converse(&mut self, line: Line) {
        let Line { mut stream, mut framing, begun, .. } = line;
        let mut buffer = vec![0; READ_BUFFER];
        self.session.opened(self.now(), &mut self.out);
        self.take_bytes(&mut framing, &begun);
        while !self.settle(&mut stream, &mut framing).await {
            let reads = self.waiting.is_empty();
            tokio::select! {
                read = stream.read(&mut buffer), if reads => match read {
                    Ok(0) => self.session.lost(Cause::Lost("closed by the room".to_owned()), &mut self.out),
                    Ok(length) => self.take_bytes(&mut framing, &buffer[..length]),
                    Err(error) => self.session.lost(Cause::Lost(error.to_string()), &mut self.out),
                },
                woken = self.served() => match woken {
                    Woken::Advance => {}
                    Woken::Stop => {
                        self.take_confirmations();
                        self.session.close(self.now(), &mut self.out);
                    }
                },
            }
            if !reads {
                let now = self.now();
                self.session.excuse(now);
            }
        }
    }

    fn take_bytes(&mut self, framing: &mut Framing, mut input: &[u8]) {
        let now = self.now();
        loop {
            match framing.receive(&mut input) {
                Ok(Some(frame)) => self.session.on_frame(frame, now, &mut self.out),
                Ok(None) => return,
                Err(cause) => return self.session.lost(cause, &mut self.out),
            }
        }
    }

    /// Does all that is due and writes it. Whether the connection has ended.
    async fn settle(&mut self, stream: &mut Stream, framing: &mut Framing) -> bool {
        if self.out.ended.is_none() {
            self.session.advance(self.now(), &mut self.out);
        }
        self.take_events();
        if self.out.ended.as_ref().is_some_and(|ending| hears(&ending.cause)) {
            framing.close();
        }
        framing.send(&self.out.bytes, &mut self.outgoing);
        self.out.bytes.clear();
        if !self.outgoing.is_empty() {
            let written = write(stream, &self.outgoing).await;
            self.outgoing.clear();
            // A burst must not be held for ever.
            self.outgoing.shrink_to(READ_BUFFER);
            self.out.bytes.shrink_to(READ_BUFFER);
            if let Err(error) = written {
                self.session.lost(Cause::Lost(error.to_string()), &mut self.out);
                self.take_events();
            }
        }
        let Some(ending) = self.out.ended.take() else { return false };
        if ending.whither == Whither::Elsewhere {
            // A balancer is not to lead back to this room.
            self.lines.cookie = None;
        }
        // The room closes too; what it does not hear any more it learns by the end of the connection.
        let _ = timeout(FAREWELL_TIMEOUT, stream.shutdown()).await;
        tracing::debug!(cause = %ending.cause, "disconnected");
        self.dialer.ended(&ending, self.now());
        // To an app that takes nothing the last end says enough: an outage while it sleeps must not pile up.
        match self.waiting.back_mut() {
            Some(Event::Disconnected(last)) => *last = ending,
            _ => self.waiting.push_back(Event::Disconnected(ending)),
        }
        true
    }
}

/// Whether the room can still be told that the connection ends.
fn hears(cause: &Cause) -> bool {
    !matches!(cause, Cause::Lost(_) | Cause::Silent)
}

async fn write(stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
    // Within TLS what has been written may still wait to be sent.
    let writing = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    timeout(WRITE_TIMEOUT, writing).await.map_err(io::Error::from).flatten()
}
