//! Where many users are: a list goes to its registers in a few large calls of its own, so that it costs each user next to
//! nothing and does not stand before single look-ups.

use std::{collections::BTreeMap, sync::Arc};

use cluster::{NodeId, Role, rendezvous};
use futures::{StreamExt as _, stream};
use proto::internal as rpc;

use super::{RegisterLine, Registers};
use crate::{PeerError, call::Repeat, links::To};

/// Users of one call: with the longest names 280 KiB, far below what a server takes, and a millisecond of a register's time.
const CALL_USERS: usize = 2_048;

/// Calls of one list under way at a time.
const CALLS: usize = 4;

impl Registers {
    /// Where each user of a list is, in the order of the list.
    pub async fn look_up_list<S: AsRef<str>>(
        &self,
        app: impl Into<u32>,
        uids: &[S],
    ) -> Vec<Result<rpc::LookUpResult, PeerError>> {
        let app = app.into();
        let mut results = Vec::with_capacity(uids.len());
        results.resize_with(uids.len(), || Err(PeerError::NoNode(Role::Register)));
        let mut calls = stream::iter(self.shares(app, uids))
            .map(|(node, share)| async move {
                let call = |line: Arc<RegisterLine>| {
                    let user = |index: &u32| uids[*index as usize].as_ref().to_owned();
                    let items = share.iter().map(|index| rpc::LookUpItem { app, uid: user(index) }).collect();
                    let request = rpc::LookUpRequest { items };
                    async move { line.control.call(line.client.clone().look_up(request)).await }
                };
                let found = self.links.call(To::Node(node), Repeat::Harmless, call).await;
                (share, found)
            })
            .buffer_unordered(CALLS);
        while let Some((share, found)) = calls.next().await {
            match found {
                Ok(found) => {
                    for (index, place) in share.iter().zip(found.results) {
                        results[*index as usize] = Ok(place);
                    }
                }
                Err(error) => share.iter().for_each(|n| results[*n as usize] = Err(error.clone())),
            }
        }
        drop(calls);
        results
    }

    /// Which register is asked for which users, by their index in the list.
    fn shares<S: AsRef<str>>(&self, app: u32, uids: &[S]) -> Vec<(NodeId, Vec<u32>)> {
        let view = self.links.view();
        let mut owned = BTreeMap::<NodeId, Vec<u32>>::new();
        for (index, uid) in (0..).zip(uids) {
            if let Some(owner) = view.owner(rendezvous::user_key(app, uid.as_ref()), 0) {
                owned.entry(owner).or_default().push(index);
            }
        }
        let share = |(node, indexes): (NodeId, Vec<u32>)| {
            indexes.chunks(CALL_USERS).map(|part| (node, part.to_vec())).collect::<Vec<_>>()
        };
        owned.into_iter().flat_map(share).collect()
    }
}
