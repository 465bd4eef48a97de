//! `longwire config` and `longwire node` from end to end: a real etcd, a real node, mutual TLS everywhere.

#![allow(clippy::unwrap_used, reason = "the lint knows only functions marked as tests")]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use stores::{Etcd, EtcdTls, ports};

/// A step that takes longer has failed; a start of everything on a busy machine takes seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster of one dispatcher.
struct World {
    folder: tempfile::TempDir,
    etcd: Etcd,
    admin: SocketAddr,
    node: Node,
}

struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        // Where it has ended there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn longwire() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longwire"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LONGWIRE_")) {
        command.env_remove(name);
    }
    command
}

/// The program of the example, which is built with the tests.
fn dispatcher_node() -> PathBuf {
    let bin = Path::new(env!("CARGO_BIN_EXE_longwire")).parent().unwrap();
    let example = bin.join("examples/dispatcher_node");
    assert!(example.exists(), "{} is not built: run `cargo build -p longwire --examples`", example.display());
    example
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certs = folder.path().join("certs");
        let made = longwire().args(["cert", "init", "--out"]).arg(&certs).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let at = |file: &str| certs.join(file);
        let tls = EtcdTls { ca: at("ca.pem"), cert: at("etcd.pem"), key: at("etcd.key") };
        let etcd = Etcd::start_cluster(1, Some(tls)).await.unwrap();
        let (admin, rpc, public) = (ports::free(), ports::free(), ports::free());
        let config = folder.path().join("dispatcher.toml");
        let root = folder.path().display();
        let text = format!(
            "[node]\nzone = \"eu\"\ndata = \"{root}/data\"\ndrain_deadline = \"10s\"\n\
             [tls]\nmode = \"mutual\"\nca = \"{root}/certs/ca.pem\"\ncert = \"{root}/certs/dispatcher.pem\"\n\
             key = \"{root}/certs/dispatcher.key\"\n\
             [discovery]\nkind = \"etcd\"\nendpoints = {:?}\n\
             [rpc]\nlisten = \"{rpc}\"\n[admin]\nlisten = \"{admin}\"\n\
             [log]\nformat = \"json\"\nfile = \"{root}/dispatcher.log\"\n\
             [dispatcher]\nlisten = \"{public}\"\n",
            etcd.endpoints()
        );
        fs::write(&config, text).unwrap();
        let mut node = Command::new(dispatcher_node());
        let node = node.arg("--config").arg(config).stdin(Stdio::null()).spawn().unwrap();
        let world = Self { folder, etcd, admin, node: Node(node) };
        world.until("the node is ready", |w| w.run(&["node", "list"]).contains("ready"));
        world
    }

    fn call(&self, words: &[&str]) -> Output {
        let at = |file: &str| self.folder.path().join("certs").join(file);
        let mut command = longwire();
        command.args(words).stdin(Stdio::null()).env("LONGWIRE_ETCD", self.etcd.endpoints().join(","));
        command.env("LONGWIRE_CA", at("ca.pem")).env("LONGWIRE_CERT", at("operator.pem"));
        command.env("LONGWIRE_CERT_KEY", at("operator.key")).output().unwrap()
    }

    /// Standard output of a command that has to work.
    fn run(&self, words: &[&str]) -> String {
        let output = self.call(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Standard error of one that has not, and its exit code.
    fn refused(&self, words: &[&str]) -> (i32, String) {
        let output = self.call(words);
        assert!(!output.status.success(), "{words:?}: {output:?}");
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        let Ok(mut stream) = TcpStream::connect(self.admin) else { return text };
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn log(&self, file: &str) -> String {
        fs::read_to_string(self.folder.path().join(file)).unwrap_or_default()
    }

    fn hang_up(&self) {
        let sent = Command::new("kill").args(["-HUP", &self.node.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let by = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < by, "not within {PATIENCE:?}: {what}\n{}", self.log("dispatcher.log"));
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
}

#[tokio::test]
async fn an_operator_looks_after_a_node() {
    let mut world = World::start().await;
    nodes_are_shown(&world);
    configuration_is_set(&world);
    certificates_are_renewed(&world);
    the_log_file_may_be_moved(&world);
    a_node_is_drained(&mut world);
}

fn nodes_are_shown(world: &World) {
    let list = world.run(&["node", "list"]);
    let row: Vec<_> = list.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[0], row[2], row[3]), ("dispatcher", "eu", "ready"), "{list}");
    let json: serde_json::Value = serde_json::from_str(&world.run(&["node", "list", "--json"])).unwrap();
    assert_eq!(json[0]["role"], "dispatcher");
    assert_eq!(json[0]["id"].to_string(), row[1]);
    // The node answers for itself, over TLS.
    let top = world.run(&["node", "top"]);
    assert!(top.lines().nth(1).unwrap().ends_with(" ms"), "{top}");
}

fn configuration_is_set(world: &World) {
    let (code, said) = world.refused(&["config", "set", "dispatcher", "gruop=4"]);
    assert!(code == 64 && said.contains("dispatcher.gruop: unknown field"), "{said}");
    let (code, said) = world.refused(&["config", "set", "dispatcher", "group=0"]);
    assert!(code == 64 && said.contains("dispatcher.group"), "{said}");
    assert_eq!(world.run(&["config", "get", "dispatcher"]), "");

    let said = world.run(&["config", "set", "dispatcher", "group=4", "--by", "ann"]);
    assert!(said.contains("took it"), "{said}");
    assert_eq!(world.run(&["config", "get", "dispatcher"]), "group = 4\n");
    assert_eq!(world.run(&["config", "diff", "dispatcher"]), "group: 3 -> 4\n");
    assert!(world.run(&["config", "get", "dispatcher", "--effective"]).contains("full_at = 0.98\n"));

    let file = world.folder.path().join("new.toml");
    fs::write(&file, "group = 5\nretry_after = \"7s\"\n").unwrap();
    let file = file.to_str().unwrap();
    let diff = world.run(&["config", "diff", "dispatcher", "--file", file]);
    assert_eq!(diff, "group: 4 -> 5\nretry_after: \"5s\" -> \"7s\"\n");
    world.run(&["config", "set", "dispatcher", file, "--by", "bob"]);
    assert_eq!(world.run(&["config", "diff", "dispatcher", "--from", "1", "--to", "2"]), diff);
    let history = world.run(&["config", "history", "dispatcher"]);
    assert!(history.lines().next().unwrap().ends_with("bob") && history.contains("ann"), "{history}");
    assert_eq!(world.run(&["config", "history", "dispatcher", "1"]), "group = 4\n");
    world.run(&["config", "set", "dispatcher", "--history", "1"]);
    assert_eq!(world.run(&["config", "get", "dispatcher"]), "group = 4\n");

    // One node's own, over that of its role.
    let list = world.run(&["node", "list"]);
    let id = list.lines().nth(1).unwrap().split_whitespace().nth(1).unwrap().to_owned();
    world.run(&["config", "set", "dispatcher", "--node", &id, "group=6"]);
    assert_eq!(world.run(&["config", "diff", "dispatcher", "--node", &id]), "group: 4 -> 6\n");
    world.run(&["config", "set", "dispatcher", "--node", &id, "group="]);
    assert_eq!(world.run(&["config", "diff", "dispatcher", "--node", &id]), "");

    // What nobody can take while it runs is told, and wanted by the next start.
    let said = world.run(&["config", "set", "dispatcher", "listen=127.0.0.1:9"]);
    assert!(said.contains("needs a restart for") && said.contains("listen"), "{said}");
    world.run(&["config", "set", "dispatcher", "listen="]);
}

fn certificates_are_renewed(world: &World) {
    let certs = world.folder.path().join("certs");
    let renewed = longwire().args(["cert", "renew", "--out"]).arg(&certs).output().unwrap();
    assert!(renewed.status.success(), "{renewed:?}");
    world.until("new certificates are in use", |w| w.metrics().contains("longwire_tls_reloads_total 1\n"));
    world.run(&["node", "list"]);

    let good = fs::read(certs.join("dispatcher.pem")).unwrap();
    fs::write(certs.join("dispatcher.pem"), "broken").unwrap();
    world.hang_up();
    world.until("a broken file is refused", |w| {
        w.metrics().contains("longwire_tls_reloads_refused_total 1\n")
            && w.log("dispatcher.log").contains("new certificates are refused")
    });
    let top = world.run(&["node", "top"]);
    assert!(top.lines().nth(1).unwrap().ends_with(" ms"), "{top}");
    fs::write(certs.join("dispatcher.pem"), good).unwrap();
}

fn the_log_file_may_be_moved(world: &World) {
    let at = |file: &str| world.folder.path().join(file);
    fs::rename(at("dispatcher.log"), at("moved.log")).unwrap();
    world.hang_up();
    world.until("a new log file", |_| at("dispatcher.log").exists());
    world.hang_up();
    world.until("lines in the new log file", |w| w.log("dispatcher.log").contains("SIGHUP"));
    let first = world.log("moved.log").lines().next().unwrap().to_owned();
    let first: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert_eq!(first["level"], "INFO");
    assert!(world.metrics().contains("longwire_log_lines_dropped_total 0\n"));
}

fn a_node_is_drained(world: &mut World) {
    let list = world.run(&["node", "list"]);
    let id = list.lines().nth(1).unwrap().split_whitespace().nth(1).unwrap().to_owned();
    let (code, said) = world.refused(&["node", "drain", "room/1"]);
    assert!(code == 64 && said.contains("there is no room/1"), "{said}");
    let said = world.run(&["node", "drain", &format!("dispatcher/{id}")]);
    assert!(said.contains("is gone"), "{said}");
    assert!(world.node.0.wait().unwrap().success());
    assert_eq!(world.run(&["node", "list"]).lines().count(), 1);
    // The last lines are in the file.
    assert!(world.log("dispatcher.log").contains("drained"));
}
