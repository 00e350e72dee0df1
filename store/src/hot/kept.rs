//! What a hot state keeps in the memory of its process, in bounded space, wherever else it keeps it.
//!
//! Most things live in two generations: what is new or was asked for is young; when the young are half of what may be kept,
//! they become the old ones, and the old ones before them are forgotten. That is nearly an LRU for the price of two maps.
//! Revoked tokens are never forgotten before their time, whatever their number: their number is bounded by the life of a
//! token and the rate of sign-outs, and the expired ones are cleared out as they come to be half of all. Failed logins are
//! kept by the hash of the name: people type passwords where names belong.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use compact_str::CompactString;
use nexus_actors::ports::LoginFailures;
use sha2::{Digest, Sha256};

/// Revoked tokens are looked through for expired ones from this number on.
const TOKENS_SWEEP_MIN: usize = 1_024;
/// Names whose failed logins are counted. Each costs whoever tries it the work of a password hash.
const NAMES_MAX: usize = 65_536;

/// A bounded map that forgets what was not used for the longest time, roughly.
pub(super) struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    young_max: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> Generations<K, V> {
    pub(super) fn new(size_max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_max: (size_max / 2).max(1) }
    }

    /// Keeps `value` unless `replaces` says that the one at hand is better.
    pub(super) fn put(&mut self, key: K, value: V, replaces: impl Fn(&V, &V) -> bool) {
        let held = self.young.get(&key).or_else(|| self.old.get(&key));
        if held.is_some_and(|held| !replaces(&value, held)) {
            return;
        }
        self.old.remove(&key);
        self.young.insert(key, value);
        if self.young.len() >= self.young_max {
            self.old = std::mem::take(&mut self.young);
        }
    }

    pub(super) fn get<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.put(key, value.clone(), |_, _| true);
        Some(value)
    }

    fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.young.iter().chain(&self.old)
    }

    pub(super) fn forget<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.young.remove(key);
        self.old.remove(key);
    }
}

/// Revoked tokens and when each would have expired anyway.
pub(super) struct Revoked {
    until: HashMap<CompactString, i64>,
    /// The number at which the expired ones are cleared out.
    sweep_at: usize,
}

impl Default for Revoked {
    fn default() -> Self {
        Self { until: HashMap::new(), sweep_at: TOKENS_SWEEP_MIN }
    }
}

impl Revoked {
    /// Returns whether that was news.
    pub(super) fn put(&mut self, token: CompactString, until_unix_s: i64) -> bool {
        let known = self.until.get(&token).copied();
        if known.is_some_and(|known| known >= until_unix_s) {
            return false;
        }
        self.until.insert(token, until_unix_s);
        if self.until.len() >= self.sweep_at {
            let now_unix_s = jiff::Timestamp::now().as_second();
            self.until.retain(|_, until| *until > now_unix_s);
            self.sweep_at = (self.until.len() * 2).max(TOKENS_SWEEP_MIN);
        }
        true
    }

    pub(super) fn contains(&self, token: &str) -> bool {
        self.until.contains_key(token)
    }

    /// All of them, and until when.
    pub(super) fn all(&self) -> impl Iterator<Item = (&CompactString, i64)> {
        self.until.iter().map(|(token, until)| (token, *until))
    }
}

/// Failed logins by [`name_key`].
pub(super) struct Failures(Generations<String, (u32, Instant)>);

impl Default for Failures {
    fn default() -> Self {
        Self(Generations::new(NAMES_MAX))
    }
}

impl Failures {
    pub(super) fn get(&mut self, key: &str) -> LoginFailures {
        let (count, until) = self.0.get(key).unwrap_or((0, Instant::now()));
        let forgotten_in = until.saturating_duration_since(Instant::now());
        if forgotten_in.is_zero() { LoginFailures::default() } else { LoginFailures { count, forgotten_in } }
    }

    /// One more, on top of what is known or what somebody else has counted before.
    pub(super) fn add(&mut self, key: &str, before: u32, window: Duration) -> LoginFailures {
        let count = self.get(key).count.max(before).saturating_add(1);
        self.0.put(key.to_owned(), (count, Instant::now() + window), |_, _| true);
        LoginFailures { count, forgotten_in: window }
    }

    /// What somebody else has counted. The larger count is kept, and returned.
    pub(super) fn learn(&mut self, key: &str, counted: LoginFailures) -> LoginFailures {
        let own = self.get(key);
        if counted.count <= own.count {
            return own;
        }
        self.0.put(key.to_owned(), (counted.count, Instant::now() + counted.forgotten_in), |_, _| true);
        counted
    }

    pub(super) fn forget(&mut self, key: &str) {
        self.0.forget(key);
    }

    /// Every key with its failures.
    pub(super) fn all(&self) -> Vec<(String, LoginFailures)> {
        let now = Instant::now();
        let living = self.0.iter().filter(|(_, (_, until))| *until > now);
        living
            .map(|(key, (count, until))| (key.clone(), LoginFailures { count: *count, forgotten_in: *until - now }))
            .collect()
    }
}

/// What stands for a name.
pub(super) fn name_key(name: &str) -> String {
    use std::fmt::Write;
    Sha256::digest(name).iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing into a string never fails.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
