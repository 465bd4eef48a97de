//! As much of Redis' protocol as starting servers needs.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};

/// A server on this machine answers in less, unless it hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// One command on a connection of its own; the text of its answer (a string, status or number).
///
/// # Errors
/// When the server does not answer, or with an error.
pub(crate) async fn call(server: SocketAddr, words: &[&str]) -> anyhow::Result<String> {
    timeout(ANSWER_WITHIN, talk(server, words))
        .await
        .with_context(|| format!("{server} does not answer {words:?}"))?
        .with_context(|| format!("{words:?} to {server}"))
}

async fn talk(server: SocketAddr, words: &[&str]) -> anyhow::Result<String> {
    let mut connection = BufReader::new(TcpStream::connect(server).await?);
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request += &format!("${}\r\n{word}\r\n", word.len());
    }
    connection.write_all(request.as_bytes()).await?;
    let mut line = String::new();
    connection.read_line(&mut line).await?;
    let rest = line.get(1..).unwrap_or_default().trim_end();
    match line.as_bytes().first() {
        Some(b'+' | b':') => Ok(rest.to_owned()),
        Some(b'$') => {
            let mut text = vec![0; rest.parse::<usize>().context("no such value")?];
            connection.read_exact(&mut text).await?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        Some(b'-') => bail!("{rest}"),
        _ => bail!("an answer that is not expected here: {line:?}"),
    }
}
