//! Long lists, in and out, over gRPC.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use proto::v1::{self, MulticastChunk};
use tonic::{Code, Request, Response, Status, Streaming};

use super::{Answer, Grpc};
use crate::{
    error::{Error, Result},
    ops::{BODIES, Caller, Upload},
};
use wire::id::Uid;

/// Users of a message and what became of them.
pub(super) type Targets = Pin<Box<dyn Stream<Item = std::result::Result<v1::Target, Status>> + Send>>;

impl Grpc {
    /// A multicast whose users are streamed.
    pub(super) async fn upload(
        &self,
        mut request: Request<Streaming<MulticastChunk>>,
    ) -> Answer<v1::MulticastResponse> {
        let caller = request.extensions_mut().remove::<Arc<Caller>>();
        let done = async {
            // Nobody gets here but past `admit`.
            let caller = caller.ok_or(Error::NoKey)?;
            let mut chunks = request.into_inner();
            let Some(MulticastChunk { head: Some(mut head), uids }) = next(&mut chunks).await? else {
                return Err(Error::invalid("head", "is missing in the first chunk"));
            };
            // Users in the head are the first of the list.
            let mut first = std::mem::take(&mut head.uids);
            first.extend(uids);
            // As decoded it shares the buffer of the whole chunk, which the list would keep to its end.
            head.payload = Bytes::copy_from_slice(&head.payload);
            let mut upload = Upload::begin(Arc::clone(&self.ops), caller, head).await?;
            match add_all(&mut upload, first, &mut chunks).await {
                Ok(()) => upload.finish().await,
                Err(error) => Err(upload.stop(error).await),
            }
        };
        done.await.map(Response::new).map_err(|error| self.refuse(error))
    }

    /// What became of a message for each of its users.
    pub(super) async fn targets(&self, mut request: Request<v1::ListTargetsRequest>) -> Answer<Targets> {
        let caller = request.extensions_mut().remove::<Arc<Caller>>();
        let begun = async {
            let caller = caller.ok_or(Error::NoKey)?;
            self.ops.list_targets(caller, request.into_inner()).await
        };
        let pages = begun.await.map_err(|error| self.refuse(error))?;
        let grpc = self.clone();
        let targets = pages.flat_map(move |page| match page {
            Ok(page) => stream::iter(page.into_iter().map(Ok).collect::<Vec<_>>()),
            Err(error) => stream::iter(vec![Err(grpc.refuse(error))]),
        });
        Ok(Response::new(targets.boxed()))
    }
}

async fn add_all(
    upload: &mut Upload,
    first: Vec<String>,
    chunks: &mut Streaming<MulticastChunk>,
) -> Result<()> {
    add(upload, 1, first).await?;
    let mut number = 1;
    while let Some(MulticastChunk { head, uids }) = next(chunks).await? {
        number += 1;
        if head.is_some() {
            return Err(Error::invalid("head", format!("chunk {number}: only the first chunk has a head")));
        }
        add(upload, number, uids).await?;
    }
    Ok(())
}

/// Adds the users of one chunk.
async fn add(upload: &mut Upload, number: u64, uids: Vec<String>) -> Result<()> {
    for (index, uid) in uids.iter().enumerate() {
        let uid = Uid::new(uid)
            .map_err(|e| Error::invalid(format!("uids[{index}]"), format!("chunk {number}: {e}")))?;
        upload.add(uid).await?;
    }
    Ok(())
}

async fn next(chunks: &mut Streaming<MulticastChunk>) -> Result<Option<MulticastChunk>> {
    chunks.message().await.map_err(|status| match status.code() {
        Code::DeadlineExceeded => Error::BodyTimeout,
        // There was no room for what came.
        Code::Unavailable => Error::Full(BODIES),
        _ => Error::Malformed(status.message().to_owned().into()),
    })
}

#[cfg(test)]
#[path = "lists_tests.rs"]
mod tests;
