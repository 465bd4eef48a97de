use bytes::Bytes;
use cluster::{LocalServices, NodeId, Transport};
use proto::v1::{admin_service_client::AdminServiceClient, push_service_client::PushServiceClient};
use tokio_stream::StreamExt as _;
use tonic::{Code, service::Routes};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use super::*;
use crate::{
    config::Config,
    testing::{ADMIN_KEY, DEMO_KEY, READ_KEY, TestCenter},
};

pub(super) struct Api {
    pub(super) center: TestCenter,
    transport: Transport,
}

impl Api {
    pub(super) async fn start() -> Api {
        Api::with(Config::default()).await
    }

    pub(super) async fn with(config: Config) -> Api {
        let center = TestCenter::start(config).await;
        let local = LocalServices::default();
        local.insert(NodeId(9), Routes::from(crate::router(&center.ops).unwrap()));
        Api { center, transport: Transport::local(NodeId(9), local) }
    }

    pub(super) fn push(&self) -> PushServiceClient<Transport> {
        PushServiceClient::new(self.transport.clone())
    }
}

pub(super) fn by<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    request
}

fn to(uid: &str) -> v1::PushRequest {
    v1::PushRequest { uid: uid.to_owned(), payload: Bytes::from_static(b"hello"), ..Default::default() }
}

fn word(status: &Status) -> &str {
    status.metadata().get("longwire-error").map_or("", |word| word.to_str().unwrap())
}

#[tokio::test]
async fn a_push_is_stored() {
    let api = Api::start().await;
    let done = api.push().push(by(DEMO_KEY, to("alice"))).await.unwrap().into_inner();
    assert_eq!((done.outcome(), done.seq, done.repeated), (v1::Outcome::Stored, 1, false));
    assert_ne!(done.id, 0);
    let user = v1::GetUserRequest { uid: "alice".to_owned(), ..Default::default() };
    let user = api.push().get_user(by(DEMO_KEY, user)).await.unwrap().into_inner();
    assert_eq!((user.app.as_str(), user.inbox_depth, user.online), ("demo", 1, false));
}

#[tokio::test]
async fn errors_are_those_of_http() {
    let api = Api::start().await;
    let none = api.push().push(to("alice")).await.unwrap_err();
    assert_eq!((none.code(), word(&none)), (Code::Unauthenticated, "no_key"));
    let wrong = api.push().push(by("lwk_wrong", to("alice"))).await.unwrap_err();
    assert_eq!((wrong.code(), word(&wrong)), (Code::Unauthenticated, "bad_key"));
    let reading = api.push().push(by(READ_KEY, to("alice"))).await.unwrap_err();
    assert_eq!((reading.code(), word(&reading)), (Code::PermissionDenied, "missing_scope"));
    let unknown = v1::PushRequest { app: "foo".to_owned(), ..to("alice") };
    let unknown = api.push().push(by(DEMO_KEY, unknown)).await.unwrap_err();
    assert_eq!((unknown.code(), unknown.message()), (Code::NotFound, "app \"foo\" is not known"));
    let nobody = api.push().push(by(DEMO_KEY, to(""))).await.unwrap_err();
    assert_eq!((nobody.code(), word(&nobody)), (Code::InvalidArgument, "invalid"));
    assert_eq!(nobody.metadata().get("longwire-field").unwrap(), "uid");
    let message = v1::GetMessageRequest { id: 7, ..Default::default() };
    let message = api.push().get_message(by(DEMO_KEY, message)).await.unwrap_err();
    assert_eq!((message.code(), word(&message)), (Code::NotFound, "unknown_message"));
}

#[tokio::test]
async fn a_batch_answers_each_push_in_its_place() {
    let api = Api::start().await;
    let mut pushes: Vec<_> = (0..500).map(|n| to(&format!("user-{}", n % 50))).collect();
    pushes[3].uid.clear();
    pushes[7].app = "other".to_owned();
    let batch = v1::PushBatchRequest { pushes };
    let results = api.push().push_batch(by(DEMO_KEY, batch)).await.unwrap().into_inner().results;
    assert_eq!(results.len(), 500);
    for (index, result) in results.iter().enumerate() {
        match (index, result.result.as_ref().unwrap()) {
            (3, v1::push_result::Result::Error(failure)) => assert_eq!(failure.code, "invalid"),
            (7, v1::push_result::Result::Error(failure)) => assert_eq!(failure.code, "other_app"),
            (_, v1::push_result::Result::Ok(done)) => {
                // The tenth round of fifty users; two of them miss one.
                let missed = u64::from((index % 50 == 3 || index % 50 == 7) && index >= 50);
                assert_eq!(done.seq, index as u64 / 50 + 1 - missed, "{index}");
            }
            (_, failure) => panic!("{index}: {failure:?}"),
        }
    }
    assert_eq!(api.center.ops.bodies().held(), 0);

    let batch = v1::PushBatchRequest { pushes: vec![to("a"); 1_001] };
    let refused = api.push().push_batch(by(DEMO_KEY, batch)).await.unwrap_err();
    assert_eq!((refused.code(), word(&refused)), (Code::InvalidArgument, "invalid"));
}

