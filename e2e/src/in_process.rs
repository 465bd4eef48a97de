//! All six services in this process.

use std::path::Path;

use anyhow::anyhow;
use longwire::up::{Settings, Up};
use service::telemetry::LogFilter;

use crate::stack::{Addresses, Tuning};

pub(crate) struct InProcess {
    up: Up,
}

/// Every port a free one.
const PORTS: &str = "
[admin]
listen = \"127.0.0.1:0\"
[center]
listen = \"127.0.0.1:0\"
[dispatcher]
listen = \"127.0.0.1:0\"
[room]
listen = \"127.0.0.1:0\"
";

impl InProcess {
    pub(crate) async fn start(folder: &Path, tuning: &Tuning) -> anyhow::Result<(Self, Addresses)> {
        let toml = crate::processes::merge(PORTS, &tuning.toml)?;
        let file = folder.join("up.toml");
        std::fs::write(&file, toml)?;
        let settings = Settings::load(Some(&file), Some(folder.join("data"))).map_err(|e| anyhow!("{e}"))?;
        let up = Up::start(settings, LogFilter::detached()).await?;
        let addresses = Addresses {
            api: vec![format!("http://{}", up.api())],
            route: format!("http://{}", up.route()),
            admin: vec![up.admin()],
            key: up.demo().key.clone(),
        };
        Ok((Self { up }, addresses))
    }

    pub(crate) async fn drain(self) {
        self.up.drain().await;
    }
}
