//! New certificates without a restart.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Tls, TlsError,
    material::{Contents, Material},
};

/// How often the files are looked at: three small reads.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Files that are looked at, and what is made of them.
pub(super) trait Followed: Clone + Send + 'static {
    /// What the files hold.
    type Contents: Clone + PartialEq + Send;

    fn read(&self) -> Result<Self::Contents, TlsError>;

    /// Whether it is what is in use.
    fn is_present(&self, contents: &Self::Contents) -> bool;

    /// Takes it into use if it is fit.
    fn take(&self, contents: Self::Contents) -> Result<(), TlsError>;

    /// It was not.
    fn count_refusal(&self);

    /// When the certificate in use ends, in seconds since 1970.
    fn expires_at(&self) -> i64;
}

/// Compares the files with what is in use.
pub(super) struct Follower<F: Followed> {
    followed: F,
    /// Found at the last look and not judged yet: who replaces several files does not do it at one moment, so two looks in
    /// a row must find the same.
    unsettled: Option<Result<F::Contents, TlsError>>,
    /// Judged and found wrong; told once.
    refused: Option<Result<F::Contents, TlsError>>,
}

/// What became of a look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Looked {
    /// The files are those in use, or those that were refused before.
    Same,
    /// They have changed; the next look decides.
    Unsettled,
    /// New ones are in use.
    Taken,
    /// The new ones are not fit; the old ones stay.
    Refused(TlsError),
}

impl<F: Followed> Follower<F> {
    pub(super) fn new(followed: F) -> Self {
        Self { followed, unsettled: None, refused: None }
    }

    /// Looks at the files. With `asked`, an operator says that they are complete.
    pub(super) fn look(&mut self, asked: bool) -> Looked {
        let found = self.followed.read();
        if found.as_ref().is_ok_and(|found| self.followed.is_present(found)) {
            (self.unsettled, self.refused) = (None, None);
            return Looked::Same;
        }
        if !asked {
            if self.refused.as_ref() == Some(&found) {
                return Looked::Same;
            }
            if self.unsettled.as_ref() != Some(&found) {
                self.unsettled = Some(found);
                return Looked::Unsettled;
            }
        }
        self.unsettled = None;
        match found.clone().and_then(|contents| self.followed.take(contents)) {
            Ok(()) => {
                self.refused = None;
                Looked::Taken
            }
            Err(error) => {
                self.refused = Some(found);
                self.followed.count_refusal();
                Looked::Refused(error)
            }
        }
    }
}

impl Followed for Tls {
    type Contents = Contents;

    fn read(&self) -> Result<Contents, TlsError> {
        Contents::read(&self.shared.files)
    }

    fn is_present(&self, contents: &Contents) -> bool {
        *contents == self.present().contents
    }

    fn take(&self, contents: Contents) -> Result<(), TlsError> {
        self.use_from_now_on(Material::judge(contents, &self.shared.files, self.shared.role)?);
        Ok(())
    }

    fn count_refusal(&self) {
        self.shared.refusals.fetch_add(1, Ordering::Relaxed);
    }

    fn expires_at(&self) -> i64 {
        self.expires_at()
    }
}

impl Tls {
    /// Takes new files into use when they change, until `cancel`. `asked` counts the times that an operator said "now"
    /// (SIGHUP). Files that are not fit are refused with a warning, and the old certificates stay.
    pub async fn follow(self, asked: watch::Receiver<u64>, cancel: CancellationToken) {
        follow(self, asked, cancel).await;
    }
}

/// Looks at files until `cancel`.
pub(super) async fn follow<F: Followed>(
    followed: F,
    mut asked: watch::Receiver<u64>,
    cancel: CancellationToken,
) where
    Follower<F>: Send,
{
    let mut follower = Follower::new(followed.clone());
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asking = true;
    loop {
        let asked = tokio::select! {
            () = cancel.cancelled() => return,
            _ = tick.tick() => false,
            changed = asked.changed(), if asking => {
                asking = changed.is_ok();
                asking
            }
        };
        // Certificates may lie on a file system that stalls.
        let looked = tokio::task::spawn_blocking(move || {
            let looked = follower.look(asked);
            (follower, looked)
        });
        let Ok((back, looked)) = looked.await else { return };
        follower = back;
        match looked {
            Looked::Same | Looked::Unsettled => {}
            Looked::Taken => info!(expires_at = followed.expires_at(), "new certificates are in use"),
            Looked::Refused(error) => {
                warn!(file = error.file.as_str(), %error, "new certificates are refused; the old ones stay in use");
            }
        }
    }
}
