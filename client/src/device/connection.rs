//! One connection of a device: moves bytes between the socket and the session.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use wire::{ClientDecoder, limits::MAX_SERVER_FRAME};

use super::driver::{Driver, Woken};
use crate::session::{Cause, Event};

/// One read. A few frames of usual size; a longer one is put together by the decoder.
const READ_BUFFER: usize = 16 * 1024;
/// How long the room may take no bytes. It reads at all times, so this means that it is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

impl Driver {
    /// Holds one connection until it ends.
    pub(super) async fn converse(&mut self, mut stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot switch off Nagle's algorithm");
        }
        let mut decoder = ClientDecoder::for_client(MAX_SERVER_FRAME);
        let mut buffer = vec![0; READ_BUFFER];
        self.session.opened(self.now(), &mut self.out);
        while !self.settle(&mut stream).await {
            let reads = self.waiting.is_empty();
            tokio::select! {
                read = stream.read(&mut buffer), if reads => match read {
                    Ok(0) => self.session.lost(Cause::Lost("closed by the room".to_owned()), &mut self.out),
                    Ok(length) => self.take_bytes(&mut decoder, &buffer[..length]),
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

    fn take_bytes(&mut self, decoder: &mut ClientDecoder, mut input: &[u8]) {
        let now = self.now();
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(frame)) => self.session.on_frame(frame, now, &mut self.out),
                Ok(None) => return,
                Err(error) => return self.session.lost(error.into(), &mut self.out),
            }
        }
    }

    /// Does all that is due and writes it. Whether the connection has ended.
    async fn settle(&mut self, stream: &mut TcpStream) -> bool {
        if self.out.ended.is_none() {
            self.session.advance(self.now(), &mut self.out);
        }
        self.take_events();
        if !self.out.bytes.is_empty() {
            let written = write(stream, &self.out.bytes).await;
            self.out.bytes.clear();
            // A burst must not be held for ever.
            self.out.bytes.shrink_to(READ_BUFFER);
            if let Err(error) = written {
                self.session.lost(Cause::Lost(error.to_string()), &mut self.out);
                self.take_events();
            }
        }
        let Some(ending) = self.out.ended.take() else { return false };
        // The room closes too; what it does not hear any more it learns by the end of the connection.
        let _ = stream.shutdown().await;
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

async fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    timeout(WRITE_TIMEOUT, stream.write_all(bytes)).await.map_err(io::Error::from).flatten()
}
