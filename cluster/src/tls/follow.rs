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

/// What the files were found to be.
type Found = Result<Contents, TlsError>;

/// Compares the files with what is in use.
pub(super) struct Follower {
    tls: Tls,
    /// Found at the last look and not judged yet: who replaces three files does not do it at one moment, so two looks in
    /// a row must find the same.
    unsettled: Option<Found>,
    /// Judged and found wrong; told once.
    refused: Option<Found>,
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

impl Follower {
    pub(super) fn new(tls: Tls) -> Self {
        Self { tls, unsettled: None, refused: None }
    }

    /// Looks at the files. With `asked`, an operator says that they are complete.
    pub(super) fn look(&mut self, asked: bool) -> Looked {
        let (files, role) = (&self.tls.shared.files, self.tls.shared.role);
        let found = Contents::read(files);
        if found.as_ref().is_ok_and(|found| *found == self.tls.present().contents) {
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
        match found.clone().and_then(|contents| Material::judge(contents, files, role)) {
            Ok(material) => {
                self.refused = None;
                self.tls.take(material);
                Looked::Taken
            }
            Err(error) => {
                self.refused = Some(found);
                self.tls.shared.refusals.fetch_add(1, Ordering::Relaxed);
                Looked::Refused(error)
            }
        }
    }
}

impl Tls {
    /// Takes new files into use when they change, until `cancel`. `asked` counts the times that an operator said "now"
    /// (SIGHUP). Files that are not fit are refused with a warning, and the old certificates stay.
    pub async fn follow(self, mut asked: watch::Receiver<u64>, cancel: CancellationToken) {
        let mut follower = Follower::new(self.clone());
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
                Looked::Taken => info!(expires_at = self.expires_at(), "new certificates are in use"),
                Looked::Refused(error) => {
                    warn!(file = error.file.as_str(), %error, "new certificates are refused; the old ones stay in use");
                }
            }
        }
    }
}
