//! The API by gRPC, found by reflection.

use anyhow::{Context as _, ensure};
use e2e::{Stack, TestDevice};
use longwire::api::Api;
use prost::Message as _;
use proto::v1::{
    BroadcastRequest, CreateAppRequest, GetMessageRequest, GetUserRequest, IssueTokenRequest, KickRequest,
    MulticastRequest, Outcome, PushBatchRequest, PushRequest, RecallRequest, RouteRequest, push_result,
    router_client::RouterClient,
};
use tonic::{Code, transport::Endpoint};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

crate::journeys! {
    the_journey_by_grpc,
    reflection_tells_every_call,
}

async fn connect(stack: &Stack) -> anyhow::Result<Api> {
    let addresses = stack.addresses();
    Api::connect(&addresses.api[0], &addresses.key, "demo").await.map_err(|e| anyhow::anyhow!("{e}"))
}

async fn the_journey_by_grpc(stack: &mut Stack) -> anyhow::Result<()> {
    let api = connect(stack).await?;
    let mut push = api.push();
    let mut alice = TestDevice::bound(stack, "alice").await?;
    let to = |uid: &str, text: &'static str| PushRequest {
        uid: uid.to_owned(),
        payload: text.into(),
        ..PushRequest::default()
    };
    let pushed = push.push(to("alice", "by gRPC")).await?.into_inner();
    ensure!(pushed.outcome() == Outcome::Stored && !pushed.repeated, "{pushed:?}");
    stack.before(pushed.seq)?;
    ensure!(alice.expect_text("by gRPC").await?.id.0 == pushed.id, "another id");
    stack.api().ledger_shows(&pushed.id.to_string(), "acked", 1).await?;
    let ledger =
        push.get_message(GetMessageRequest { id: pushed.id, ..Default::default() }).await?.into_inner();
    ensure!(ledger.targets == 1 && ledger.acked == 1 && ledger.kind == "unicast", "{ledger:?}");

    // A repeat of a call of the other API.
    let keyed = PushRequest { idempotency_key: "both".into(), ..to("bob", "once") };
    let first = push.push(keyed.clone()).await?.into_inner();
    let again = push.push(keyed).await?.into_inner();
    ensure!(again.repeated && again.id == first.id, "{first:?} {again:?}");

    // In a batch, each push has its own fate.
    let pushes = vec![to("alice", "one"), to("", "nobody"), to("alice", "two")];
    let results = push.push_batch(PushBatchRequest { pushes }).await?.into_inner().results;
    let fates: Vec<_> =
        results.iter().map(|r| matches!(r.result, Some(push_result::Result::Ok(_)))).collect();
    ensure!(fates == [true, false, true], "{results:?}");
    alice.expect_text("one").await?;
    alice.expect_text("two").await?;

    let list = MulticastRequest {
        uids: vec!["alice".into(), "carol".into()],
        payload: "to two".into(),
        ..MulticastRequest::default()
    };
    let sent = push.multicast(list).await?.into_inner();
    ensure!(sent.targets == 2 && sent.accepted == 2, "{sent:?}");
    alice.expect_text("to two").await?;
    let broadcast = BroadcastRequest { payload: "to all".into(), ..BroadcastRequest::default() };
    ensure!(push.broadcast(broadcast).await?.into_inner().bseq == 1, "not the first");
    alice.expect_broadcast("to all").await?;

    let recalled = push.recall(RecallRequest { id: first.id, ..Default::default() }).await?.into_inner();
    ensure!(recalled.recalled == 1, "{recalled:?}");
    let user =
        push.get_user(GetUserRequest { uid: "alice".into(), ..Default::default() }).await?.into_inner();
    ensure!(user.online && user.room > 0 && user.since_ms > 0, "{user:?}");
    let token =
        push.issue_token(IssueTokenRequest { uid: "alice".into(), ..Default::default() }).await?.into_inner();
    ensure!(token.token.split('.').count() == 3, "{token:?}");
    let kicked = push.kick(KickRequest { uid: "alice".into(), ..Default::default() }).await?.into_inner();
    ensure!(kicked.was_online, "{kicked:?}");

    // Where to connect, by gRPC as well.
    let mut router =
        RouterClient::new(Endpoint::from_shared(stack.addresses().route.clone())?.connect().await?);
    let route = router.route(RouteRequest { uid: "alice".into(), ..Default::default() }).await?.into_inner();
    let known: Vec<_> = stack.rooms().await?.iter().map(ToString::to_string).collect();
    ensure!(
        !route.endpoints.is_empty() && route.endpoints.iter().all(|e| known.contains(&e.address)),
        "{route:?}"
    );

    let made = api
        .admin()
        .create_app(CreateAppRequest { app: "made".into(), ..Default::default() })
        .await?
        .into_inner();
    ensure!(made.key.starts_with("lwk_") && !made.secret.is_empty(), "{made:?}");

    // Errors are as clear as those of HTTP.
    let refused = push
        .push(PushRequest { app: "foo".into(), ..to("a", "x") })
        .await
        .err()
        .context("app foo is known")?;
    ensure!(
        refused.code() == Code::NotFound && refused.message() == "app \"foo\" is not known",
        "{refused:?}"
    );
    let refused = push.push(to(&"u".repeat(129), "x")).await.err().context("129 bytes are a uid")?;
    ensure!(refused.code() == Code::InvalidArgument, "{refused:?}");
    ensure!(refused.metadata().get("longwire-field").is_some_and(|f| f == "uid"), "{refused:?}");
    let stranger = Api::connect(&stack.addresses().api[0], "lwk_wrong", "demo")
        .await
        .map_err(|e| anyhow::anyhow!("{e}"))?;
    let refused = stranger.push().push(to("a", "x")).await.err().context("any key will do")?;
    ensure!(refused.code() == Code::Unauthenticated, "{refused:?}");
    Ok(())
}

