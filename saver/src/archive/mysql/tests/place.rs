//! A database of a test's own: on the server that all tests share, if there is one, or on a server of its own.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
};

use super::MySqlSettings;

/// A new database.
pub(super) struct Place {
    pub(super) url: String,
    /// `None` if the server is shared.
    pub(super) server: Option<stores::MariaDb>,
}

impl Place {
    /// On any server.
    pub(super) async fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let Ok(base) = std::env::var("E2E_MYSQL") else { return Self::alone().await };
        let name = format!("saver_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let address: SocketAddr = base.rsplit(['@', '/']).next().unwrap().parse().unwrap();
        stores::create_database(address, &name).await.unwrap();
        Self { url: format!("{base}/{name}"), server: None }
    }

    /// On a server of its own, that the test may kill.
    pub(super) async fn alone() -> Self {
        let server = stores::MariaDb::start().await.expect("MariaDB starts (Debian package mariadb-server)");
        Self { url: server.url("longwire").await.unwrap(), server: Some(server) }
    }

    pub(super) fn settings(&self) -> MySqlSettings {
        MySqlSettings::new(&self.url)
    }

    /// Runs statements.
    pub(super) async fn run(&self, sql: &str) {
        use sqlx::{ConnectOptions as _, Executor as _};
        let mut c = self.settings().options().unwrap().connect().await.unwrap();
        c.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))).await.unwrap();
    }
}