#[tokio::test]
async fn what_does_not_fit_is_refused_while_it_arrives() {
    let config = Config { body_bytes_in_flight: 10_000, ..Config::default() };
    let api = Api::with(config).await;
    api.push().push(by(DEMO_KEY, to("alice"))).await.unwrap();
    let large = v1::PushRequest { payload: vec![0; 20_000].into(), ..to("alice") };
    let refused = api.push().push(by(DEMO_KEY, large)).await.unwrap_err();
    assert_eq!((refused.code(), word(&refused)), (Code::Unavailable, "busy"));
    assert_eq!(api.center.ops.bodies().held(), 0);
    let limit = api.center.ops.config().grpc_message_max_bytes;
    let beyond = v1::PushRequest { payload: vec![0; limit].into(), ..to("alice") };
    let api = Api::start().await;
    let refused = api.push().push(by(DEMO_KEY, beyond)).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
}

#[tokio::test]
async fn broadcasts_are_followed() {
    let api = Api::start().await;
    let all = v1::BroadcastRequest { payload: Bytes::from_static(b"all"), ..Default::default() };
    let done = api.push().broadcast(by(DEMO_KEY, all)).await.unwrap().into_inner();
    let state = v1::GetBroadcastRequest { id: done.id, ..Default::default() };
    let state = api.push().get_broadcast(by(DEMO_KEY, state)).await.unwrap().into_inner();
    assert_eq!((state.bseq, state.targets, state.sent, state.acked), (done.bseq, 5, 4, 3));
    let recall = v1::RecallRequest { id: done.id, ..Default::default() };
    let recalled = api.push().recall(by(DEMO_KEY, recall)).await.unwrap().into_inner();
    assert_eq!((recalled.recalled, recalled.notified), (1, 1));
}

#[tokio::test]
async fn apps_are_for_admins() {
    let api = Api::start().await;
    let mut admin = AdminServiceClient::new(api.transport.clone());
    let news = v1::CreateAppRequest { app: "news".to_owned(), ..Default::default() };
    let refused = admin.create_app(by(DEMO_KEY, news.clone())).await.unwrap_err();
    assert_eq!(word(&refused), "missing_scope");
    let created = admin.create_app(by(ADMIN_KEY, news)).await.unwrap().into_inner();
    assert!(created.key.starts_with("lwk_"));
    api.push().push(by(&created.key, to("alice"))).await.unwrap();
    let apps = admin.list_apps(by(ADMIN_KEY, v1::ListAppsRequest {})).await.unwrap().into_inner().apps;
    let names: Vec<_> = apps.iter().map(|app| app.app.as_str()).collect();
    assert_eq!(names, ["demo", "news", "other"]);
}

#[tokio::test]
async fn a_service_that_is_not_here_is_answered_in_grpc() {
    let api = Api::start().await;
    let mut router = proto::v1::router_client::RouterClient::new(api.transport.clone());
    let answer = router.route(v1::RouteRequest::default()).await.unwrap_err();
    assert_eq!((answer.code(), word(&answer)), (Code::Unimplemented, "no_route"));
}

#[tokio::test]
async fn reflection_lists_the_public_services_and_no_others() {
    let api = Api::start().await;
    let mut reflection = ServerReflectionClient::new(api.transport.clone());
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let answers = reflection.server_reflection_info(tokio_stream::iter([ask])).await.unwrap();
    let answer = answers.into_inner().next().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(names.contains(&"longwire.v1.PushService".to_owned()), "{names:?}");
    assert!(names.contains(&"longwire.v1.AdminService".to_owned()), "{names:?}");
    assert!(names.iter().all(|name| !name.contains("internal")), "{names:?}");
}

/// A call to the gRPC API whose body begins and never ends.
async fn endless(api: &Api, key: Option<&str>) -> http::Response<axum::body::Body> {
    let begun = tokio_stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(&[0, 0, 1, 0, 0, 1, 2, 3]))]);
    let body = axum::body::Body::from_stream(begun.chain(tokio_stream::pending()));
    let call =
        http::Request::post("/longwire.v1.PushService/Push").header("content-type", "application/grpc");
    let call = match key {
        Some(key) => call.header("authorization", format!("Bearer {key}")),
        None => call,
    };
    let router = crate::router(&api.center.ops).unwrap();
    let answer = tower::ServiceExt::oneshot(router, call.body(body).unwrap());
    tokio::time::timeout(std::time::Duration::from_secs(4), answer).await.unwrap().unwrap()
}

/// Who had no key could send a part of each of many requests and then nothing, and so hold all the bytes that the center
/// may hold: everybody else was refused for as long as he liked.
#[tokio::test]
async fn a_body_that_does_not_end_holds_nothing() {
    let config = Config { body_timeout: std::time::Duration::from_millis(20), ..Config::default() };
    let api = Api::with(config).await;
    let unknown = endless(&api, None).await;
    assert_eq!(unknown.headers()["grpc-status"], "16", "before the body is read");
    let slow = endless(&api, Some(DEMO_KEY)).await;
    assert_eq!(slow.headers()["grpc-status"], (Code::DeadlineExceeded as i32).to_string().as_str());
    assert_eq!(api.center.ops.bodies().held(), 0);
}
