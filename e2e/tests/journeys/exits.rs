//! Programs that cannot start or do what they were asked say why in one line, with the right exit code, and never
//! panic.

use std::{fs, net::TcpListener, path::Path};

use anyhow::ensure;
use e2e::{
    UpProcess, program,
    up_process::{UpPorts, describe, finish, longwire},
};
use tokio::process::Command;

/// Runs a program that must fail, with this code and one line that holds all of `words`.
async fn fails(command: Command, code: i32, words: &[&str]) -> anyhow::Result<()> {
    let name = format!("{:?}", command.as_std());
    let output = finish(command).await?;
    let told = describe(&output);
    ensure!(output.status.code() == Some(code), "{name}: not {code} but {told}");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!errors.contains("panicked") && !errors.contains("RUST_BACKTRACE"), "{name} panics: {told}");
    // What it logged before that, if anything, begins with a time.
    let said: Vec<_> =
        errors.lines().filter(|line| !line.starts_with("20") && !line.starts_with('\u{1b}')).collect();
    ensure!(said.len() == 1, "{name}: not one line: {told}");
    for word in words {
        ensure!(said[0].contains(word), "{name}: {word:?} is not in {:?}", said[0]);
    }
    Ok(())
}

/// `longwire up` in `folder/data` with free ports and this configuration on top.
fn up(folder: &Path, over: &str) -> anyhow::Result<Command> {
    let config = folder.join("bad.toml");
    fs::write(&config, format!("{}{over}", UpPorts::free().toml()))?;
    let mut command = longwire(folder)?;
    command.args(["up", "--data"]).arg(folder.join("data")).arg("--config").arg(config);
    Ok(command)
}

