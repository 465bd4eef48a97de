//! Pausing, resuming, cancelling broadcasts, and changing their speed.

use proto::{
    internal::{ChangeJobRequest, Job, JobState},
    v1,
};

use super::{Caller, Ops};
use crate::{
    auth::Scope,
    error::{Error, Result},
    jobs::{Wanted, find, ring, state_of, word},
};

/// A change is made for the revision that was read; so often it is read anew when somebody else was quicker.
const TRIES: u32 = 8;

impl Ops {
    /// Changes a broadcast; whoever runs it learns of it with its next slice, or within half a second.
    pub async fn control_broadcast(
        &self,
        caller: &Caller,
        request: v1::ControlBroadcastRequest,
    ) -> Result<v1::BroadcastState> {
        let app = self.app(caller, Scope::Push, &request.app).await?;
        let (id, wanted) = (request.id, Wanted { app: app.id, id: request.id });
        let action = Action::parse(&request.action, request.users_per_second)?;
        for _ in 0..TRIES {
            let found = find(&self.jobs.reach, wanted).await?;
            let (job, _) = found.ok_or(Error::UnknownMessage { id })?;
            let now_ms = self.jobs.reach.now_ms();
            let speed = request.users_per_second;
            let state = match action.next(&job, now_ms)? {
                Some(state) => state,
                // What was done before needs no doing; another speed that comes along does, if it still can be had.
                None if speed.is_some() && !ring::has_ended(&job) => JobState::Unspecified,
                None => return Ok(state_of(&app, &job)),
            };
            if speed == Some(0) && (job.min_ack_ratio > 0.0 || job.max_latency_ms > 0) {
                let message = "a broadcast with feedback has a speed: without one it could not be slowed";
                return Err(Error::invalid("users_per_second", message));
            }
            let change = ChangeJobRequest {
                app: app.id,
                id,
                revision: job.revision,
                state: state.into(),
                users_per_second: speed,
                users_per_second_asked: speed,
                // What it did by itself, and why, is over.
                why: Some(String::new()),
                now_ms,
            };
            let answer = self.peers.savers.change_job(change).await?;
            if !answer.stale {
                self.jobs.known.note(id, false);
                return Ok(state_of(&app, &answer.job.unwrap_or(job)));
            }
        }
        Err(Error::Full("changes of this broadcast"))
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Action {
    Pause,
    Resume,
    Cancel,
    Speed,
}

impl Action {
    fn parse(word: &str, users_per_second: Option<u32>) -> Result<Action> {
        match word {
            "pause" => Ok(Action::Pause),
            "resume" => Ok(Action::Resume),
            "cancel" => Ok(Action::Cancel),
            "" if users_per_second.is_some() => Ok(Action::Speed),
            "" => Err(Error::invalid("users_per_second", "missing: give a speed, or an action")),
            other => {
                let message = format!("{:?} is none of pause, resume, cancel", super::shortened(other));
                Err(Error::invalid("action", message))
            }
        }
    }

    /// The state that the job is to have (unspecified: the one it has); none if it is all done.
    fn next(self, job: &Job, now_ms: u64) -> Result<Option<JobState>> {
        use JobState::{Cancelled, Paused, Running, Scheduled, Unspecified};
        Ok(match (self, job.state()) {
            (Action::Pause, Running | Scheduled) => Some(Paused),
            (Action::Resume, Paused) if now_ms < job.starts_ms => Some(Scheduled),
            (Action::Resume, Paused) => Some(Running),
            (Action::Cancel, Running | Scheduled | Paused) => Some(Cancelled),
            (Action::Speed, Running | Scheduled | Paused) => Some(Unspecified),
            // A repeat of what was done: its answer may have been lost.
            (Action::Pause, Paused) | (Action::Resume, Running) | (Action::Cancel, Cancelled) => None,
            (_, state) => {
                let possible = match state {
                    Scheduled => "it can be paused, cancelled or recalled, and have another speed",
                    JobState::Released => "all of its audience has been released to; it can only be recalled",
                    Cancelled => "it can only be recalled",
                    _ => "nothing can be done with it",
                };
                return Err(Error::WrongState(format!("the broadcast is {}: {possible}", word(state))));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_done_is_said_with_what_can() {
        let job = |state: JobState| Job { state: state.into(), starts_ms: 1_000, ..Default::default() };
        let next = |action: Action, state| action.next(&job(state), 999);
        assert_eq!(next(Action::Pause, JobState::Running).unwrap(), Some(JobState::Paused));
        assert_eq!(next(Action::Resume, JobState::Paused).unwrap(), Some(JobState::Scheduled));
        let later = Action::Resume.next(&job(JobState::Paused), 1_000).unwrap();
        assert_eq!(later, Some(JobState::Running));
        assert_eq!(next(Action::Cancel, JobState::Cancelled).unwrap(), None);
        for (action, state, said) in [
            (
                Action::Pause,
                JobState::Released,
                "the broadcast is done: all of its audience has been released to",
            ),
            (Action::Resume, JobState::Scheduled, "the broadcast is scheduled: it can be paused"),
            (Action::Speed, JobState::Cancelled, "the broadcast is cancelled: it can only be recalled"),
            (Action::Cancel, JobState::Recalled, "the broadcast is recalled: nothing can be done with it"),
        ] {
            let error = next(action, state).unwrap_err();
            assert_eq!(error.facts().status, 409);
            assert!(error.to_string().starts_with(said), "{error}");
        }
    }
}
