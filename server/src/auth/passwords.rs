//! Passwords: peppered, hashed with bcrypt, on a bounded pool of blocking threads.
//!
//! bcrypt reads 72 bytes and stops at NUL, so the password is first put through HMAC-SHA-256 under a pepper derived
//! from the secret key, and encoded as text. A name that does not exist costs the same work as a wrong password. One
//! hash is a third of a second of a core: at most two run at once, and a flood of logins is refused before orders feel it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use thiserror::Error;
use tokio::sync::Semaphore;

/// Logins that wait for a hashing thread; beyond, they are refused.
const WAITING_MAX: usize = 16;
/// When a refused login may come again.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Separates this use of the secret key from every other.
const PEPPER_LABEL: &[u8] = b"nexus password pepper v1";

/// Why a password was not hashed or compared.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum PasswordError {
    /// Too many are being hashed.
    #[error("too many passwords are being checked")]
    Busy,
    /// bcrypt failed.
    #[error("a password could not be hashed: {0}")]
    Hash(String),
}

/// What a comparison found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Match {
    /// Another password, or nobody of that name.
    No,
    /// The password.
    Yes,
    /// The password, hashed under the previous key or at another cost: hash it again.
    YesButOutdated,
}

/// Hashes and compares passwords.
pub struct Passwords {
    peppers: Arc<[Pepper]>,
    cost: u32,
    nobody: String,
    threads: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Passwords {
    /// Hashes under `key`; compares under it and, while a key is being rotated, under `previous`.
    pub fn new(key: &SecretString, previous: Option<&SecretString>, cost: u32) -> Result<Self, PasswordError> {
        let peppers: Arc<[Pepper]> = std::iter::once(key).chain(previous).map(Pepper::of).collect();
        let nobody = peppers[0].hash(&"nobody".to_owned().into(), cost)?;
        // One core is left to orders wherever there are two.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = Arc::new(Semaphore::new((cores / 2).clamp(1, 2)));
        Ok(Self { peppers, cost, nobody, threads, waiting: AtomicUsize::new(0) })
    }

    /// The hash to keep of a password.
    pub async fn hash(&self, password: SecretString) -> Result<String, PasswordError> {
        let (peppers, cost) = (self.peppers.clone(), self.cost);
        self.on_thread(move || peppers[0].hash(&password, cost)).await
    }

    /// Compares a password with a hash; with none, the same work is done and the answer is no.
    pub async fn compare(&self, password: SecretString, hash: Option<String>) -> Result<Match, PasswordError> {
        let (peppers, cost) = (self.peppers.clone(), self.cost);
        let is_somebody = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.clone());
        let found = self.on_thread(move || compare(&peppers, cost, &password, &hash)).await?;
        Ok(if is_somebody { found } else { Match::No })
    }

    /// Runs on a blocking thread; the permit stays with the work, also when the caller has gone away.
    async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let turn = self.queue()?;
        let permit = Arc::clone(&self.threads).acquire_owned().await;
        let permit = permit.map_err(|error| PasswordError::Hash(error.to_string()))?;
        drop(turn);
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        done.await.map_err(|error| PasswordError::Hash(error.to_string()))?
    }

    fn queue(&self) -> Result<Turn<'_>, PasswordError> {
        let turn = Turn(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            return Err(PasswordError::Busy);
        }
        Ok(turn)
    }
}

/// A place in the queue; given back when it is dropped.
struct Turn<'a>(&'a AtomicUsize);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn compare(peppers: &[Pepper], cost: u32, password: &SecretString, hash: &str) -> Result<Match, PasswordError> {
    for (age, pepper) in peppers.iter().enumerate() {
        if pepper.matches(password, hash)? {
            let is_current = age == 0 && hash.split('$').nth(2).and_then(|text| text.parse().ok()) == Some(cost);
            return Ok(if is_current { Match::Yes } else { Match::YesButOutdated });
        }
    }
    Ok(Match::No)
}

/// A key for the first step of hashing.
struct Pepper(Hmac<Sha256>);

impl Pepper {
    fn of(key: &SecretString) -> Self {
        let derived = keyed(key.expose_secret().as_bytes()).chain_update(PEPPER_LABEL).finalize().into_bytes();
        Self(keyed(&derived))
    }

    fn prepare(&self, password: &SecretString) -> String {
        BASE64_STANDARD.encode(self.0.clone().chain_update(password.expose_secret().as_bytes()).finalize().into_bytes())
    }

    fn hash(&self, password: &SecretString, cost: u32) -> Result<String, PasswordError> {
        bcrypt::non_truncating_hash(self.prepare(password), cost).map_err(|e| PasswordError::Hash(e.to_string()))
    }

