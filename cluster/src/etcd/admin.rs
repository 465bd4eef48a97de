//! What an operator's tool does with etcd: look at nodes, read and write configuration.

use std::sync::Arc;

use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetOptions, KeyValue, SortOrder, SortTarget, Txn, TxnOp,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    ConfigText, EtcdError, EtcdMetrics, EtcdOptions, Target,
    link::Link,
    nodes::{Nodes, NodesFollower},
    watch::follow,
};
use crate::{NodeInfo, Picture, Role, now_ms};

/// Old configurations that are kept of each target.
const HISTORY: u64 = 50;

/// A connection for operators.
pub struct Admin {
    link: Link,
}

/// An entry of a configuration's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// Counts the changes of one target, from 1.
    pub number: u64,
    /// When it was made, ms since 1970, by the clock of whoever made it.
    pub at_ms: u64,
    /// Who made it.
    pub by: String,
    /// The whole text that it set.
    pub text: String,
}

/// The value of a history key.
#[derive(Serialize, Deserialize)]
struct Record {
    at: u64,
    by: String,
    text: String,
}

impl Admin {
    /// Connects to the first member that answers.
    ///
    /// # Errors
    /// When an option is wrong or no member answers.
    pub async fn connect(options: EtcdOptions) -> Result<Self, EtcdError> {
        options.check()?;
        let link = Link::new(options, EtcdMetrics::default());
        link.connection().await?;
        Ok(Self { link })
    }

    /// The registered nodes, by role and id.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn nodes(&self) -> Result<Vec<NodeInfo>, EtcdError> {
        let key = self.link.keys().nodes();
        let all = GetOptions::new().with_prefix();
        let got = self.link.call(async move |mut client| client.get(key, Some(all)).await).await?;
        let nodes = got.kvs().iter().map(|kv| {
            serde_json::from_slice(kv.value())
                .map_err(|e| EtcdError::Malformed { key: name(kv), reason: e.to_string() })
        });
        Ok(Picture::new(0, nodes.collect::<Result<_, _>>()?).nodes().to_vec())
    }

    /// Follows the picture until `cancel`, as a node sees it.
    pub fn follow(&self, cancel: CancellationToken) -> watch::Receiver<Arc<Picture>> {
        let options = self.link.options();
        let nodes = Arc::new(Nodes::new(options.lease, self.link.metrics().clone()));
        let picture = nodes.picture();
        let (link, keys) = (self.link.clone(), self.link.keys().clone());
        tokio::spawn(async move {
            let mut follower = NodesFollower { nodes, keys: keys.clone(), own: None };
            cancel.run_until_cancelled(follow(link, keys.nodes(), &mut follower)).await;
        });
        picture
    }

    /// The configuration of a target; `None` when there is none.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn config(&self, role: Role, target: Target) -> Result<Option<ConfigText>, EtcdError> {
        let key = self.link.keys().config(role, target);
        let got = self.link.call(async move |mut client| client.get(key, None).await).await?;
        Ok(got.kvs().first().map(|kv| ConfigText {
            text: String::from_utf8_lossy(kv.value()).into_owned(),
            revision: kv.mod_revision().unsigned_abs(),
        }))
    }

    /// Replaces the configuration of a target, and writes that into its history, as one step. `before` is the revision
    /// of the configuration that it was made from (0 = there was none); `None` overwrites whatever is there. The text
    /// is not judged here: the caller knows the role's types. Answers the new revision.
    ///
    /// # Errors
    /// [`EtcdError::Conflict`] when somebody changed it since `before`; else when etcd does not answer.
    pub async fn set_config(
        &self,
        role: Role,
        target: Target,
        text: &str,
        by: &str,
        before: Option<u64>,
    ) -> Result<u64, EtcdError> {
        let keys = self.link.keys();
        let (key, history) = (keys.config(role, target), keys.history(role, target));
        let record = Record { at: now_ms(), by: by.to_owned(), text: text.to_owned() };
        let record = serde_json::to_vec(&record).map_err(|e| EtcdError::Refused(e.to_string()))?;
        loop {
            let last = self.last(&history).await?;
            let number = last + 1;
            let entry = keys.history_entry(role, target, number);
            let mut when = vec![Compare::create_revision(entry.clone(), CompareOp::Equal, 0)];
            if let Some(before) = before {
                let revision = i64::try_from(before).unwrap_or(i64::MAX);
                when.push(Compare::mod_revision(key.clone(), CompareOp::Equal, revision));
            }
            let mut then = vec![TxnOp::put(key.clone(), text, None), TxnOp::put(entry, record.clone(), None)];
            if let Some(oldest) = number.checked_sub(HISTORY).filter(|oldest| *oldest > 0) {
                let end = keys.history_entry(role, target, oldest + 1);
                let range = DeleteOptions::new().with_range(end);
                then.push(TxnOp::delete(keys.history_entry(role, target, 0), Some(range)));
            }
            let txn = Txn::new().when(when).and_then(then);
            let answer = self.link.call(async move |mut client| client.txn(txn).await).await?;
            if answer.succeeded() {
                return Ok(answer.header().map_or(0, |h| h.revision().unsigned_abs()));
            }
            let now = self.config(role, target).await?.map_or(0, |text| text.revision);
            if before.is_some_and(|before| before != now) {
                return Err(EtcdError::Conflict);
            }
            // Only the history has grown meanwhile, or whoever changed it asked for no `before`: the next number.
        }
    }

    /// The history of a target's configuration, newest first; the last fifty changes are kept.
    ///
    /// # Errors
    /// When etcd does not answer.
    pub async fn history(&self, role: Role, target: Target) -> Result<Vec<ConfigChange>, EtcdError> {
        let key = self.link.keys().history(role, target);
        let newest_first = GetOptions::new().with_prefix().with_sort(SortTarget::Key, SortOrder::Descend);
        let prefix = key.clone();
        let got = self.link.call(async move |mut client| client.get(key, Some(newest_first)).await).await?;
        let change = |kv: &KeyValue| {
            let malformed = |reason: String| EtcdError::Malformed { key: name(kv), reason };
            let record: Record = serde_json::from_slice(kv.value()).map_err(|e| malformed(e.to_string()))?;
            let number = number(&prefix, kv).ok_or_else(|| malformed("is no number".to_owned()))?;
            Ok(ConfigChange { number, at_ms: record.at, by: record.by, text: record.text })
        };
        got.kvs().iter().map(change).collect()
    }

    /// Number of the last entry; 0 = there is none.
    async fn last(&self, history: &str) -> Result<u64, EtcdError> {
        let key = history.to_owned();
        let newest = GetOptions::new()
            .with_prefix()
            .with_sort(SortTarget::Key, SortOrder::Descend)
            .with_limit(1)
            .with_keys_only();
        let got = self.link.call(async move |mut client| client.get(key, Some(newest)).await).await?;
        Ok(got.kvs().first().and_then(|kv| number(history, kv)).unwrap_or(0))
    }
}

fn name(kv: &KeyValue) -> String {
    String::from_utf8_lossy(kv.key()).into_owned()
}

fn number(prefix: &str, kv: &KeyValue) -> Option<u64> {
    kv.key_str().ok()?.strip_prefix(prefix)?.parse().ok()
}
