//! Counts the bytes of gRPC requests while they arrive, and bounds the time that takes. An HTTP body has one bound for its
//! route and is counted before it is read; a gRPC message says how long it is only in the middle of it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::Sleep;

use crate::{
    entries::Entries,
    error::Error,
    limits::{Budget, Held},
};

/// A request's body whose bytes are held in a budget until all of it was read, which must be soon: who sends a part and
/// then nothing would hold them from everybody.
pub(crate) struct Metered {
    body: Body,
    budget: Budget,
    held: Vec<Held>,
    entries: Entries,
    entries_max: usize,
    by: Pin<Box<Sleep>>,
    patience: Duration,
    /// Many messages: the bounds hold for each of them, and the time for each wait.
    streamed: bool,
    waits: bool,
}

impl Metered {
    /// Of at most so many entries.
    pub(crate) fn wrap(
        body: Body,
        budget: Budget,
        entries_max: usize,
        patience: Duration,
        streamed: bool,
    ) -> Body {
        let by = Box::pin(tokio::time::sleep(patience));
        Body::new(UnsyncBoxBody::new(Metered {
            body,
            budget,
            held: Vec::new(),
            entries: if streamed { Entries::of_each() } else { Entries::new() },
            entries_max,
            by,
            patience,
            streamed,
            waits: false,
        }))
    }
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let Poll::Ready(polled) = Pin::new(&mut self.body).poll_frame(cx) else {
            if self.streamed && !std::mem::replace(&mut self.waits, true) {
                // Time in which nobody asked for more is not the caller's.
                let by = tokio::time::Instant::now() + self.patience;
                self.by.as_mut().reset(by);
            }
            ready!(self.by.as_mut().poll(cx));
            self.held.clear();
            return Poll::Ready(Some(Err(Error::BodyTimeout.into())));
        };
        self.waits = false;
        let frame = match polled {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                let text = format!("the request ended early: {error}");
                return Poll::Ready(Some(Err(Error::Malformed(text.into()).into())));
            }
            None => return Poll::Ready(None),
        };
        if let Some(data) = frame.data_ref() {
            if self.entries.count(data) > self.entries_max {
                let text = format!("the request has over {} entries", self.entries_max);
                return Poll::Ready(Some(Err(Error::Malformed(text.into()).into())));
            }
            match self.budget.take(data.len()) {
                Ok(held) => self.held.push(held),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
            if self.streamed && self.entries.is_between() {
                // What came is read now, and counted by whoever keeps it.
                self.held.clear();
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
