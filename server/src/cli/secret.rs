//! Secrets on their way in and out of the command line: passwords read from a file, or made up.
//!
//! A password is never an argument: the arguments of a process are there for every user of the machine to read.

use std::io::Read;
use std::path::Path;

use anyhow::Context;
use secrecy::SecretString;

/// The largest file that is read as input, in bytes.
const INPUT_BYTES_MAX: u64 = 8 << 20;
/// Without characters that look like each other.
const ALPHABET: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// How a file is called in an error.
pub(crate) fn input_name(path: &Path) -> String {
    if path == Path::new("-") { "stdin".into() } else { path.display().to_string() }
}

/// The bytes of a file, or of stdin for `-`.
pub(crate) fn read_input(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes))
    };
    let length = read.with_context(|| format!("cannot read {}", input_name(path)))?;
    anyhow::ensure!(length as u64 <= INPUT_BYTES_MAX, "{} is larger than {INPUT_BYTES_MAX} bytes", input_name(path));
    Ok(bytes)
}

/// A password from a file, or from stdin for `-`, without its trailing newline.
pub(crate) fn read_password(path: &Path) -> anyhow::Result<SecretString> {
    let text = String::from_utf8(read_input(path)?).ok().context("the password is not UTF-8")?;
    let password = text.trim_end_matches(['\r', '\n']);
    anyhow::ensure!(!password.is_empty(), "{} holds no password", input_name(path));
    Ok(password.into())
}

/// A new password of 115 bits: four groups of five characters, with upper case, lower case and digits.
pub(crate) fn make_password() -> String {
    loop {
        let group =
            || -> String { (0..5).map(|_| char::from(ALPHABET[rand::random_range(..ALPHABET.len())])).collect() };
        let password = [group(), group(), group(), group()].join("-");
        let has = |kind: fn(&char) -> bool| password.chars().any(|c| kind(&c));
        if has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase) && has(char::is_ascii_digit) {
            return password;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn a_made_up_password_passes_the_rules_for_passwords() {
        for _ in 0..200 {
            let password = make_password();
            assert_eq!(password.len(), 23);
            for kind in [char::is_ascii_uppercase, char::is_ascii_lowercase, char::is_ascii_digit] {
                assert!(password.chars().any(|c| kind(&c)), "{password}");
            }
        }
        assert_ne!(make_password(), make_password());
    }

    #[test]
    fn a_password_ends_before_its_newline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, " spaced \r\n").unwrap();
        assert_eq!(read_password(&path).unwrap().expose_secret(), " spaced ");
        std::fs::write(&path, "\n").unwrap();
        assert!(read_password(&path).unwrap_err().to_string().contains("holds no password"));
    }
}
