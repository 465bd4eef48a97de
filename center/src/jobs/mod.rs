//! Broadcast jobs: released slice by slice, over all centers.
//!
//! A job is a row of the archive, and all that centers know of it besides can be lost. One center *runs* it (`owners`, `keeper`,
//! `run`): it waits for the job's time and releases one slice of the ring of users after another, as wide as the pace allows
//! (`ring`, `pace`, `sense`, `feedback`). Each slice is put into the app's log by the saver, if the job still stands where the
//! slice begins and still runs; so two centers that both believe to run it release each slice once, and what an operator
//! changes holds from the next slice on. The rooms are told of a slice by the centers that are responsible for each of them in
//! this job (`parts`), which also keep what those have sent (`follow`).

mod feedback;
mod follow;
mod gate;
mod keeper;
mod owners;
mod pace;
mod parts;
mod reach;
pub(crate) mod ring;
mod rpc;
mod run;
mod sense;
mod state;
#[cfg(test)]
mod tests;
mod watch;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::{follow::Follow, gate::Gates, keeper::Keeper, run::Tools, watch::Watchers};
pub(crate) use self::{
    keeper::Known,
    parts::Parts,
    reach::Reach,
    rpc::routes,
    state::{Snapshot, Wanted, find, head, is_arriving, state_of, word},
    watch::Watch,
};
use crate::{config::BroadcastConfig, notices::Notices};

/// What the operations need of the jobs.
#[derive(Clone)]
pub(crate) struct Jobs {
    pub(crate) reach: Reach,
    pub(crate) parts: Parts,
    pub(crate) notices: Notices,
    pub(crate) known: Known,
    pub(crate) watchers: Watchers,
}

impl Jobs {
    /// Starts what a center does for jobs. The tasks end when `end` fires, and the streams of progress when `stop` does.
    pub(crate) fn spawn(
        reach: &Reach,
        config: &BroadcastConfig,
        stop: &CancellationToken,
        end: &CancellationToken,
    ) -> (Jobs, Vec<JoinHandle<()>>) {
        let follow = Follow::default();
        let parts = Parts::new(reach.clone(), follow.clone());
        let (notices, teller) = Notices::spawn(parts.clone(), &reach.metrics, end.clone());
        let tools = Tools {
            reach: reach.clone(),
            parts: parts.clone(),
            notices: notices.clone(),
            gates: Gates::default(),
        };
        let known = Known::default();
        let keeper = Keeper::new(tools, known.clone(), config.jobs_max);
        let tasks = vec![
            teller,
            tokio::spawn(keeper.run(end.clone())),
            tokio::spawn(follow.run(reach.clone(), end.clone())),
        ];
        let watchers = Watchers::new(reach.clone(), parts.clone(), config.watchers_max, stop.clone());
        (Jobs { reach: reach.clone(), parts, notices, known, watchers }, tasks)
    }
}
