//! How a scenario talks with one worker.

use std::{
    io,
    process::Stdio,
    sync::{Arc, mpsc as blocking},
};

use anyhow::{Context as _, bail};
use tokio::{
    process::{Child, ChildStdin, Command as Program},
    sync::{Notify, mpsc},
    task::JoinHandle,
};

use super::{Command, FleetSpec, Report, SharedCounts, start};
use crate::worker::frame;

/// Commands that wait for an event loop. A scenario sends few and waits for answers.
pub(crate) const COMMANDS: usize = 16;

/// Reports that wait for the scenario, each a part of the receipts at most.
pub(crate) const REPORTS: usize = 16;

/// Sends commands to an event loop in this process.
#[derive(Debug, Clone)]
pub struct Commands {
    pub(crate) queue: blocking::SyncSender<Command>,
    pub(crate) waker: Arc<mio::Waker>,
}

impl Commands {
    /// Sends a command and wakes the loop.
    ///
    /// # Errors
    /// If the loop has ended, or does not take commands any more.
    pub fn send(&self, command: Command) -> io::Result<()> {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the event loop takes no commands");
        self.queue.try_send(command).map_err(gone)?;
        self.waker.wake()
    }
}

enum Kind {
    Thread { commands: Commands, thread: std::thread::JoinHandle<anyhow::Result<()>> },
    Process { input: ChildStdin, child: Box<Child>, reader: JoinHandle<()> },
}

/// A worker, wherever it runs.
pub(super) struct Worker {
    /// Number of the first user.
    pub(super) first: u32,
    pub(super) users: u32,
    pub(super) counts: SharedCounts,
    reports: mpsc::Receiver<Report>,
    kind: Kind,
}

impl Worker {
    /// Starts an event loop on a thread of this process.
    pub(super) fn thread(spec: FleetSpec, changed: Arc<Notify>) -> anyhow::Result<Self> {
        let counts = SharedCounts::telling(changed);
        let (first, users) = (spec.first, spec.count);
        let started = start(spec, counts.clone())?;
        let kind = Kind::Thread { commands: started.commands, thread: started.thread };
        Ok(Self { first, users, counts, reports: started.reports, kind })
    }

    /// Starts `program` as a process.
    pub(super) async fn process(
        mut program: Program,
        spec: FleetSpec,
        changed: Arc<Notify>,
    ) -> anyhow::Result<Self> {
        let counts = SharedCounts::telling(changed);
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        // Ctrl-C is for the storm, which lets its workers end in good order.
        program.process_group(0);
        let mut child = program.spawn().context("starting a worker process")?;
        let (Some(mut input), Some(mut output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("a worker process has no pipes");
        };
        frame::send(&mut input, &spec).await.context("handing a worker its specification")?;
        let (tell, reports) = mpsc::channel(REPORTS);
        let shared = counts.clone();
        // Owned by this Worker; ends with the process.
        let reader = tokio::spawn(async move {
            loop {
                let report = match frame::receive(&mut output).await {
                    Ok(Some(Report::Counts(counts))) => {
                        shared.store(&counts);
                        continue;
                    }
                    Ok(Some(Report::Interval(interval))) => {
                        shared.add_interval(*interval);
                        continue;
                    }
                    Ok(Some(report)) => report,
                    Ok(None) => return,
                    Err(error) => Report::Failed(format!("reading a worker's report: {error}")),
                };
                if tell.send(report).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            first: spec.first,
            users: spec.count,
            counts,
            reports,
            kind: Kind::Process { input, child: Box::new(child), reader },
        })
    }

    pub(super) async fn send(&mut self, command: Command) -> anyhow::Result<()> {
        match &mut self.kind {
            Kind::Thread { commands, .. } => commands.send(command)?,
            Kind::Process { input, .. } => {
                frame::send(input, &command).await.context("a worker process is gone")?;
            }
        }
        Ok(())
    }

    /// The next report that is not about counts.
    pub(super) async fn report(&mut self) -> anyhow::Result<Report> {
        match self.reports.recv().await {
            Some(Report::Failed(why)) => bail!("a worker failed: {why}"),
            Some(report) => Ok(report),
            None => bail!("a worker ended before its time"),
        }
    }

    /// How the worker ended, if it did.
    pub(super) fn ended(&mut self) -> Option<String> {
        match &mut self.kind {
            Kind::Thread { thread, .. } => thread.is_finished().then(|| "its thread is at an end".to_owned()),
            Kind::Process { child, .. } => match child.try_wait() {
                Ok(None) => None,
                Ok(Some(status)) => Some(format!("its process ended with {status}")),
                Err(error) => Some(format!("its process cannot be seen: {error}")),
            },
        }
    }

    /// The process, if the worker has one of its own.
    pub(super) fn pid(&self) -> Option<u32> {
        match &self.kind {
            Kind::Thread { .. } => None,
            Kind::Process { child, .. } => child.id(),
        }
    }

    /// Lets the worker close its connections, and waits for it.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        // A worker that is gone already shows below.
        let _ = self.send(Command::Stop).await;
        // Whatever it still wants to say must not block it.
        self.reports.close();
        match self.kind {
            Kind::Thread { thread, .. } => tokio::task::spawn_blocking(move || thread.join())
                .await?
                .map_err(|_| anyhow::anyhow!("an event loop panicked"))?,
            Kind::Process { input, mut child, reader } => {
                drop(input);
                let status = child.wait().await?;
                reader.abort();
                anyhow::ensure!(status.success(), "a worker process ended with {status}");
                Ok(())
            }
        }
    }
}
