//! Starts processes that do not outlive this one, however it ends.

use std::{
    ffi::OsStr,
    io,
    process::{Child, Command},
    sync::{
        LazyLock,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use anyhow::Context as _;

struct Job {
    command: Command,
    answer: SyncSender<io::Result<Child>>,
}

/// The kernel kills a child with its parent *thread*; this one ends only with the process, unlike a runtime's.
static SPAWNER: LazyLock<SyncSender<Job>> = LazyLock::new(|| {
    let (jobs, queue) = sync_channel::<Job>(1);
    thread::Builder::new()
        .name("spawner".to_owned())
        .spawn(move || {
            for mut job in queue {
                let _ = job.answer.send(job.command.spawn());
            }
        })
        .expect("a process of tests may start a thread");
    jobs
});

/// A command for [`spawn`]: the kernel kills what it starts when this process ends.
///
/// # Errors
/// When `setpriv`, which asks the kernel for that, is not there.
pub fn command(program: impl AsRef<OsStr>) -> anyhow::Result<Command> {
    let mut command = Command::new(crate::find("setpriv")?);
    command.args(["--pdeathsig", "KILL"]).arg(program);
    Ok(command)
}

/// Starts a [`command`]. The process id is the program's own: `setpriv` executes it.
///
/// # Errors
/// When it cannot be started.
pub fn spawn(command: Command) -> anyhow::Result<Child> {
    let (answer, answered) = sync_channel(1);
    let what = format!("starting {command:?}");
    SPAWNER.send(Job { command, answer }).ok().context("the spawner has ended")?;
    answered.recv().context("the spawner has ended")?.context(what)
}
