//! What became of a message for each of its users, over all shards.

use std::sync::Arc;

use cluster::{NodeId, Role};
use proto::internal as rpc;

use super::{SaverLine, Savers};
use crate::{PeerError, call::Repeat, links::To};

/// A place in the walk over a message's users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetsPlace {
    /// The shard that is read.
    pub shard: NodeId,
    /// Only names after this one come now.
    pub after_uid: String,
}

/// A part of a message's users.
#[derive(Clone, Debug, Default)]
pub struct TargetsPage {
    /// In the order of their names within each shard.
    pub targets: Vec<rpc::TargetState>,
    /// Where to go on; `None` at the end.
    pub next: Option<TargetsPlace>,
}

impl Savers {
    /// Reads on from a place; `None` is the beginning. A page is of one shard and may be empty though there is more.
    ///
    /// # Errors
    /// [`PeerError`]; that the saver of this place has gone included.
    pub async fn targets(
        &self,
        app: impl Into<u32>,
        id: u64,
        place: Option<TargetsPlace>,
        limit: u32,
    ) -> Result<TargetsPage, PeerError> {
        let app = app.into();
        let shards = self.shards();
        let Some(first) = shards.first() else {
            return Err(self.links.give_up(PeerError::NoNode(Role::Saver)));
        };
        let place = place.unwrap_or_else(|| TargetsPlace { shard: *first, after_uid: String::new() });
        let call = |line: Arc<SaverLine>| {
            let request = rpc::TargetsRequest { app, id, after_uid: place.after_uid.clone(), limit };
            async move { line.control.call(line.client().targets(request)).await }
        };
        let page = self.links.call(To::Node(place.shard), Repeat::Harmless, call).await?;
        let next = match page.targets.last() {
            Some(last) if page.more => Some(TargetsPlace { shard: place.shard, after_uid: last.uid.clone() }),
            _ => {
                let after = shards.into_iter().find(|shard| *shard > place.shard);
                after.map(|shard| TargetsPlace { shard, after_uid: String::new() })
            }
        };
        Ok(TargetsPage { targets: page.targets, next })
    }
}
