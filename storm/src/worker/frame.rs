//! Messages between the storm and its worker processes: JSON, each preceded by its length as four bytes.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Longest message. The largest is a fleet's specification with a ready token for each of 20,000 devices, or a part
/// of the receipts: a few megabytes. More than this is damage.
const MAX_LEN: usize = 64 << 20;

/// Writes one message; blocks.
///
/// # Errors
/// If the other side is gone.
pub fn write<T: Serialize>(out: &mut impl Write, message: &T) -> io::Result<()> {
    out.write_all(&encode(message)?)?;
    out.flush()
}

/// Reads one message; blocks. `None` = the other side has closed.
///
/// # Errors
/// If the bytes are not a message.
pub fn read<T: DeserializeOwned>(input: &mut impl Read) -> io::Result<Option<T>> {
    let mut prefix = [0; 4];
    match input.read_exact(&mut prefix) {
        Err(end) if end.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let mut body = vec![0; length(prefix)?];
    input.read_exact(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}

/// Writes one message.
///
/// # Errors
/// If the other side is gone.
pub async fn send<T: Serialize + Sync>(out: &mut (impl AsyncWrite + Unpin), message: &T) -> io::Result<()> {
    out.write_all(&encode(message)?).await?;
    out.flush().await
}

/// Reads one message. `None` = the other side has closed.
///
/// # Errors
/// If the bytes are not a message.
pub async fn receive<T: DeserializeOwned>(input: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<T>> {
    let mut prefix = [0; 4];
    match input.read_exact(&mut prefix).await {
        Err(end) if end.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let mut body = vec![0; length(prefix)?];
    input.read_exact(&mut body).await?;
    Ok(Some(serde_json::from_slice(&body)?))
}

fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let mut out = vec![0; 4];
    serde_json::to_writer(&mut out, message)?;
    let len = out.len() - 4;
    if len > MAX_LEN {
        return Err(too_long(len));
    }
    // Fits: MAX_LEN is below 2^32.
    out[..4].copy_from_slice(&(len as u32).to_be_bytes());
    Ok(out)
}

fn length(prefix: [u8; 4]) -> io::Result<usize> {
    match u32::from_be_bytes(prefix) as usize {
        len if len > MAX_LEN => Err(too_long(len)),
        len => Ok(len),
    }
}

fn too_long(len: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a message of {len} bytes is over the bound of {MAX_LEN}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_kinds_of_ends_understand_each_other() {
        let mut pipe = Vec::new();
        write(&mut pipe, &vec!["a".to_owned()]).unwrap();
        send(&mut pipe, &vec!["b".to_owned(); 3]).await.unwrap();
        let mut input = &pipe[..];
        assert_eq!(receive::<Vec<String>>(&mut input).await.unwrap().unwrap(), ["a"]);
        assert_eq!(read::<Vec<String>>(&mut input).unwrap().unwrap(), ["b", "b", "b"]);
        assert!(read::<Vec<String>>(&mut input).unwrap().is_none());
        assert!(receive::<Vec<String>>(&mut input).await.unwrap().is_none());
    }

    #[test]
    fn damage_is_an_error() {
        assert!(read::<String>(&mut &[0xff; 8][..]).is_err());
        assert!(read::<String>(&mut &[0, 0, 0, 9, b'"'][..]).is_err());
        assert!(read::<u32>(&mut &[0, 0, 0, 1, b'"'][..]).is_err());
    }
}
