//! Where apps want their events: the app directory, read for the lanes.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use peers::AppDirectory;
use proto::internal::App;

use crate::{
    event::{Kind, LaneKey},
    lane::{NoTarget, Targets},
    webhook::Target,
};

/// An app that is not at hand is waited for so long: others are in the same batch. It is there on the next try.
const PATIENCE: Duration = Duration::from_millis(300);

impl Targets for AppDirectory {
    fn target(&self, lane: LaneKey) -> BoxFuture<'_, Result<Target, NoTarget>> {
        Box::pin(async move {
            if let Some(app) = self.get(lane.app) {
                return target(&app, lane.kind);
            }
            match tokio::time::timeout(PATIENCE, self.find(lane.app)).await {
                Ok(Ok(Some(app))) => target(&app, lane.kind),
                Ok(Ok(None)) => Err(NoTarget::NotWanted),
                Ok(Err(error)) => Err(NoTarget::Unknown(error.to_string())),
                Err(_) => Err(NoTarget::Unknown("no answer in time".to_owned())),
            }
        })
    }
}

fn target(app: &Arc<App>, kind: Kind) -> Result<Target, NoTarget> {
    let url = match kind {
        Kind::Up => &app.upstream_url,
        Kind::State => &app.state_url,
    };
    if url.is_empty() {
        return Err(NoTarget::NotWanted);
    }
    Ok(Target { app: app.key.clone(), url: url.clone(), secret: app.webhook_secret.clone() })
}
