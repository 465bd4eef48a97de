//! Broadcast jobs.

use proto::internal::{ChangeJobRequest, Job, Part, ReleaseJobRequest};
use wire::id::{AppId, Cursor, MessageId};

use super::{
    Engine,
    writes::{Write, Written},
};
use crate::{
    archive::{Archive, Counts, JobWrite, JobWritten, MOST_JOBS},
    error::Refused,
    inbox::InboxStore,
};

/// Jobs in one answer at most.
const MOST_LISTED: usize = 1_000;

/// A job, and what is counted of its broadcast.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The job; `None` if there is none.
    pub job: Option<Job>,
    /// What is counted.
    pub counts: Counts,
    /// What was to be written was not: this is the job as it is.
    pub stale: bool,
}

/// What became of a slice.
#[derive(Clone, Debug, PartialEq)]
pub struct Released {
    /// Its place in the log; `None` if it was not released.
    pub place: Option<Cursor>,
    /// The job as it is, without its payload; `None` if there is none.
    pub job: Option<Job>,
}

impl<I: InboxStore, A: Archive> Engine<I, A> {
    /// Keeps a new job. One that is there already stays.
    ///
    /// # Errors
    /// When it was not stored.
    pub async fn put_job(&self, job: Job) -> Result<Found, Refused> {
        let charge = self.core.charge(1, job.payload.len()).ok_or(Refused::Busy)?;
        let written = self.write_job(AppId(job.app), JobWrite::Put(Box::new(job))).await;
        drop(charge);
        self.found(written?).await
    }

    /// A job with its payload.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub async fn find_job(&self, app: AppId, id: MessageId) -> Result<Found, Refused> {
        self.owned_app(app)?;
        let job = self.core.archive.job(app, id).await?;
        self.counted(job, false).await
    }

    /// The jobs of the apps of this shard that have not ended, without payloads.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub async fn active_jobs(&self) -> Result<Vec<Job>, Refused> {
        let mut jobs = self.core.archive.active_jobs().await?;
        jobs.retain(|job| self.core.shard.owns_app(AppId(job.app)));
        Ok(jobs)
    }

    /// An app's jobs before an id, newest first, with their counts.
    ///
    /// # Errors
    /// When the archive cannot be read.
    pub async fn list_jobs(
        &self,
        app: AppId,
        before: MessageId,
        max: usize,
    ) -> Result<Vec<(Job, Counts)>, Refused> {
        self.owned_app(app)?;
        let jobs = self.core.archive.jobs(app, before, max.clamp(1, MOST_LISTED)).await?;
        let ids: Vec<MessageId> = jobs.iter().map(|job| MessageId(job.id)).collect();
        let counts = self.core.archive.broadcast_counts(app, &ids).await?;
        Ok(jobs.into_iter().zip(counts.into_iter().map(Option::unwrap_or_default)).collect())
    }

    /// Changes a job, if it has the revision that the change was made for.
    ///
    /// # Errors
    /// When the archive does not take it.
    pub async fn change_job(&self, change: ChangeJobRequest) -> Result<Found, Refused> {
        let app = AppId(change.app);
        let written = self.write_job(app, JobWrite::Change(Box::new(change))).await?;
        self.found(written).await
    }

    /// Appends a slice of a running job to the log, if the job stands where the slice begins. The very same slice again
    /// is answered as the first time.
    ///
    /// # Errors
    /// When the archive does not take it.
    pub async fn release_job(&self, slice: ReleaseJobRequest) -> Result<Released, Refused> {
        let app = AppId(slice.app);
        match self.write_job(app, JobWrite::Release(Box::new(slice))).await? {
            JobWritten::Released { job, entry, .. } => {
                Ok(Released { place: Some(entry.place), job: Some(*job) })
            }
            JobWritten::Stale(job) | JobWritten::Kept(job) => Ok(Released { place: None, job: Some(*job) }),
            _ => Ok(Released { place: None, job: None }),
        }
    }

    /// Keeps what rooms have told of their parts in jobs.
    ///
    /// # Errors
    /// When the archive does not take it.
    pub async fn put_parts(&self, parts: Vec<Part>) -> Result<(), Refused> {
        if parts.is_empty() {
            return Ok(());
        }
        let mut apps: Vec<u32> = parts.iter().map(|part| part.app).collect();
        apps.dedup();
        apps.into_iter().try_for_each(|app| self.owned_app(AppId(app)))?;
        self.write(Write::Job(JobWrite::Parts(parts))).await.map(drop)
    }

    async fn write_job(&self, app: AppId, write: JobWrite) -> Result<JobWritten, Refused> {
        self.owned_app(app)?;
        match self.write(Write::Job(write)).await? {
            Written::Job(written) => Ok(written),
            _ => Err(Refused::Ending),
        }
    }

    async fn found(&self, written: JobWritten) -> Result<Found, Refused> {
        match written {
            JobWritten::Kept(job) => self.counted(Some(*job), false).await,
            JobWritten::Stale(job) => self.counted(Some(*job), true).await,
            JobWritten::IdTaken => {
                Err(Refused::bad("id_taken", "the message id belongs to another broadcast"))
            }
            JobWritten::TooMany => Err(Refused::bad(
                "too_many_jobs",
                format!("the app has {MOST_JOBS} broadcasts that have not ended"),
            )),
            JobWritten::Unknown | JobWritten::Released { .. } | JobWritten::Noted => Ok(Found::default()),
        }
    }

    async fn counted(&self, job: Option<Job>, stale: bool) -> Result<Found, Refused> {
        let Some(job) = job else { return Ok(Found { stale, ..Found::default() }) };
        let counts = self.core.archive.broadcast_counts(AppId(job.app), &[MessageId(job.id)]).await?;
        let counts = counts.into_iter().next().flatten().unwrap_or_default();
        Ok(Found { job: Some(job), counts, stale })
    }

    /// Over a shared store any saver may be asked: the archive orders them.
    fn owned_app(&self, app: AppId) -> Result<(), Refused> {
        let owned = self.core.shared() || self.core.shard.owns_app(app);
        if owned { Ok(()) } else { Err(Refused::NotOwner) }
    }
}
