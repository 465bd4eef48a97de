//! Counts the bytes of gRPC requests while they arrive. An HTTP body has one bound for its route and is counted
//! before it is read; a gRPC message says how long it is only in the middle of it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;

use crate::{
    error::Error,
    limits::{Budget, Held},
};

/// A request's body whose bytes are held in a budget until all of it was read.
pub(crate) struct Metered {
    body: Body,
    budget: Budget,
    held: Vec<Held>,
}

impl Metered {
    pub(crate) fn wrap(body: Body, budget: Budget) -> Body {
        Body::new(UnsyncBoxBody::new(Metered { body, budget, held: Vec::new() }))
    }
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                let text = format!("the request ended early: {error}");
                return Poll::Ready(Some(Err(Error::Malformed(text.into()).into())));
            }
            None => return Poll::Ready(None),
        };
        if let Some(data) = frame.data_ref() {
            match self.budget.take(data.len()) {
                Ok(held) => self.held.push(held),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
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
