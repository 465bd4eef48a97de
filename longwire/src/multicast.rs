//! `longwire multicast`: a list of users of any length, sent while it is read.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    pin::pin,
};

use futures::{StreamExt as _, stream};
use proto::v1::{MulticastChunk, MulticastRequest};
use service::ExitError;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use wire::id::Uid;

use crate::{
    api::{Api, refused},
    args, payload,
    push::multicasted,
};

/// Users in a chunk: at 128 bytes each far below what a center takes in one message.
const CHUNK: usize = 1_000;
/// Chunks that wait to be sent: the file is read ahead of the network by no more.
const CHUNKS_AHEAD: usize = 4;
/// Refused users that are named; the others are counted.
const NAMED: usize = 20;

pub(crate) async fn run(args: args::Multicast) -> Result<(), ExitError> {
    if args.users == Path::new("-") && args.payload.file.as_deref() == Some(Path::new("-")) {
        return Err(ExitError::usage("users and message cannot both come from standard input"));
    }
    let payload = payload::payload(&args.payload)?;
    let when = payload::when(&args.timing)?;
    let users = open(&args.users)?;
    let api = Api::open(&args.api).await?;
    let keyed = !payload.idempotency_key.is_empty();
    let head = MulticastRequest {
        app: api.app.clone(),
        uids: Vec::new(),
        payload: payload.bytes.into(),
        ttl_s: payload.ttl_s,
        transient: args.transient,
        idempotency_key: payload.idempotency_key,
        collapse_key: args.collapse_key.clone().unwrap_or_default(),
        priority: payload::priority(&args.timing),
        when,
    };
    let first = MulticastChunk { head: Some(head), uids: Vec::new() };
    let (chunks, received) = mpsc::channel(CHUNKS_AHEAD);
    let name = args.users.display().to_string();
    let (end, ended) = oneshot::channel();
    // Held until the list has been read to its end: while it is, the stream cannot end, but only break.
    let hold = chunks.clone();
    // A thread of its own, which ends with the process: nothing wakes one that waits for standard input.
    std::thread::spawn(move || end.send(read(users, &name, &chunks)));
    let body = stream::iter([first]).chain(ReceiverStream::new(received));
    let mut service = api.push();
    let mut call = pin!(service.multicast_stream(body));
    let answer = tokio::select! {
        read = ended => {
            read.map_err(|_| ExitError::failure("reading the list has failed"))??;
            drop(hold);
            call.await
        }
        // Refused before the end.
        answer = &mut call => answer,
    };
    let answer = answer.map_err(|s| refused(&s))?.into_inner();
    for failed in answer.failed.iter().take(NAMED) {
        let reason = failed.error.as_ref().map_or("", |e| e.message.as_str());
        eprintln!("longwire: not accepted for {}: {reason}", failed.uid);
    }
    let (line, json) = multicasted(&answer);
    outln!("{}", if args.json { json.to_string() } else { line });
    if answer.failures == 0 {
        return Ok(());
    }
    let advice = if keyed {
        "the same call again tries them again"
    } else {
        "with --idempotency-key, a repeat would try only them"
    };
    Err(ExitError::failure(format!("{} users were not accepted; {advice}", answer.failures)))
}

type Users = Box<dyn BufRead + Send>;

fn open(path: &Path) -> Result<Users, ExitError> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(std::io::stdin())));
    }
    let file =
        File::open(path).map_err(|e| ExitError::usage(format!("cannot read {}: {e}", path.display())))?;
    Ok(Box::new(BufReader::new(file)))
}

/// Reads users to the end of the list, or until nobody takes them any more. A wrong line breaks the call off, so that no center
/// takes a part for the whole.
fn read(users: Users, name: &str, chunks: &mpsc::Sender<MulticastChunk>) -> Result<(), ExitError> {
    let mut uids = Vec::with_capacity(CHUNK);
    for (number, line) in (1..).zip(users.lines()) {
        let line = line.map_err(|e| ExitError::usage(format!("{name}, line {number}: {e}")))?;
        let uid = line.trim();
        if uid.is_empty() {
            continue;
        }
        Uid::new(uid).map_err(|e| ExitError::usage(format!("{name}, line {number}: {e}")))?;
        uids.push(uid.to_owned());
        if uids.len() == CHUNK {
            let uids = std::mem::replace(&mut uids, Vec::with_capacity(CHUNK));
            if chunks.blocking_send(MulticastChunk { head: None, uids }).is_err() {
                return Ok(());
            }
        }
    }
    if !uids.is_empty() {
        // Likewise, if nobody takes them.
        let _ = chunks.blocking_send(MulticastChunk { head: None, uids });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Users {
        Box::new(std::io::Cursor::new(text.to_owned()))
    }

    #[test]
    fn users_are_read_a_line_each_and_sent_in_chunks() {
        let (chunks, mut received) = mpsc::channel(8);
        let text = (0..2_500).map(|n| format!("  user-{n} \n\n")).collect::<String>() + "last";
        read(list(&text), "users", &chunks).unwrap();
        drop(chunks);
        let mut uids = vec![];
        while let Some(chunk) = received.blocking_recv() {
            assert!(chunk.head.is_none() && chunk.uids.len() <= CHUNK);
            uids.extend(chunk.uids);
        }
        assert_eq!((uids.len(), uids[0].as_str(), uids[2_500].as_str()), (2_501, "user-0", "last"));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let (chunks, _received) = mpsc::channel(8);
        let wrong = format!("alice\n{}\nbob", "x".repeat(129));
        let error = read(list(&wrong), "users.txt", &chunks).unwrap_err().to_string();
        assert!(error.starts_with("users.txt, line 2: "), "{error}");
    }

    #[test]
    fn reading_ends_when_nobody_takes_users_any_more() {
        let (chunks, received) = mpsc::channel(1);
        drop(received);
        let text = "user\n".repeat(10_000);
        assert!(read(list(&text), "users", &chunks).is_ok());
    }
}
