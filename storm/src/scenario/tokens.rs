//! Device tokens from the center, for who does not have the app's secret.

use std::time::Duration;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::sleep;

use crate::{
    fleet::uid,
    load::{Centers, Failure, Fate},
};

/// Requests at once; a token is one HMAC for the center.
const AT_ONCE: usize = 128;
/// Attempts for each: a center that is busy says when to come back, and a second or two of that is no reason to give up.
const ATTEMPTS: u32 = 20;
/// Pause before another attempt, if the center does not say; with jitter.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest, whatever it says: a minute in all.
const LONGEST: Duration = Duration::from_secs(2);

/// A token for each user, in order.
pub(super) async fn fetch(centers: &Centers, prefix: &str, users: u32) -> anyhow::Result<Vec<String>> {
    let each = (0..users).map(|number| ask(centers, uid(prefix, number)));
    stream::iter(each).buffered(AT_ONCE).try_collect().await.context("asking the center for device tokens")
}

async fn ask(centers: &Centers, uid: String) -> Result<String, Failure> {
    let mut attempts = 1;
    loop {
        match centers.token(uid.clone()).await {
            Err(failure) if failure.fate == Fate::Unsettled && attempts < ATTEMPTS => {
                // Those who were refused together do not come back together.
                let share = rand::random_range(0.5..1.5);
                sleep(failure.retry_after.unwrap_or(PAUSE).min(LONGEST).mul_f64(share)).await;
                attempts += 1;
            }
            settled => return settled,
        }
    }
}
