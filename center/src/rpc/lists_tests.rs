use std::time::Duration;

use futures::TryStreamExt as _;

use super::super::tests::{Api, by};
use super::*;
use crate::{config::Config, ops::CHUNK_USERS, testing::DEMO_KEY};

fn head() -> v1::MulticastRequest {
    v1::MulticastRequest { payload: "hello".into(), idempotency_key: "k".into(), ..Default::default() }
}

fn chunk(users: std::ops::Range<usize>) -> MulticastChunk {
    MulticastChunk { head: None, uids: users.map(|n| format!("user-{n}")).collect() }
}

async fn upload(
    api: &Api,
    chunks: impl Stream<Item = MulticastChunk> + Send + 'static,
) -> std::result::Result<v1::MulticastResponse, Status> {
    Ok(api.push().multicast_stream(by(DEMO_KEY, chunks)).await?.into_inner())
}

#[tokio::test]
async fn a_list_comes_in_chunks_of_any_size() {
    let api = Api::start().await;
    let first = MulticastChunk { head: Some(head()), ..chunk(0..3) };
    let chunks = vec![first, chunk(2..4_100), chunk(0..0), chunk(4_100..4_101)];
    let done = upload(&api, stream::iter(chunks)).await.unwrap();
    assert_eq!((done.targets, done.accepted, done.failures, done.repeated), (4_101, 4_101, 0, false));
    let request = v1::ListTargetsRequest { id: done.id, ..Default::default() };
    let targets = api.push().list_targets(by(DEMO_KEY, request)).await.unwrap().into_inner();
    let targets: Vec<_> = targets.try_collect().await.unwrap();
    assert_eq!(targets.len(), 4_101);
    assert!(targets.iter().all(|target| target.state == "stored"));
}

#[tokio::test]
async fn what_is_wrong_with_a_list_is_said() {
    let api = Api::start().await;
    let begun = || MulticastChunk { head: Some(head()), ..chunk(0..CHUNK_USERS) };
    for (chunks, field) in [
        (vec![], "head"),
        (vec![chunk(0..1)], "head"),
        (vec![begun(), begun()], "head"),
        (vec![begun(), MulticastChunk { head: None, uids: vec!["a".into(), String::new()] }], "uids[1]"),
        (vec![MulticastChunk { head: Some(head()), uids: vec![] }], "uids"),
    ] {
        let status = upload(&api, stream::iter(chunks)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.metadata().get("longwire-field").unwrap(), field);
        if status.message().contains("chunk 2") {
            assert_eq!(status.metadata().get("longwire-accepted").unwrap(), "2000");
            assert!(status.metadata().contains_key("longwire-id"));
        }
    }
    assert_eq!(api.center.ops.bodies().held(), 0);
}

/// Each message of a list is bounded in its entries, but not all of them together.
#[tokio::test]
async fn a_list_is_bounded_chunk_by_chunk() {
    let api = Api::with(Config { batch_max_pushes: 100, multicast_max_uids: 100, ..Config::default() }).await;
    let first = MulticastChunk { head: Some(head()), uids: Vec::new() };
    let many = (0..100).map(|n| chunk(n * 100..n * 100 + 100));
    let done = upload(&api, stream::iter([first.clone()].into_iter().chain(many))).await.unwrap();
    assert_eq!(done.accepted, 10_000);
    let status = upload(&api, stream::iter([first, chunk(0..1_000)])).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
}

/// Who begins a list and then sends nothing is given up, and holds nothing any more.
#[tokio::test(start_paused = true)]
async fn a_list_that_stands_still_is_given_up() {
    let api = Api::start().await;
    let begun = stream::iter([MulticastChunk { head: Some(head()), ..chunk(0..10) }]);
    let slowly = stream::unfold(10, |n| async move {
        tokio::time::sleep(Duration::from_secs(10)).await;
        (n < 15).then(|| (chunk(n..n + 1), n + 1))
    });
    let done = upload(&api, begun.clone().chain(slowly)).await.unwrap();
    assert_eq!(done.accepted, 15, "slowly is well");
    let status = upload(&api, begun.chain(stream::pending())).await.unwrap_err();
    assert_eq!(status.metadata().get("longwire-error").unwrap(), "body_timeout");
    assert_eq!(api.center.ops.bodies().held(), 0);
}

/// Users of the first chunk that were sent before one that is wrong had the message, and the error did not say so.
#[tokio::test]
async fn a_first_chunk_that_breaks_off_says_how_far_it_came() {
    let api = Api::start().await;
    let mut first = MulticastChunk { head: Some(head()), ..chunk(0..CHUNK_USERS) };
    first.uids.push(String::new());
    let status = upload(&api, stream::iter([first])).await.unwrap_err();
    assert_eq!(status.metadata().get("longwire-field").unwrap(), "uids[2000]");
    assert_eq!(status.metadata().get("longwire-accepted").unwrap(), "2000", "{status}");
    assert!(status.metadata().contains_key("longwire-id"));
}

/// A center that had no room for a list said that the list was malformed, which nobody tries again.
#[tokio::test]
async fn a_list_that_there_is_no_room_for_may_come_again() {
    let api = Api::start().await;
    let all = api.center.ops.bodies().take(Config::default().body_bytes_in_flight).unwrap();
    let first = MulticastChunk { head: Some(head()), ..chunk(0..3) };
    let status = upload(&api, stream::iter([first])).await.unwrap_err();
    assert_eq!(
        (status.code(), status.metadata().get("longwire-error").unwrap().as_bytes()),
        (Code::Unavailable, &b"busy"[..])
    );
    drop(all);
    assert_eq!(api.center.ops.bodies().held(), 0);
}
