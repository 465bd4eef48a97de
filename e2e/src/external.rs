//! A cluster that runs already, wherever it is: the one that variables of the environment name.
//!
//! Journeys expect a cluster of their own. On one that others use too, each gets apps of its own: what it calls `demo`
//! is `demo-<run>` there. So it runs in a process of its own, and only journeys that configure, restart and look into
//! nothing can go there.

use std::{borrow::Cow, env, net::IpAddr, sync::OnceLock};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::{ApiClient, stack::Addresses};

/// Base addresses of the centers, separated by commas.
const API: &str = "E2E_API";
/// Base address of a dispatcher.
const ROUTE: &str = "E2E_ROUTE";
/// An API key with the scope `admin`.
const KEY: &str = "E2E_KEY";
/// The address of this machine as the cluster sees it, for webhooks. Default: 127.0.0.1.
const CALLBACK: &str = "E2E_CALLBACK";

/// What the apps' names end with there.
static RUN: OnceLock<String> = OnceLock::new();

/// Whether the environment names one.
pub(crate) fn is_named() -> bool {
    env::var_os(API).is_some()
}

/// Makes the app `demo` of this run, with a key of all scopes.
pub(crate) async fn join() -> anyhow::Result<Addresses> {
    let variable = |name| env::var(name).with_context(|| format!("the variable {name}"));
    let api: Vec<String> = variable(API)?.split(',').map(|base| base.trim().to_owned()).collect();
    let route = variable(ROUTE)?;
    let run = format!("-{:08x}", rand::random::<u32>());
    ensure!(RUN.set(run).is_ok(), "a cluster that runs already takes one journey a process");
    let admin = ApiClient::new(&api[0], &variable(KEY)?);
    admin.create_app("demo", json!({})).await?;
    let all = json!({ "scopes": ["push", "read", "admin"] });
    let made = admin.told(admin.post("/v1/apps/demo/keys", &all).await?)?;
    let key = made["key"].as_str().with_context(|| format!("no key: {made}"))?.to_owned();
    Ok(Addresses { api, route, admin: vec![], key })
}

/// Where a backend of a test listens, and the address that the cluster calls it by.
pub(crate) fn callback() -> anyhow::Result<(IpAddr, IpAddr)> {
    match env::var(CALLBACK) {
        Ok(address) if RUN.get().is_some() => {
            Ok(([0, 0, 0, 0].into(), address.parse().context("the variable E2E_CALLBACK")?))
        }
        _ => Ok(([127, 0, 0, 1].into(), [127, 0, 0, 1].into())),
    }
}

/// What the cluster calls this app.
pub(crate) fn app(name: &str) -> Cow<'_, str> {
    match RUN.get() {
        Some(run) => Cow::Owned(format!("{name}{run}")),
        None => Cow::Borrowed(name),
    }
}

/// A request's path, with the app's name as the cluster knows it, where it is the last parameter or a part.
pub(crate) fn path(path: &str) -> Cow<'_, str> {
    let Some(run) = RUN.get() else { return Cow::Borrowed(path) };
    if let Some(rest) = path.strip_prefix("/v1/apps/") {
        let (name, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        return Cow::Owned(format!("/v1/apps/{name}{run}{tail}"));
    }
    if path.contains("?app=") { Cow::Owned(format!("{path}{run}")) } else { Cow::Borrowed(path) }
}

/// A request's body, with the app's name as the cluster knows it.
pub(crate) fn request(body: &Value) -> Cow<'_, Value> {
    match body["app"].as_str() {
        Some(name) if RUN.get().is_some() => {
            let mut named = body.clone();
            named["app"] = json!(app(name));
            Cow::Owned(named)
        }
        _ => Cow::Borrowed(body),
    }
}

/// An answer, with the apps' names as the journey knows them.
pub(crate) fn answer(text: String) -> String {
    match RUN.get() {
        Some(run) => text.replace(run.as_str(), ""),
        None => text,
    }
}

/// What a journey is told that wants to start or end services.
pub(crate) fn not_ours() -> anyhow::Result<()> {
    anyhow::bail!("a cluster that runs already is not started and ended by a journey")
}
