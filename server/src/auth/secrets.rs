//! Secrets that Nexus makes: API keys, webhook secrets, first passwords, and the key that it signs with.
//!
//! All are drawn from the system's generator with more bits than anybody can guess. A secret that is kept in a file is
//! written whole or not at all, and only its owner reads it: a half-written signing key would end every session.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

/// What an API key begins with.
pub const API_KEY_PREFIX: &str = "nxf_";

/// A new API key: 32 random bytes.
pub fn new_api_key() -> SecretString {
    format!("{API_KEY_PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())).into()
}

/// A new webhook secret in the form of Standard Webhooks.
pub fn new_webhook_secret() -> SecretString {
    format!("whsec_{}", BASE64_STANDARD.encode(rand::random::<[u8; 32]>())).into()
}

/// A new password: 144 random bits, and something of each kind that the rules ask for.
pub fn new_password() -> SecretString {
    format!("Nx1-{}", BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 18]>())).into()
}

/// SHA-256 in hexadecimal: how an API key is kept and looked up.
pub fn sha256_hex(secret: &str) -> String {
    let digit = |four_bits: u8| char::from(b"0123456789abcdef"[usize::from(four_bits)]);
    let digest = Sha256::digest(secret.as_bytes());
    digest.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

/// The secret kept in `file`, or a new one that is kept there from now on.
pub fn kept_secret(file: &Path) -> io::Result<SecretString> {
    match fs::read_to_string(file) {
        Ok(text) if text.trim().len() >= 32 => Ok(text.trim().to_owned().into()),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} holds no secret of at least 32 characters; remove it to have a new one made", file.display()),
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret: SecretString = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 48]>()).into();
            keep_secret(file, &secret)?;
            Ok(secret)
        }
        Err(error) => Err(error),
    }
}

/// Writes a secret to a file that only its owner reads; either the whole of it is there afterwards, or nothing.
pub fn keep_secret(file: &Path, secret: &SecretString) -> io::Result<()> {
    let partial = file.with_extension("partial");
    // A file left by a crash would keep its old mode.
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    out.write_all(secret.expose_secret().as_bytes())?;
    out.write_all(b"\n")?;
    out.sync_all()?;
    fs::rename(&partial, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_kept_secret_is_made_once_and_read_by_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("secret-key");
        let first = kept_secret(&file).expect("made");
        let again = kept_secret(&file).expect("read");
        assert_eq!(first.expose_secret(), again.expose_secret());
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        fs::write(&file, "short").expect("written");
        assert!(kept_secret(&file).is_err());
    }

    #[test]
    fn keys_are_long_and_looked_up_by_their_hash() {
        let key = new_api_key();
        assert_eq!(key.expose_secret().len(), API_KEY_PREFIX.len() + 43);
        assert_ne!(key.expose_secret(), new_api_key().expose_secret());
        assert_eq!(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(new_webhook_secret().expose_secret().starts_with("whsec_"));
    }
}
