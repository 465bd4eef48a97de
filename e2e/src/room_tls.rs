//! The certificate that devices see, for stacks whose room has one.

use std::{fs, path::Path};

use anyhow::Context as _;

/// In a [`Tuning`](crate::Tuning)'s TOML: stands for the file with the certificate of the room, which is made then.
const CERT: &str = "{room_cert}";
/// Stands for the file with its key.
const KEY: &str = "{room_key}";

const CERT_FILE: &str = "room.pem";
const KEY_FILE: &str = "room.key";

/// Makes a certificate for rooms on this machine, if the TOML names one; the TOML with its files.
pub(crate) fn put_in(toml: &str, folder: &Path) -> anyhow::Result<String> {
    if !toml.contains(CERT) {
        return Ok(toml.to_owned());
    }
    let (cert, key) = (folder.join(CERT_FILE), folder.join(KEY_FILE));
    renew(folder)?;
    let name = |file: &Path| file.display().to_string();
    Ok(toml.replace(CERT, &name(&cert)).replace(KEY, &name(&key)))
}

/// Writes a new certificate and key. It is its own authority: devices trust it and nobody else.
pub(crate) fn renew(folder: &Path) -> anyhow::Result<()> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names)?;
    fs::write(folder.join(KEY_FILE), made.signing_key.serialize_pem())?;
    fs::write(folder.join(CERT_FILE), made.cert.pem())?;
    Ok(())
}

/// What devices trust.
pub(crate) fn roots(folder: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(folder.join(CERT_FILE)).context("the room of this stack has no certificate: see Tuning")
}
