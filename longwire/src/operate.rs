//! The commands that ask and administer: `user`, `message`, `recall`, `kick`, `token`, `app`. They print JSON, which
//! people can read and scripts can use.

use proto::v1::{
    AppInfo, CreateAppRequest, CreateKeyRequest, GetMessageRequest, GetUserRequest, IssueTokenRequest,
    KickRequest, ListAppsRequest, RecallRequest,
};
use serde_json::{Value, json};
use service::ExitError;

use crate::{
    api::{Api, refused},
    args,
};

pub(crate) async fn user(args: args::User) -> Result<(), ExitError> {
    let api = Api::open(&args.api).await?;
    let request = GetUserRequest { app: api.app.clone(), uid: args.uid };
    let user = api.push().get_user(request).await.map_err(|s| refused(&s))?.into_inner();
    let mut shown =
        json!({ "app": user.app, "uid": user.uid, "online": user.online, "inbox_depth": user.inbox_depth });
    if user.online {
        shown["room"] = json!(user.room);
        shown["conn"] = json!(user.conn.to_string());
        shown["since_ms"] = json!(user.since_ms);
    }
    if user.rebuilding {
        shown["rebuilding"] = json!(true);
    }
    print(&shown);
    Ok(())
}

pub(crate) async fn message(args: args::Message) -> Result<(), ExitError> {
    let api = Api::open(&args.api).await?;
    let request = GetMessageRequest { app: api.app.clone(), id: args.id };
    let m = api.push().get_message(request).await.map_err(|s| refused(&s))?.into_inner();
    print(&json!({
        "id": m.id.to_string(), "app": m.app, "kind": m.kind, "accepted_ms": m.accepted_ms,
        "expires_ms": m.expires_ms, "targets": m.targets, "acked": m.acked, "stored": m.stored,
        "expired": m.expired, "dropped": m.dropped, "recalled": m.recalled
    }));
    Ok(())
}

pub(crate) async fn recall(args: args::Message) -> Result<(), ExitError> {
    let api = Api::open(&args.api).await?;
    let request = RecallRequest { app: api.app.clone(), id: args.id };
    let answer = api.push().recall(request).await.map_err(|s| refused(&s))?.into_inner();
    print(&json!({ "recalled": answer.recalled, "notified": answer.notified }));
    Ok(())
}

pub(crate) async fn kick(args: args::User) -> Result<(), ExitError> {
    let api = Api::open(&args.api).await?;
    let request = KickRequest { app: api.app.clone(), uid: args.uid };
    let answer = api.push().kick(request).await.map_err(|s| refused(&s))?.into_inner();
    print(&json!({ "was_online": answer.was_online }));
    Ok(())
}

pub(crate) async fn token(args: args::Token) -> Result<(), ExitError> {
    let api = Api::open(&args.user.api).await?;
    let ttl_s = args.ttl.map(|t| u32::try_from(t.as_secs()).unwrap_or(u32::MAX));
    outln!("{}", issue(&api, &args.user.uid, ttl_s).await?);
    Ok(())
}

/// Asks the API for a device's token.
pub(crate) async fn issue(api: &Api, uid: &str, ttl_s: Option<u32>) -> Result<String, ExitError> {
    let request = IssueTokenRequest { app: api.app.clone(), uid: uid.to_owned(), ttl_s };
    let answer = api.push().issue_token(request).await.map_err(|s| refused(&s))?;
    Ok(answer.into_inner().token)
}

pub(crate) async fn app(command: args::App) -> Result<(), ExitError> {
    match command {
        args::App::Create(args) => {
            let api = Api::open(&args.api).await?;
            let request = CreateAppRequest {
                app: args.name,
                upstream_url: args.upstream_url,
                state_url: args.state_url,
                durability: args.durability,
                ..CreateAppRequest::default()
            };
            let made = api.admin().create_app(request).await.map_err(|s| refused(&s))?.into_inner();
            print(&json!({
                "app": made.info.as_ref().map(show), "key": made.key, "secret": made.secret,
                "webhook_secret": made.webhook_secret
            }));
        }
        args::App::List { api } => {
            let api = Api::open(&api).await?;
            let apps =
                api.admin().list_apps(ListAppsRequest {}).await.map_err(|s| refused(&s))?.into_inner().apps;
            print(&Value::Array(apps.iter().map(show).collect()));
        }
        args::App::Key { api, scopes } => {
            let api = Api::open(&api).await?;
            let request = CreateKeyRequest { app: api.app.clone(), scopes };
            let made = api.admin().create_key(request).await.map_err(|s| refused(&s))?.into_inner();
            print(&json!({ "key": made.key }));
        }
    }
    Ok(())
}

fn show(app: &AppInfo) -> Value {
    json!({
        "id": app.id, "app": app.app, "upstream_url": app.upstream_url, "state_url": app.state_url,
        "default_ttl_s": app.default_ttl_s, "inbox_cap": app.inbox_cap, "pushes_per_second": app.pushes_per_second,
        "durability": app.durability
    })
}

fn print(value: &Value) {
    outln!("{value:#}");
}