/// As much of a file's description as names its messages.
#[derive(Clone, PartialEq, prost::Message)]
struct FileDescriptor {
    #[prost(message, repeated, tag = "4")]
    message_type: Vec<MessageDescriptor>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MessageDescriptor {
    #[prost(string, tag = "1")]
    name: String,
}

/// As `grpcurl` does it: list the services, then read the description of each.
async fn reflection_tells_every_call(stack: &mut Stack) -> anyhow::Result<()> {
    let channel = Endpoint::from_shared(stack.addresses().api[0].clone())?.connect().await?;
    let mut client = ServerReflectionClient::new(channel);
    let mut ask = async |question: MessageRequest| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
        let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await?.into_inner();
        let answer = answers.message().await?.context("no answer")?;
        answer.message_response.context("an empty answer")
    };
    let MessageResponse::ListServicesResponse(list) =
        ask(MessageRequest::ListServices(String::new())).await?
    else {
        anyhow::bail!("another answer");
    };
    let names: Vec<_> = list.service.into_iter().map(|s| s.name).collect();
    for service in ["longwire.v1.PushService", "longwire.v1.AdminService"] {
        ensure!(names.iter().any(|name| name == service), "{service} is not listed: {names:?}");
        let MessageResponse::FileDescriptorResponse(files) =
            ask(MessageRequest::FileContainingSymbol(service.to_owned())).await?
        else {
            anyhow::bail!("{service} is not described");
        };
        ensure!(!files.file_descriptor_proto.is_empty(), "{service} has no file");
    }
    // Nothing of the inside is shown.
    ensure!(!names.iter().any(|name| name.contains("internal")), "{names:?}");
    let MessageResponse::FileDescriptorResponse(files) =
        ask(MessageRequest::FileContainingSymbol("longwire.v1.PushRequest".to_owned())).await?
    else {
        anyhow::bail!("PushRequest is not described");
    };
    let described = files.file_descriptor_proto.iter().any(|file| {
        FileDescriptor::decode(&file[..])
            .is_ok_and(|file| file.message_type.iter().any(|m| m.name == "PushRequest"))
    });
    ensure!(described, "PushRequest is not among the messages");
    Ok(())
}
