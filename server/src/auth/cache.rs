//! What the directory said a moment ago, so that a request need not ask the database who its sender is.
//!
//! Entries live for a second: longer than a burst, shorter than anybody would notice after a change made by another
//! process. A change made here clears at once. A lookup that began before a clearing never brings back what was cleared.
//! What was said last is still there for whoever finds the database away and must go on.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long what the directory said is believed.
const BELIEVED_FOR: Duration = Duration::from_secs(1);
/// Entries at most; beyond that the expired ones go, and then all.
const ENTRIES_MAX: usize = 10_000;

/// Answers of the directory by what was asked.
pub struct Cache<K, V> {
    inner: Mutex<Inner<K, V>>,
}

struct Inner<K, V> {
    entries: HashMap<K, (V, Instant)>,
    generation: u64,
}

/// The state of the cache when a lookup began.
#[derive(Clone, Copy, Debug)]
pub struct Generation(u64);

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    /// Knows nothing.
    pub fn new() -> Self {
        Self { inner: Mutex::new(Inner { entries: HashMap::new(), generation: 0 }) }
    }

    /// What was said at most a second ago; or the token to pass to `put` with what the directory says now.
    pub fn get(&self, key: &K) -> Result<V, Generation> {
        let inner = self.inner.lock();
        match inner.entries.get(key) {
            Some((value, at)) if at.elapsed() < BELIEVED_FOR => Ok(value.clone()),
            _ => Err(Generation(inner.generation)),
        }
    }

    /// What was said last, however long ago, unless something was cleared since.
    pub fn last(&self, key: &K) -> Option<V> {
        self.inner.lock().entries.get(key).map(|(value, _)| value.clone())
    }

    /// Forgets one entry: the directory does not know it any more.
    pub fn forget(&self, key: &K) {
        self.inner.lock().entries.remove(key);
    }

    /// Keeps what the directory said, unless something was cleared since the lookup began.
    pub fn put(&self, key: K, value: V, asked: Generation) {
        let mut inner = self.inner.lock();
        if inner.generation != asked.0 {
            return;
        }
        if inner.entries.len() >= ENTRIES_MAX {
            inner.entries.retain(|_, (_, at)| at.elapsed() < BELIEVED_FOR);
        }
        if inner.entries.len() >= ENTRIES_MAX {
            inner.entries.clear();
        }
        inner.entries.insert(key, (value, Instant::now()));
    }

    /// Forgets everything: something changed. Changes are rare, and a lookup is cheap.
    pub fn clear(&self) {
        let mut inner = self.inner.lock();
        inner.generation += 1;
        inner.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lookup_that_began_before_a_change_does_not_outlive_it() {
        let cache = Cache::new();
        let asked = cache.get(&1).expect_err("unknown");
        cache.clear();
        cache.put(1, "old", asked);
        let asked = cache.get(&1).expect_err("still unknown");
        cache.put(1, "new", asked);
        assert_eq!(cache.get(&1).ok(), Some("new"));
        cache.clear();
        assert!(cache.get(&1).is_err());
        assert_eq!(cache.last(&1), None, "what was cleared is not believed for want of better");
    }
}
