//! The in-process hot state: newest snapshots, marks and revoked tokens, each in bounded memory.
//!
//! Accounts and marks live in two generations: what is new or was asked for is young; when the young are half of what may
//! be kept, they become the old ones, and the old ones before them are forgotten. That is nearly an LRU for the price of
//! two maps. Revoked tokens are never forgotten before their time, whatever their number: their number is bounded by the
//! life of a token and the rate of sign-outs, and the expired ones are cleared out as they come to be half of all.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use compact_str::CompactString;
use futures::FutureExt;
use futures::future::BoxFuture;
use nexus_actors::ports::HotState;
use nexus_engine::account::Account;
use nexus_engine::ids::{Symbol, UserId};
use nexus_engine::instrument::Mark;
use parking_lot::Mutex;

/// Snapshots kept unless told otherwise: at some 4 KiB each, about 400 MB.
const ACCOUNTS_MAX: usize = 100_000;
/// Symbols whose mark is kept.
const MARKS_MAX: usize = 65_536;
/// Revoked tokens are looked through for expired ones from this number on.
const TOKENS_SWEEP_MIN: usize = 1_024;

/// The hot state of a single process.
pub struct MemoryHotState {
    accounts: Mutex<Generations<UserId, Arc<Account>>>,
    marks: Mutex<Generations<Symbol, Mark>>,
    revoked: Mutex<Revoked>,
}

impl Default for MemoryHotState {
    fn default() -> Self {
        Self::with_accounts_max(ACCOUNTS_MAX)
    }
}

impl MemoryHotState {
    /// Keeps at most so many snapshots.
    pub fn with_accounts_max(accounts_max: usize) -> Self {
        Self {
            accounts: Mutex::new(Generations::new(accounts_max)),
            marks: Mutex::new(Generations::new(MARKS_MAX)),
            revoked: Mutex::new(Revoked { until: HashMap::new(), sweep_at: TOKENS_SWEEP_MIN }),
        }
    }
}

impl HotState for MemoryHotState {
    fn put_account(&self, account: Arc<Account>) {
        self.accounts.lock().put(account.user, account, |new, held| new.version >= held.version);
    }

    fn account(&self, user: UserId) -> BoxFuture<'_, Option<Arc<Account>>> {
        let found = self.accounts.lock().get(&user);
        async move { found }.boxed()
    }

    fn forget_account(&self, user: UserId) {
        self.accounts.lock().forget(&user);
    }

    fn put_mark(&self, mark: Mark) {
        self.marks.lock().put(mark.symbol.clone(), mark, |new, held| new.at >= held.at);
    }

    fn mark(&self, symbol: &Symbol) -> BoxFuture<'_, Option<Mark>> {
        let found = self.marks.lock().get(symbol);
        async move { found }.boxed()
    }

    fn revoke_token(&self, token_id: CompactString, until_unix_s: i64) {
        self.revoked.lock().put(token_id, until_unix_s, jiff::Timestamp::now().as_second());
    }

    fn is_revoked(&self, token_id: &str) -> BoxFuture<'_, bool> {
        let found = self.revoked.lock().until.contains_key(token_id);
        async move { found }.boxed()
    }
}

/// A bounded map that forgets what was not used for the longest time, roughly.
struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    young_max: usize,
}

impl<K: Eq + Hash + Clone, V: Clone> Generations<K, V> {
    fn new(size_max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_max: (size_max / 2).max(1) }
    }

    /// Keeps `value` unless `replaces` says that the one at hand is better.
    fn put(&mut self, key: K, value: V, replaces: impl Fn(&V, &V) -> bool) {
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

    fn get<Q>(&mut self, key: &Q) -> Option<V>
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

    fn forget(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

/// Revoked tokens and when each would have expired anyway.
struct Revoked {
    until: HashMap<CompactString, i64>,
    /// The number at which the expired ones are cleared out.
    sweep_at: usize,
}

impl Revoked {
    fn put(&mut self, token: CompactString, until_unix_s: i64, now_unix_s: i64) {
        let until = self.until.entry(token).or_insert(until_unix_s);
        *until = until_unix_s.max(*until);
        if self.until.len() >= self.sweep_at {
            self.until.retain(|_, until| *until > now_unix_s);
            self.sweep_at = (self.until.len() * 2).max(TOKENS_SWEEP_MIN);
        }
    }
}
