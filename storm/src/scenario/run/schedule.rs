//! When each phase begins and ends. No clock: times are told.

use std::time::Duration;

use crate::scenario::script::{Phase, ScriptError};

/// The phases' times. Phases begin and end by their times and by one another; work that takes as long as it takes is
/// reported with [`Schedule::done`].
#[derive(Debug, Clone)]
pub struct Schedule {
    plans: Vec<Plan>,
    states: Vec<State>,
}

#[derive(Debug, Clone)]
struct Plan {
    begin: Begin,
    delay: Duration,
    duration: Option<Duration>,
    until: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
enum Begin {
    At(Duration),
    After(usize),
    With(usize),
}

/// Where a phase is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has not begun.
    Waiting,
    /// Since then.
    Running {
        /// Since the run's beginning.
        since: Duration,
    },
    /// Its time is over, and its work still ends.
    Ending {
        /// When it began.
        since: Duration,
    },
    /// Over.
    Ended {
        /// When it began.
        since: Duration,
        /// When it ended.
        at: Duration,
    },
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Begin this phase.
    Start(usize),
    /// Its time is over: let it end, and say so.
    End(usize),
}

impl Schedule {
    /// Resolves the names.
    ///
    /// # Errors
    /// If a phase names one that is not there, or phases wait for each other in a circle.
    pub fn new(phases: &[Phase]) -> Result<Self, ScriptError> {
        let names: Vec<&str> = phases.iter().map(|phase| phase.name.as_str()).collect();
        let plans = phases.iter().enumerate().map(|(index, phase)| {
            let find = |key: &str, name: &str| {
                let found = names.iter().position(|other| *other == name).filter(|at| *at != index);
                found.ok_or_else(|| {
                    ScriptError::unknown(&format!("phase `{}`, {key}", phase.name), name, &names)
                })
            };
            let when = &phase.when;
            let begin = match (&when.after, &when.with, when.start) {
                (Some(name), ..) => Begin::After(find("after", name)?),
                (_, Some(name), _) => Begin::With(find("with", name)?),
                (.., Some(at)) => Begin::At(at),
                _ if index == 0 => Begin::At(Duration::ZERO),
                _ => Begin::After(index - 1),
            };
            let until = when.until.as_deref().map(|name| find("until", name)).transpose()?;
            let delay = when.delay.unwrap_or_default();
            Ok(Plan { begin, delay, duration: when.duration, until })
        });
        let plans = plans.collect::<Result<Vec<_>, ScriptError>>()?;
        let schedule = Self { states: vec![State::Waiting; plans.len()], plans };
        schedule.refuse_circles(&names)?;
        Ok(schedule)
    }

    /// Runs through in thought, every piece of work done at once: what never ends then, never would.
    fn refuse_circles(&self, names: &[&str]) -> Result<(), ScriptError> {
        const FAR: Duration = Duration::from_secs(u32::MAX as u64);
        let (mut thought, mut now) = (self.clone(), FAR);
        loop {
            let events = thought.poll(now);
            for event in &events {
                let (Event::Start(index) | Event::End(index)) = event;
                if matches!(event, Event::End(_)) || thought.ends_by_itself(*index) {
                    thought.done(*index, now);
                }
            }
            if thought.is_over() {
                return Ok(());
            }
            if events.is_empty() {
                let stuck = thought.states.iter().position(|state| !matches!(state, State::Ended { .. }));
                let name = stuck.map_or("", |index| names[index]);
                return Err(ScriptError::circle(name));
            }
            now += FAR;
        }
    }

    fn ends_by_itself(&self, index: usize) -> bool {
        self.plans[index].duration.is_none() && self.plans[index].until.is_none()
    }

    /// What is to be done at `now`, which must not go back.
    pub fn poll(&mut self, now: Duration) -> Vec<Event> {
        let mut events = Vec::new();
        // A phase that begins lets others begin with it, so this goes on until nothing more happens.
        loop {
            let before = events.len();
            for index in 0..self.plans.len() {
                match self.states[index] {
                    State::Waiting if self.begins_at(index).is_some_and(|at| at <= now) => {
                        self.states[index] = State::Running { since: now };
                        events.push(Event::Start(index));
                    }
                    State::Running { since } if self.ends_at(index).is_some_and(|at| at <= now) => {
                        self.states[index] = State::Ending { since };
                        events.push(Event::End(index));
                    }
                    _ => {}
                }
            }
            if events.len() == before {
                return events;
            }
        }
    }

