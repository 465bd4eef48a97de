//! The command line, as its users meet it: `up` and the commands that it prints, `listen`, `push` and the others.

use std::{fs, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use e2e::{UpProcess, eventually, up_process::longwire};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// A `longwire listen`, listening.
struct Listener {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Listener {
    async fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut told = lines(child.stderr.take().context("no standard error")?);
        let mut heard = vec![];
        while let Some(line) =
            timeout(Duration::from_secs(20), told.next_line()).await.context("it does not listen")??
        {
            let listening = line.contains("listening as");
            heard.push(line);
            if listening {
                // Read on, so that it can write on.
                tokio::spawn(async move { while let Ok(Some(_)) = told.next_line().await {} });
                let lines = lines(child.stdout.take().context("no standard output")?);
                return Ok(Self { child, lines });
            }
        }
        anyhow::bail!("it ended: {heard:?}")
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        let line =
            timeout(Duration::from_secs(20), self.lines.next_line()).await.context("no line came")??;
        line.context("the listener ended")
    }

    async fn expect(&mut self, expected: &str) -> anyhow::Result<()> {
        let line = self.line().await.with_context(|| format!("waiting for {expected:?}"))?;
        ensure!(line == expected, "expected {expected:?}, got {line:?}");
        Ok(())
    }

    async fn json(&mut self) -> anyhow::Result<Value> {
        let line = self.line().await?;
        serde_json::from_str(&line).with_context(|| format!("no JSON: {line}"))
    }

    /// Ctrl-C.
    async fn end(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().context("it ended by itself")?.to_string();
        Command::new("kill").args(["-INT", &pid]).status().await?;
        let status =
            timeout(Duration::from_secs(20), self.child.wait()).await.context("it does not end")??;
        ensure!(status.success(), "listen ended with {status}");
        Ok(())
    }
}

fn lines<R: AsyncRead + Unpin>(from: R) -> Lines<BufReader<R>> {
    BufReader::new(from).lines()
}

/// A command as it was printed, by a shell.
fn shell(folder: &Path, line: &str) -> Command {
    let mut command = Command::new("sh");
    // The shell gives way to the command, so that signals reach it.
    command.args(["-c", &format!("exec {line}")]).current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn up_prints_three_commands_that_work() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut up = UpProcess::start(folder.path(), "").await?;
    let banner = up.banner();
    for address in [up.ports().api, up.ports().route, up.ports().room, up.ports().admin] {
        ensure!(banner.contains(&address.to_string()), "{address} is not named:\n{banner}");
    }
    let find = |word: &str| {
        let line = banner.lines().map(str::trim).find(|line| line.contains(word));
        line.map(str::to_owned).with_context(|| format!("no command with {word:?}:\n{banner}"))
    };
    let (listen, push, curl) = (find("longwire listen ")?, find("longwire push ")?, find("curl ")?);
    let mut listener = Listener::start(shell(folder.path(), &listen)).await?;
    let pushed = shell(folder.path(), &push).output().await?;
    ensure!(pushed.status.success(), "{pushed:?}");
    listener.expect("#1 hello").await?;
    let curled = shell(folder.path(), &curl).output().await?;
    let answer: Value = serde_json::from_slice(&curled.stdout).with_context(|| format!("{curled:?}"))?;
    ensure!(answer["outcome"] == "stored" && answer["seq"] == 2, "{answer}");
    listener.expect("#2 hello").await?;

    // A second start keeps all state, and the listener finds the way back by itself.
    let key = up.key()?;
    up.api()?.depth_becomes("alice", 0).await?;
    up.run("push", &["--uid", "bob", "for bob"]).await?;
    ensure!(up.end("INT").await?.success(), "Ctrl-C: {}", up.log());
    ensure!(up.banner().contains("Draining"), "{}", up.banner());
    up.start_again().await?;
    ensure!(up.key()? == key, "another key");
    let bob: Value = serde_json::from_str(&up.run("user", &["--uid", "bob"]).await?)?;
    ensure!(bob["inbox_depth"] == 1 && bob["online"] == false, "{bob}");
    up.run("push", &["--uid", "alice", "after the restart"]).await?;
    // Its inbox was empty, so numbers begin anew, in another epoch.
    listener.expect("#1 after the restart").await?;
    listener.end().await?;
    ensure!(up.end("TERM").await?.success(), "SIGTERM: {}", up.log());
    let problems = up.all_logs();
    let problems = e2e::problems::in_log(&problems, &[]);
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn push_and_listen_do_what_their_options_say() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let up = UpProcess::start(folder.path(), "").await?;
    let listen = |uid: &str, more: &[&str]| up.command("listen", &[&["--uid", uid, "--json"], more].concat());
    let mut alice = Listener::start(listen("alice", &["--tag", "ios", "--tag", "beta"])?).await?;
    let mut bob = Listener::start(listen("bob", &[])?).await?;

    // A text, a file that is no text, and standard input.
    let id = |printed: &str| -> anyhow::Result<String> {
        let answer: Value = serde_json::from_str(printed)?;
        Ok(answer["id"].as_str().context("no id")?.to_owned())
    };
    let pushed = id(&up.run("push", &["--uid", "alice", "--json", "hello"]).await?)?;
    let line = alice.json().await?;
    let accepted = &line["accepted_ms"];
    ensure!(accepted.as_u64().is_some_and(|at| at > 1_700_000_000_000), "{line}");
    let expected = json!({
        "type": "push", "app": "demo", "uid": "alice", "id": pushed, "seq": 1, "payload": "hello",
        "accepted_ms": accepted
    });
    ensure!(line == expected, "{line}");
    let file = folder.path().join("payload");
    fs::write(&file, [0xff, 0x00, 0xfe])?;
    up.run("push", &["--uid", "alice", "--file", &file.to_string_lossy()]).await?;
    let line = alice.json().await?;
    ensure!(line["payload_base64"] == "/wD+" && line["seq"] == 2, "{line}");
    let mut piped = up.command("push", &["--uid", "alice", "--file", "-"])?;
    piped.stdin(fs::File::open(&file)?);
    ensure!(e2e::up_process::finish(piped).await?.status.success(), "standard input");
    ensure!(alice.json().await?["payload_base64"] == "/wD+", "standard input");

    // Transient, with a TTL, to a list, to all.
    up.run("push", &["--uid", "alice", "--transient", "now"]).await?;
    let line = alice.json().await?;
    ensure!(line["type"] == "transient" && line["payload"] == "now" && line["seq"].is_null(), "{line}");
    let missed = up.run("push", &["--uid", "nobody", "--transient", "now"]).await?;
    ensure!(missed.contains("nobody is there"), "{missed}");
    let mortal = id(&up.run("push", &["--uid", "carol", "--ttl", "90s", "--json", "mortal"]).await?)?;
    let ledger: Value = serde_json::from_str(&up.run("message", &[&mortal]).await?)?;
    let life = ledger["expires_ms"].as_u64().zip(ledger["accepted_ms"].as_u64()).map(|(e, a)| e - a);
    ensure!(life == Some(90_000) && ledger["stored"] == 1, "{ledger}");
    let list = folder.path().join("uids.txt");
    fs::write(&list, "alice\n\n  bob \ndave\n")?;
    let told = up.run("push", &["--list", &list.to_string_lossy(), "to the list"]).await?;
    ensure!(told.contains("3 of 3"), "{told}");
    ensure!(
        alice.json().await?["payload"] == "to the list" && bob.json().await?["payload"] == "to the list",
        "the list"
    );
    up.run("push", &["--all", "to all"]).await?;
    for listener in [&mut alice, &mut bob] {
        let line = listener.json().await?;
        ensure!(line["type"] == "broadcast" && line["payload"] == "to all" && line["bseq"] == 1, "{line}");
    }
    up.run("push", &["--all", "--audience", "ios and beta", "to testers"]).await?;
    ensure!(alice.json().await?["payload"] == "to testers", "the audience");
    let repeat = ["--uid", "bob", "--idempotency-key", "k", "once"];
    up.run("push", &repeat).await?;
    let again = up.run("push", &repeat).await?;
    ensure!(again.contains("earlier call"), "{again}");
    let line = bob.json().await?;
    ensure!(line["payload"] == "once", "broadcast to testers, or a double: {line}");

    // Recall, kick, token, app.
    let answer: Value = serde_json::from_str(&up.run("recall", &[&pushed]).await?)?;
    ensure!(answer["notified"] == 1, "{answer}");
    let line = alice.json().await?;
    ensure!(line["type"] == "recall" && line["id"] == pushed, "{line}");
    // What is printed is acked within a tenth of a second; a listener that keeps no state would get the rest again.
    eventually("bob has acked", Duration::from_secs(5), async || {
        let bob: Value = serde_json::from_str(&up.run("user", &["--uid", "bob"]).await?)?;
        ensure!(bob["inbox_depth"] == 0, "{bob}");
        Ok(())
    })
    .await?;
    let answer: Value = serde_json::from_str(&up.run("kick", &["--uid", "bob"]).await?)?;
    ensure!(answer["was_online"] == true, "{answer}");
    let status = timeout(Duration::from_secs(10), bob.child.wait()).await??;
    ensure!(status.code() == Some(1), "a listener that was kicked ended with {status}");
    let token = up.run("token", &["--uid", "bob", "--ttl", "1h"]).await?;
    let by_token = listen("bob", &["--token", token.trim(), "--count", "1"])?;
    let mut bob = Listener::start(by_token).await?;
    up.run("push", &["--uid", "bob", "the only one"]).await?;
    let line = bob.json().await?;
    ensure!(line["payload"] == "the only one", "{line}");
    ensure!(timeout(Duration::from_secs(10), bob.child.wait()).await??.success(), "--count 1");
    let made: Value = serde_json::from_str(&up.run("app create", &["news"]).await?)?;
    ensure!(made["key"].as_str().is_some_and(|key| key.starts_with("lwk_")), "{made}");
    ensure!(up.run("app list", &[]).await?.contains("news"), "the new app is not listed");
    ensure!(up.run("app key", &["--scope", "read"]).await?.contains("lwk_"), "no new key");
    alice.end().await
}

/// With `--state`, a listener that is killed goes on where it stopped: nothing twice, nothing left out.
#[tokio::test(flavor = "multi_thread")]
async fn a_listener_with_state_goes_on_where_it_stopped() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let up = UpProcess::start(folder.path(), "").await?;
    let state = folder.path().join("state.json");
    let listen = || up.command("listen", &["--uid", "alice", "--state", &state.to_string_lossy()]);
    let mut next = 1;
    for _ in 0..3 {
        let mut alice = Listener::start(listen()?).await?;
        for _ in 0..5 {
            up.run("push", &["--uid", "alice", &format!("number {next}")]).await?;
            let line = alice.line().await?;
            ensure!(line == format!("#{next} number {next}"), "{line}");
            next += 1;
        }
        // The state is written after the line, and before the ack.
        eventually("the state on the disk", Duration::from_secs(5), async || {
            let kept: Value = serde_json::from_slice(&fs::read(&state)?)?;
            ensure!(kept["bindings"][0]["inbox"]["seq"] == next - 1, "{kept}");
            Ok(())
        })
        .await?;
        alice.child.kill().await?;
    }
    let mut alice = Listener::start(listen()?).await?;
    up.run("push", &["--uid", "alice", "the last"]).await?;
    alice.expect(&format!("#{next} the last")).await?;
    alice.end().await
}

/// Every command explains itself, and the version is told.
#[tokio::test]
async fn commands_explain_themselves() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for command in ["up", "listen", "push", "user", "message", "recall", "kick", "token", "app"] {
        let mut call = longwire(folder.path())?;
        call.args([command, "--help"]);
        let output = e2e::up_process::finish(call).await?;
        ensure!(output.status.success() && output.stdout.len() > 100, "{command} --help: {output:?}");
    }
    let mut call = longwire(folder.path())?;
    call.arg("--version");
    let output = e2e::up_process::finish(call).await?;
    ensure!(String::from_utf8(output.stdout)?.starts_with("longwire "), "no version");
    Ok(())
}
