//! The part of a saver that keeps messages for later, as a plain map.

use std::collections::{BTreeMap, HashMap};

use proto::internal as rpc;

/// Parts by message and number, and the offsets of users.
#[derive(Default)]
pub(crate) struct FakeSchedule {
    pub(crate) parts: BTreeMap<(u64, u32), rpc::ScheduledPush>,
    pub(crate) offsets: HashMap<String, i32>,
    /// Removals fail.
    pub(crate) stuck: bool,
    /// How often it was asked what is due.
    pub(crate) asked: usize,
}

impl FakeSchedule {
    pub(crate) fn put(&mut self, push: rpc::ScheduledPush) -> rpc::PutScheduledResponse {
        let key = (push.id, push.part);
        let repeated = self.parts.contains_key(&key);
        self.parts.entry(key).or_insert(push);
        rpc::PutScheduledResponse { repeated, refusal: None }
    }

    pub(crate) fn due(&mut self, request: rpc::DueScheduledRequest) -> rpc::ScheduledResponse {
        self.asked += 1;
        let mut pushes: Vec<_> =
            self.parts.values().filter(|push| push.due_ms <= request.now_ms).cloned().collect();
        pushes.sort_by_key(|push| push.due_ms);
        pushes.truncate(request.limit as usize);
        rpc::ScheduledResponse { pushes }
    }

    pub(crate) fn list(&self, request: rpc::ListScheduledRequest) -> rpc::ScheduledResponse {
        let of_app = self.parts.values().filter(|push| push.app == request.app);
        let pushes = of_app.map(|push| rpc::ScheduledPush {
            users: push.uids.len() as u32,
            uids: Vec::new(),
            payload: Default::default(),
            ..push.clone()
        });
        rpc::ScheduledResponse { pushes: pushes.collect() }
    }

    pub(crate) fn remove(&mut self, request: rpc::RemoveScheduledRequest) -> rpc::RemoveScheduledResponse {
        let gone = |push: &rpc::ScheduledPush| {
            push.app == request.app
                && push.id == request.id
                && request.part.is_none_or(|part| part == push.part)
        };
        let removed = self.parts.values().filter(|push| gone(push)).map(|push| push.uids.len() as u64).sum();
        self.parts.retain(|_, push| !gone(push));
        rpc::RemoveScheduledResponse { removed }
    }

    pub(crate) fn offsets(&self, request: &rpc::UtcOffsetsRequest) -> rpc::UtcOffsetsResponse {
        let offset = |uid: &String| self.offsets.get(uid).copied().unwrap_or_default();
        rpc::UtcOffsetsResponse { offsets_min: request.uids.iter().map(offset).collect() }
    }
}
