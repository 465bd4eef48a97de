//! Which programs the servers are, and where they come from.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Program → the Debian package that has it.
const PACKAGES: [(&str, &str); 7] = [
    ("etcd", "etcd-server"),
    ("redis-server", "redis-server"),
    ("mariadbd", "mariadb-server"),
    ("mariadb-install-db", "mariadb-server"),
    ("mariadb", "mariadb-server"),
    ("setpriv", "util-linux"),
    ("kill", "procps"),
];
/// Where Debian puts servers; not in every user's `PATH`.
const ALSO: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// Debian packages whose programs are not installed; empty when all are there.
pub fn missing() -> Vec<&'static str> {
    let mut packages: Vec<_> =
        PACKAGES.iter().filter(|(program, _)| look(program).is_none()).map(|(_, package)| *package).collect();
    packages.dedup();
    packages
}

/// Where a program is.
///
/// # Errors
/// When it is not installed; says which Debian package has it.
pub fn find(program: &str) -> anyhow::Result<PathBuf> {
    look(program).with_context(|| {
        let package = PACKAGES.iter().find(|(p, _)| *p == program).map_or(program, |(_, package)| package);
        format!("{program} is missing: apt-get install {package}")
    })
}

fn look(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(ALSO.iter().map(PathBuf::from));
    folders.map(|f| f.join(program)).find(|p: &PathBuf| Path::is_file(p))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let error = super::find("no-such-server").expect_err("there is none");
        assert_eq!(error.to_string(), "no-such-server is missing: apt-get install no-such-server");
    }
}
