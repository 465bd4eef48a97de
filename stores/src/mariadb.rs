//! MariaDB.

use std::{
    ffi::OsString,
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    process::Stdio,
};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{Server, ports};

/// The user that the URLs name; it may do everything.
const USER: &str = "longwire";
const PASSWORD: &str = "longwire";

/// A MariaDB server that syncs every commit, with small buffers.
#[derive(Debug)]
pub struct MariaDb {
    server: Server,
    addr: SocketAddr,
    // After `server`: the process ends before its folder goes.
    folder: TempDir,
}

impl MariaDb {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When a program of `mariadb-server` is missing or does not start.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_in(&std::env::temp_dir()).await
    }

    /// Like [`MariaDb::start`], with its data in a new folder below `place`: on a small file system, for example.
    ///
    /// # Errors
    /// When a program of `mariadb-server` is missing or does not start.
    pub async fn start_in(place: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("longwire-mariadb-").tempdir_in(place)?;
        let path = folder.path();
        copy_template(&path.join("data")).await?;
        let addr = ports::free();
        let init = path.join("init.sql");
        fs::write(
            &init,
            format!(
                "CREATE USER IF NOT EXISTS '{USER}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n\
                 GRANT ALL PRIVILEGES ON *.* TO '{USER}'@'127.0.0.1' WITH GRANT OPTION;\n"
            ),
        )?;
        let mut command = daemon(&path.join("data"))?;
        for (option, value) in [
            ("port", addr.port().to_string()),
            ("bind-address", "127.0.0.1".to_owned()),
            ("socket", path.join("socket").display().to_string()),
            ("pid-file", path.join("pid").display().to_string()),
            ("init-file", init.display().to_string()),
            ("innodb-flush-log-at-trx-commit", "1".to_owned()),
            ("max-connections", "500".to_owned()),
        ] {
            command.push(format!("--{option}={value}").into());
        }
        let server = Server::new("mariadbd", command, path.join("mariadb.log"));
        let db = Self { server, addr, folder };
        db.start_again().await?;
        Ok(db)
    }

    /// Creates the database if it is not there: `mysql://USER:PASSWORD@HOST:PORT/DATABASE`.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn url(&self, database: &str) -> anyhow::Result<String> {
        create_database(self.addr, database).await?;
        Ok(format!("{}/{database}", self.base_url()))
    }

    /// `mysql://USER:PASSWORD@HOST:PORT`
    pub fn base_url(&self) -> String {
        format!("mysql://{USER}:{PASSWORD}@{}", self.addr)
    }

    /// Runs statements with the `mariadb` client; what it prints: rows of tab-separated columns, without names.
    ///
    /// # Errors
    /// When the server does not answer, or refuses.
    pub async fn sql(&self, statements: &str) -> anyhow::Result<String> {
        sql(self.addr, statements).await
    }

    /// Where it listens; the same after it started again.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// Its process: to pause it, for example.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// kill -9.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.server.kill().await
    }

    /// Starts it again after it was killed, and waits until it answers.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        self.server.start()?;
        let answers = async || {
            // The client program is slow to start; a port that does not listen needs no question.
            tokio::net::TcpStream::connect(self.addr).await?;
            self.sql("SELECT 1").await.map(drop)
        };
        self.server.ready(answers).await.context("starting MariaDB")
    }
}

/// Creates a database on a server of this crate that another process started, if it is not there.
///
/// # Errors
/// When the server does not answer.
pub async fn create_database(server: SocketAddr, database: &str) -> anyhow::Result<()> {
    let create = format!("CREATE DATABASE IF NOT EXISTS `{database}` CHARACTER SET utf8mb4");
    sql(server, &create).await.map(drop)
}

async fn sql(server: SocketAddr, statements: &str) -> anyhow::Result<String> {
    let output = Command::new(crate::find("mariadb")?)
        .args(["--no-defaults", "--host=127.0.0.1", "--protocol=tcp", "--batch", "--skip-column-names"])
        .args([format!("--user={USER}"), format!("--password={PASSWORD}")])
        .args([format!("--port={}", server.port()), format!("--execute={statements}")])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    ensure!(output.status.success(), "{statements}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The program with what every use of it needs.
fn daemon(data: &Path) -> anyhow::Result<Vec<OsString>> {
    // Servers refuse root unless told; users who are not root may not name another.
    let own = ["--no-defaults", "--skip-name-resolve", "--performance-schema=OFF", "--skip-log-bin"];
    let small = ["--innodb-buffer-pool-size=64M", "--innodb-log-file-size=64M", "--key-buffer-size=1M"];
    let mut command = vec![crate::find("mariadbd")?.into_os_string()];
    command.extend(own.iter().chain(&small).map(OsString::from));
    command.push("--user=root".into());
    command.push(joined("--datadir=", data));
    Ok(command)
}

fn joined(option: &str, path: &Path) -> OsString {
    let mut text = OsString::from(option);
    text.push(path);
    text
}

/// A new installation takes seconds; its copy does not. The template is made once a machine.
async fn copy_template(to: &Path) -> anyhow::Result<()> {
    let place = std::env::temp_dir();
    let template = place.join("longwire-mariadb-template-1");
    let lock =
        File::options().create(true).append(true).open(place.join("longwire-mariadb-template.lock"))?;
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
        .await?
        .context("locking the template")?;
    if !template.is_dir() {
        let made = tempfile::Builder::new().prefix("longwire-mariadb-install-").tempdir_in(&place)?;
        let mut install = Command::new(crate::find("mariadb-install-db")?);
        install.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        install.args(["--innodb-log-file-size=64M", "--user=root"]).arg(joined("--datadir=", made.path()));
        run(&mut install).await?;
        fs::rename(made.keep(), &template)?;
    }
    drop(lock);
    let mut copy = Command::new("cp");
    copy.args(["-a", "--reflink=auto", "--sparse=always"]).arg(&template).arg(to);
    run(&mut copy).await
}

async fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output().await.with_context(|| format!("{command:?}"))?;
    let said = || [output.stdout.as_slice(), output.stderr.as_slice()].map(String::from_utf8_lossy).concat();
    ensure!(output.status.success(), "{command:?}: {}", said());
    Ok(())
}
