//! Broadcast jobs: each is kept by the saver that owns its app.

use std::{collections::BTreeMap, sync::Arc};

use cluster::{Role, rendezvous};
use futures::future::try_join_all;
use proto::internal as rpc;

use super::{SaverLine, Savers, accepted, app_owner};
use crate::{
    PeerError,
    call::Repeat,
    links::{To, members},
};

impl Savers {
    /// Keeps a new job, with its payload; durable when this answers. `stale` says that its id was there before: `job` is
    /// what is kept. Jobs come back without their payloads, save from [`Savers::find_job`].
    ///
    /// # Errors
    /// [`PeerError`], a refusal included: `too_many_jobs` if the app has too many that have not ended.
    pub async fn put_job(&self, job: rpc::Job) -> Result<rpc::JobResponse, PeerError> {
        let to = app_owner(job.app);
        let call = |line: Arc<SaverLine>| {
            let request = rpc::PutJobRequest { job: Some(job.clone()) };
            async move { line.control.call(line.client().put_job(request)).await }
        };
        // Request and answer are large, and few of these are under way.
        taken(Box::pin(self.links.call(to, Repeat::Harmless, call)).await?)
    }

    /// A job with its payload, and what the archive counts of it; no job if there is none with this id.
    ///
    /// # Errors
    /// [`PeerError`], a refusal included.
    pub async fn find_job(&self, app: impl Into<u32>, id: u64) -> Result<rpc::JobResponse, PeerError> {
        let request = rpc::FindJobRequest { app: app.into(), id };
        let call =
            |line: Arc<SaverLine>| async move { line.control.call(line.client().find_job(request)).await };
        taken(self.links.call(app_owner(request.app), Repeat::Harmless, call).await?)
    }

    /// The jobs of all apps that have not ended, and how many savers did not say theirs.
    ///
    /// # Errors
    /// [`PeerError`] if none of the savers did.
    pub async fn active_jobs(&self) -> Result<(Vec<rpc::Job>, usize), PeerError> {
        let nodes = members(&self.links.view().picture, Role::Saver);
        if nodes.is_empty() {
            return Err(self.links.give_up(PeerError::NoNode(Role::Saver)));
        }
        let call = |line: Arc<SaverLine>| async move {
            line.control.call(line.client().active_jobs(rpc::ActiveJobsRequest {})).await
        };
        let mut jobs = BTreeMap::new();
        let (mut asked, mut missed, mut failure) = (0, 0, None);
        for (_, answer) in self.links.call_each(nodes, call).await {
            asked += 1;
            match answer {
                // Two may name the same while an app changes its owner.
                Ok(answer) => jobs.extend(answer.jobs.into_iter().map(|job| (job.id, job))),
                Err(e) => {
                    missed += 1;
                    failure = Some(e);
                }
            }
        }
        match failure {
            Some(e) if missed == asked => Err(e),
            _ => Ok((jobs.into_values().collect(), missed)),
        }
    }

    /// An app's jobs, newest first, with their counts.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn list_jobs(&self, request: rpc::ListJobsRequest) -> Result<rpc::JobsResponse, PeerError> {
        let call =
            |line: Arc<SaverLine>| async move { line.control.call(line.client().list_jobs(request)).await };
        self.links.call(app_owner(request.app), Repeat::Harmless, call).await
    }

    /// Changes a job if it still has the revision that the change was made for; if not, `stale` says so, and `job` how
    /// it is. A change whose answer was lost is found stale by its own repetition: `job` shows what holds.
    ///
    /// # Errors
    /// [`PeerError`], a refusal included: `job_ended` if a job that has ended cannot be in the state that is asked for.
    pub async fn change_job(&self, request: rpc::ChangeJobRequest) -> Result<rpc::JobResponse, PeerError> {
        let call = |line: Arc<SaverLine>| {
            let request = request.clone();
            async move { line.control.call(line.client().change_job(request)).await }
        };
        taken(self.links.call(app_owner(request.app), Repeat::Harmless, call).await?)
    }

    /// Appends one slice of a running job to the log, if the job stands where the slice begins. The very same slice
    /// again is answered with its place again.
    ///
    /// # Errors
    /// [`PeerError`], a refusal included.
    pub async fn release_job(
        &self,
        request: rpc::ReleaseJobRequest,
    ) -> Result<rpc::ReleaseJobResponse, PeerError> {
        let call = |line: Arc<SaverLine>| {
            let request = request.clone();
            async move { line.control.call(line.client().release_job(request)).await }
        };
        // Request and answer are large, and few of these are under way.
        let whole = self.links.call(app_owner(request.app), Repeat::Harmless, call);
        let mut response = Box::pin(whole).await?;
        accepted(response.refusal.take())?;
        Ok(response)
    }

    /// Keeps what rooms have told of their parts in jobs. Of one room, life and job the greatest count stays.
    ///
    /// # Errors
    /// [`PeerError`] of any app's saver; the others have theirs.
    pub async fn put_parts(&self, parts: Vec<rpc::Part>) -> Result<(), PeerError> {
        let view = self.links.view();
        let mut shards = BTreeMap::<_, Vec<rpc::Part>>::new();
        for part in parts {
            let owner = view.picture.owner(Role::Saver, rendezvous::app_key(part.app));
            let owner = owner.ok_or(PeerError::NoNode(Role::Saver))?;
            shards.entry(owner.id).or_default().push(part);
        }
        let calls = shards.into_iter().map(|(node, parts)| {
            let call = move |line: Arc<SaverLine>| {
                let request = rpc::PutPartsRequest { parts: parts.clone() };
                async move { line.control.call(line.client().put_parts(request)).await }
            };
            self.links.call(To::Node(node), Repeat::Harmless, call)
        });
        try_join_all(calls).await.map(drop)
    }
}

fn taken(mut response: rpc::JobResponse) -> Result<rpc::JobResponse, PeerError> {
    accepted(response.refusal.take())?;
    Ok(response)
}