    /// The work of a phase is done.
    pub fn done(&mut self, index: usize, now: Duration) {
        if let State::Running { since } | State::Ending { since } = self.states[index] {
            self.states[index] = State::Ended { since, at: now };
        }
    }

    /// When a poll has something to say, as far as time alone decides.
    #[must_use]
    pub fn next_at(&self) -> Option<Duration> {
        let all = 0..self.plans.len();
        all.filter_map(|index| match self.states[index] {
            State::Waiting => self.begins_at(index),
            State::Running { .. } => self.ends_at(index),
            _ => None,
        })
        .min()
    }

    /// Where a phase is.
    #[must_use]
    pub fn state(&self, index: usize) -> State {
        self.states[index]
    }

    /// Whether every phase has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.states.iter().all(|state| matches!(state, State::Ended { .. }))
    }

    fn begins_at(&self, index: usize) -> Option<Duration> {
        let plan = &self.plans[index];
        let from = match plan.begin {
            Begin::At(at) => Some(at),
            Begin::After(other) => self.ended_at(other),
            Begin::With(other) => self.began_at(other),
        };
        from.map(|from| from + plan.delay)
    }

    fn ends_at(&self, index: usize) -> Option<Duration> {
        let plan = &self.plans[index];
        match (plan.duration, plan.until) {
            (Some(duration), _) => self.began_at(index).map(|since| since + duration),
            (None, Some(other)) => self.ended_at(other),
            (None, None) => None,
        }
    }

    fn began_at(&self, index: usize) -> Option<Duration> {
        match self.states[index] {
            State::Waiting => None,
            State::Running { since } | State::Ending { since } | State::Ended { since, .. } => Some(since),
        }
    }

    fn ended_at(&self, index: usize) -> Option<Duration> {
        match self.states[index] {
            State::Ended { at, .. } => Some(at),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::script::Script;

    fn schedule(text: &str) -> Schedule {
        let script = Script::parse(text, &[]).unwrap();
        Schedule::new(&script.phases).unwrap()
    }

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn phases_follow_each_other() {
        let mut s = schedule("[[phase]]\nkind='ramp'\n[[phase]]\nkind='hold'\nduration='10s'\n");
        assert_eq!(s.poll(S(0)), [Event::Start(0)]);
        assert_eq!((s.poll(S(5)), s.next_at()), (vec![], None));
        s.done(0, S(7));
        assert_eq!(s.next_at(), Some(S(7)));
        assert_eq!(s.poll(S(7)), [Event::Start(1)]);
        assert_eq!(s.next_at(), Some(S(17)));
        assert_eq!(s.poll(S(17)), [Event::End(1)]);
        assert!(!s.is_over());
        s.done(1, S(18));
        assert!(s.is_over());
        assert_eq!(s.state(1), State::Ended { since: S(7), at: S(18) });
    }

    #[test]
    fn phases_overlap() {
        let mut s = schedule(
            "[[phase]]\nkind='ramp'\n\
             [[phase]]\nkind='churn'\nuntil='load'\n\
             [[phase]]\nname='load'\nkind='unicast'\nwith='churn'\ndelay='2s'\nduration='5s'\n\
             [[phase]]\nkind='broadcast'\nstart='1s'\ncount=3\n",
        );
        assert_eq!(s.poll(S(0)), [Event::Start(0)]);
        s.done(0, S(1));
        assert_eq!(s.poll(S(1)), [Event::Start(1), Event::Start(3)]);
        s.done(3, S(2));
        assert_eq!(s.poll(S(3)), [Event::Start(2)]);
        assert_eq!(s.poll(S(8)), [Event::End(2)]);
        s.done(2, S(9));
        // The churn lasted until the load was over.
        assert_eq!(s.poll(S(9)), [Event::End(1)]);
    }

    #[test]
    fn what_would_never_end_is_refused() {
        let said = |text: &str| Script::parse(text, &[]).unwrap_err().to_string();
        let circle = said("[[phase]]\nkind='hold'\nuntil='b'\n[[phase]]\nname='b'\nkind='ramp'\n");
        assert!(circle.contains("in a circle"), "{circle}");
        let unknown = said("[[phase]]\nkind='ramp'\n[[phase]]\nkind='hold'\nafter='rapm'\nduration='1s'\n");
        assert!(unknown.contains("did you mean `ramp`?"), "{unknown}");
        assert!(said("[[phase]]\nkind='hold'\nwith='hold'\nduration='1s'\n").contains("`hold`"));
    }
}
