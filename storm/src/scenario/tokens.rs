//! Device tokens from the center, for who does not have the app's secret.

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::{fleet::uid, load::Centers};

/// Requests at once; a token is one HMAC for the center.
const AT_ONCE: usize = 128;

/// A token for each user, in order.
pub(super) async fn fetch(centers: &Centers, prefix: &str, users: u32) -> anyhow::Result<Vec<String>> {
    let each = (0..users).map(|number| centers.token(uid(prefix, number)));
    stream::iter(each).buffered(AT_ONCE).try_collect().await.context("asking the center for device tokens")
}