#[tokio::test]
async fn up_says_in_one_line_why_it_cannot_start() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    // Wrong configuration: 64, and the key.
    fails(up(folder, "thread = 1\n")?, 64, &["room.thread"]).await?;
    fails(up(folder, "[saver]\nmax_loads = \"many\"\n")?, 64, &["saver.max_loads"]).await?;
    fails(up(folder, "[rom]\n")?, 64, &["rom", "[room]"]).await?;
    fails(up(folder, "[saver\n")?, 64, &["bad.toml"]).await?;
    fails(up(folder, "[log]\nfilter = \"room=loud\"\n")?, 64, &["log.filter"]).await?;
    let mut by_variable = up(folder, "")?;
    by_variable.env("LONGWIRE_SAVER__MAX_LODES", "3");
    fails(by_variable, 64, &["saver.max_lodes"]).await?;
    let mut nowhere = longwire(folder)?;
    nowhere.args(["up", "--config", "nowhere.toml"]);
    fails(nowhere, 64, &["nowhere.toml"]).await?;
    ensure!(!folder.join("data").exists(), "the folder was made before the configuration was read");

    // A port in use: 1, the address and the key that names it.
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    for section in ["admin", "center", "dispatcher", "room"] {
        let config = folder.join("taken.toml");
        let mut table: toml::Table = UpPorts::free().toml().parse()?;
        table.insert(section.to_owned(), format!("listen = {address:?}").parse::<toml::Table>()?.into());
        fs::write(&config, toml::to_string(&table)?)?;
        let mut command = longwire(folder)?;
        command.args(["up", "--data"]).arg(folder.join("data")).arg("--config").arg(config);
        fails(command, 1, &[&address, &format!("{section}.listen")]).await?;
    }

    // A data folder that cannot be written, whoever asks.
    fs::write(folder.join("file"), "not a folder")?;
    for data in [folder.join("file"), folder.join("file/below"), "/proc/longwire".into()] {
        let mut command = up(folder, "")?;
        command.arg("--data").arg(&data);
        let mut command = longwire(folder)?;
        command.args(["up", "--data"]).arg(&data).arg("--config").arg(folder.join("bad.toml"));
        fs::write(folder.join("bad.toml"), UpPorts::free().toml())?;
        fails(command, 1, &[&data.to_string_lossy()]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_do_not_share_a_folder() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let first = UpProcess::start(folder.path(), "").await?;
    fails(up(folder.path(), "")?, 1, &["data folder", "in use"]).await?;
    // The first one has not been harmed.
    first.run("push", &["--uid", "alice", "hello"]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_say_in_one_line_why_they_fail() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let run = |arguments: &[&str]| {
        let mut command = longwire(folder.path())?;
        command.args(arguments);
        anyhow::Ok(command)
    };
    // Nothing runs, and there is no key.
    fails(run(&["push", "--uid", "alice", "x"])?, 64, &["no API key", "demo.key"]).await?;
    let nobody = UpPorts::free().api.to_string();
    let api = format!("http://{nobody}");
    fails(run(&["push", "--api", &api, "--key", "lwk_x", "--uid", "a", "x"])?, 1, &[&nobody]).await?;
    fails(run(&["push", "--api", "not a url", "--key", "lwk_x", "--uid", "a", "x"])?, 64, &["--api"]).await?;
    fails(run(&["listen", "--api", &api, "--key", "lwk_x", "--uid", "a"])?, 1, &[&nobody]).await?;

    let up = UpProcess::start(folder.path(), "").await?;
    let uid = "u".repeat(129);
    fails(up.command("push", &["--uid", &uid, "x"])?, 1, &["129"]).await?;
    fails(up.command("push", &["--app", "foo", "--key", &up.key()?, "--uid", "a", "x"])?, 1, &["foo"])
        .await?;
    fails(up.command("push", &["--key", "lwk_wrong", "--uid", "a", "x"])?, 1, &["not known"]).await?;
    fails(up.command("push", &["--uid", "a", "--file", "nowhere"])?, 64, &["nowhere"]).await?;
    fails(up.command("push", &["--uid", "a", "--ttl", "0s", "x"])?, 64, &["--ttl"]).await?;
    fails(up.command("message", &["12345"])?, 1, &["12345"]).await?;
    fails(up.command("listen", &["--uid", &uid])?, 64, &["--uid"]).await?;
    let output = finish(up.command("listen", &["--uid", "a", "--token", "no.token.atall"])?).await?;
    let told = describe(&output);
    ensure!(
        output.status.code() == Some(1) && told.contains("cannot listen: ") && told.contains("BadToken"),
        "{told}"
    );
    // A command line that is none is explained in several lines, with 64.
    for wrong in
        [&["push"][..], &["push", "--uid", "a"], &["push", "--all", "--transient", "x"], &["fly"], &[]]
    {
        let output = finish(run(wrong)?).await?;
        ensure!(output.status.code() == Some(64), "{wrong:?}: {}", describe(&output));
    }
    Ok(())
}

/// The programs of a cluster.
#[tokio::test]
async fn services_say_in_one_line_why_they_cannot_start() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let ports = UpPorts::free();
    for (n, role) in
        ["dispatcher", "room", "register", "coordinator", "saver", "center"].into_iter().enumerate()
    {
        let config = folder.path().join(format!("{role}.toml"));
        let data = folder.path().join(role);
        let id = n + 1;
        let good = format!(
            "[node]\nid = {id}\ndata = {data:?}\n[tls]\nmode = \"plaintext\"\n[discovery]\nkind = \"static\"\n\
             peers = [{{ role = \"{role}\", id = {id}, rpc = \"{}\" }}]\n",
            ports.api
        );
        let with = |text: String| -> anyhow::Result<Command> {
            fs::write(&config, text)?;
            let mut command = Command::new(program(role)?);
            command.arg("--config").arg(&config).kill_on_drop(true);
            Ok(command)
        };
        let mut check = with(good.clone())?;
        check.arg("--check");
        let output = finish(check).await?;
        ensure!(output.status.success(), "{role} --check: {}", describe(&output));
        fails(with(format!("{good}[{role}]\nno_such_key = 1\n"))?, 64, &[&format!("{role}.no_such_key")])
            .await?;
        fails(with(format!("{good}[nonsense]\n"))?, 64, &["nonsense"]).await?;
        fails(with("[tls]\nmode = \"plaintext\"\n".to_owned())?, 64, &["node"]).await?;
        // Without certificates only when that is said by name.
        let silent = good.replace("[tls]\nmode = \"plaintext\"\n", "");
        fails(with(silent)?, 64, &["tls"]).await?;
        // Not on the list of peers: a mistake in the configuration that shows at the start.
        let unlisted = good.replace(&format!("id = {id}, rpc"), "id = 99, rpc");
        let output = finish(with(unlisted)?).await?;
        ensure!(matches!(output.status.code(), Some(1 | 64)), "{role}: {}", describe(&output));
        // Its port is taken.
        let taken = TcpListener::bind("127.0.0.1:0")?;
        let address = taken.local_addr()?.to_string();
        fails(with(good.replace(&ports.api.to_string(), &address))?, 1, &[&address]).await?;
        // Its folder cannot be written.
        let below = folder.path().join(format!("{role}.toml/below"));
        let unwritable = good.replace(&format!("{data:?}"), &format!("{below:?}"));
        fails(with(unwritable)?, 1, &["below"]).await?;
    }
    Ok(())
}