    fn matches(&self, password: &SecretString, hash: &str) -> Result<bool, PasswordError> {
        bcrypt::non_truncating_verify(self.prepare(password), hash).map_err(|e| PasswordError::Hash(e.to_string()))
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

/// What is wrong with a new password; nothing when it may be used.
pub fn check_rules(password: &SecretString, username: &str) -> Vec<&'static str> {
    let text = password.expose_secret();
    let has = |kind: fn(char) -> bool| text.chars().any(kind);
    let rules = [
        ((8..=128).contains(&text.chars().count()), "must have 8 to 128 characters"),
        (has(char::is_uppercase), "must contain an upper-case letter"),
        (has(char::is_lowercase), "must contain a lower-case letter"),
        (has(|c| c.is_ascii_digit()), "must contain a digit"),
        (has(|c| !c.is_alphanumeric() && !c.is_control()), "must contain a special character"),
        (!is_common(text), "is a common password"),
        (!contains_name(text, username), "must not contain the username"),
    ];
    rules.into_iter().filter(|(holds, _)| !holds).map(|(_, why)| why).collect()
}

fn contains_name(text: &str, username: &str) -> bool {
    // A name of one or two letters is part of too much.
    username.chars().count() >= 3 && text.to_lowercase().contains(&username.to_lowercase())
}

/// Words that common passwords are made of, with digits and signs around them and in place of letters.
const COMMON: &[&str] = &[
    "abc",
    "abcd",
    "abcdef",
    "admin",
    "administrator",
    "asdf",
    "asdfgh",
    "baseball",
    "changeme",
    "charlie",
    "default",
    "dragon",
    "football",
    "freedom",
    "hello",
    "iloveyou",
    "letmein",
    "login",
    "master",
    "michael",
    "monkey",
    "nexus",
    "pass",
    "passw",
    "password",
    "princess",
    "qazwsx",
    "qwer",
    "qwerty",
    "qwertyuiop",
    "root",
    "secret",
    "shadow",
    "spring",
    "summer",
    "autumn",
    "winter",
    "sunshine",
    "superman",
    "temp",
    "test",
    "trading",
    "trustno",
    "user",
    "welcome",
    "zaqxsw",
];

fn is_common(text: &str) -> bool {
    let lower = text.to_lowercase();
    let is_sign = |c: char| !c.is_alphabetic();
    let is_sign_and_no_letter = |c: char| is_sign(c) && !"@$0".contains(c);
    let cores =
        [lower.trim_matches(is_sign), lower.trim_end_matches(is_sign).trim_start_matches(is_sign_and_no_letter)];
    cores.iter().any(|core| COMMON.contains(&in_letters(core).as_str()))
}

/// The word behind digits and signs that stand for letters.
fn in_letters(text: &str) -> String {
    let letter = |c| match c {
        '@' | '4' => 'a',
        '0' => 'o',
        '1' | '!' | '|' => 'i',
        '3' => 'e',
        '$' | '5' => 's',
        '7' => 't',
        other => other,
    };
    text.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        text.to_owned().into()
    }

    fn passwords(key: &str, previous: Option<&str>) -> Passwords {
        let previous = previous.map(secret);
        Passwords::new(&secret(key), previous.as_ref(), 4).expect("a cost that bcrypt takes")
    }

    #[tokio::test]
    async fn all_of_a_long_password_counts() {
        let passwords = passwords("key", None);
        let long = "x".repeat(100);
        let hash = passwords.hash(secret(&format!("{long}a"))).await.expect("hashed");
        let compare = |text: String| passwords.compare(text.into(), Some(hash.clone()));
        assert_eq!(compare(format!("{long}a")).await, Ok(Match::Yes));
        assert_eq!(compare(format!("{long}b")).await, Ok(Match::No));
        assert_eq!(compare(long).await, Ok(Match::No));
        let with_nul = passwords.hash(secret("a\0b")).await.expect("hashed");
        assert_eq!(passwords.compare(secret("a\0c"), Some(with_nul)).await, Ok(Match::No));
    }

    #[tokio::test]
    async fn nobody_has_no_password() {
        let passwords = passwords("key", None);
        assert_eq!(passwords.compare(secret("nobody"), None).await, Ok(Match::No));
    }

    #[tokio::test]
    async fn a_rotated_key_still_opens_and_asks_for_a_new_hash() {
        let hash = passwords("old", None).hash(secret("pw")).await.expect("hashed");
        let rotated = passwords("new", Some("old"));
        assert_eq!(rotated.compare(secret("pw"), Some(hash.clone())).await, Ok(Match::YesButOutdated));
        assert_eq!(rotated.compare(secret("no"), Some(hash.clone())).await, Ok(Match::No));
        assert_eq!(passwords("new", None).compare(secret("pw"), Some(hash)).await, Ok(Match::No));
    }

    #[tokio::test]
    async fn a_flood_is_refused_and_the_queue_recovers() {
        let passwords = passwords("key", None);
        let all = passwords.threads.available_permits();
        let held = passwords.threads.acquire_many(u32::try_from(all).expect("few")).await.expect("open");
        let flood = (0..WAITING_MAX + 3).map(|_| passwords.compare(secret("x"), None));
        let flood = futures::future::join_all(flood);
        tokio::pin!(flood);
        assert!(futures::poll!(flood.as_mut()).is_pending());
        drop(held);
        let refused = flood.await.into_iter().filter(|result| *result == Err(PasswordError::Busy)).count();
        assert_eq!(refused, 3);
        assert_eq!(passwords.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_rules_for_new_passwords() {
        let table: [(&str, &[&str]); 12] = [
            ("Tr1cky-enough", &[]),
            ("Sh0r!", &["must have 8 to 128 characters"]),
            ("tr1cky-enough", &["must contain an upper-case letter"]),
            ("TR1CKY-ENOUGH", &["must contain a lower-case letter"]),
            ("Tricky-enough", &["must contain a digit"]),
            ("Tr1ckyenough", &["must contain a special character"]),
            ("Password1!", &["is a common password"]),
            ("P@ssw0rd1!", &["is a common password"]),
            ("Password100!", &["is a common password"]),
            ("Welcome2026!", &["is a common password"]),
            ("@Dmin-1234", &["is a common password"]),
            ("My-Ann-is-1", &["must not contain the username"]),
        ];
        for (text, expected) in table {
            assert_eq!(check_rules(&secret(text), "ann"), expected, "{text}");
        }
        assert_eq!(check_rules(&secret(&format!("Aa1-{}", "x".repeat(125))), "ann"), ["must have 8 to 128 characters"]);
        assert!(check_rules(&crate::auth::secrets::new_password(), "admin").is_empty());
    }
}
