//! What the runner of a paced job asks the rooms, about twice a second: how many are online whom it is for, and what became of it.

use cluster::NodeId;
use hashbrown::HashMap;
use proto::internal::{CountAudienceRequest, Filter, Job, Progress};

use super::{
    pace::Mark,
    parts::{Parts, Told},
    reach::Reach,
    ring,
};

/// What the rooms said.
#[derive(Debug)]
pub(crate) struct Sensed {
    /// Frames sent by each room that answered, by its own counter.
    pub(crate) sent: Vec<(NodeId, u64)>,
    /// All rooms together.
    pub(crate) progress: Progress,
    /// Online now at the job's present step; none if no room said so yet.
    pub(crate) audience: Option<u64>,
    /// Part of the whole audience that this step's is, 0 to 1.
    pub(crate) share: f64,
    /// When the rooms were asked.
    pub(crate) mark: Mark,
}

/// The last counts of each room, for those that do not answer now and then.
#[derive(Debug, Default, Clone)]
pub(crate) struct Census {
    rooms: HashMap<NodeId, u64>,
}

impl Census {
    /// Takes what rooms answered; one that neither answered nor failed to is gone. The whole, unless no room is known.
    pub(crate) fn take(&mut self, answered: Vec<(NodeId, u64)>, missed: &[NodeId]) -> Option<u64> {
        self.rooms.retain(|room, _| missed.contains(room));
        self.rooms.extend(answered);
        (!self.rooms.is_empty()).then(|| self.rooms.values().sum())
    }
}

/// Asks the rooms.
pub(crate) async fn sense(
    reach: Reach,
    parts: Parts,
    job: Job,
    mut census: Census,
    mark: Mark,
) -> (Sensed, Census) {
    let local = job.local_minutes.is_some();
    let here = count(&reach, &job, ring::audience_now(&job));
    let whole = async {
        match local {
            true => Some(count(&reach, &job, job.filter.clone().unwrap_or_default()).await),
            false => None,
        }
    };
    let (told, here, whole): (Told, _, _) = futures::join!(parts.progress(job.id, None), here, whole);
    let audience = census.take(here.0, &here.1);
    let sum = |rooms: &[(NodeId, u64)]| rooms.iter().map(|(_, count)| count).sum::<u64>();
    let share = match (&whole, audience) {
        (Some((rooms, _)), Some(audience)) => (audience as f64 / sum(rooms).max(1) as f64).min(1.0),
        _ => 1.0,
    };
    let progress = told.sum(0);
    let of_room = |(room, progress): (NodeId, Vec<Progress>)| Some((room, progress.first()?.sent));
    let sent = told.rooms.into_iter().filter_map(of_room).collect();
    (Sensed { sent, progress, audience, share, mark }, census)
}

async fn count(reach: &Reach, job: &Job, filter: Filter) -> (Vec<(NodeId, u64)>, Vec<NodeId>) {
    let request = CountAudienceRequest { app: job.app, audience: job.audience.clone(), filter: Some(filter) };
    let told = reach.rooms.count_audience(request).await;
    let missed = told.missed.into_iter().map(|(room, _)| room).collect();
    (told.answer, missed)
}
