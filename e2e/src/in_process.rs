//! All six services in this process.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use longwire::up::{Settings, Up};
use service::telemetry::LogFilter;

use crate::{
    problems::{self, Kept},
    stack::{Addresses, Tuning},
    up_process::UpPorts,
};

pub(crate) struct InProcess {
    up: Option<Up>,
    file: PathBuf,
    data: PathBuf,
    log: Kept,
}

impl InProcess {
    pub(crate) async fn start(folder: &Path, tuning: &Tuning) -> anyhow::Result<(Self, Addresses)> {
        let log = problems::keep();
        // The ports stay the same over a restart, so that devices find the way back.
        let ports = UpPorts::free();
        let file = folder.join("up.toml");
        std::fs::write(&file, crate::cluster::merge(&ports.toml(), &tuning.toml)?)?;
        let mut stack = Self { up: None, file, data: folder.join("data"), log };
        stack.start_again().await?;
        let key = stack.up.as_ref().map(|up| up.demo().key.clone()).unwrap_or_default();
        let addresses = Addresses {
            api: vec![format!("http://{}", ports.api)],
            route: format!("http://{}", ports.route),
            admin: vec![ports.admin],
            key,
        };
        Ok((stack, addresses))
    }

    pub(crate) async fn start_again(&mut self) -> anyhow::Result<()> {
        let settings =
            Settings::load(Some(&self.file), Some(self.data.clone())).map_err(|e| anyhow!("{e}"))?;
        self.up = Some(
            Box::pin(Up::start(settings, LogFilter::detached()))
                .await
                .context("starting all six services")?,
        );
        Ok(())
    }

    pub(crate) async fn drain(&mut self) {
        if let Some(up) = self.up.take() {
            up.drain().await;
        }
    }

    pub(crate) fn log(&self) -> String {
        self.log.text()
    }
}
