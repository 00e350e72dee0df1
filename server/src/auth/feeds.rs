//! Feeds prove themselves by an API key, looked up by its SHA-256.
//!
//! The key has 256 random bits, so a plain hash is enough to keep it, and looking it up by the hash leaks nothing
//! through timing that an attacker could steer.

use std::sync::Arc;

use nexus_store::directory::{Directory, DirectoryError, Feed};

use super::cache::Cache;

/// Looks feeds up by their keys.
pub struct FeedKeys {
    directory: Arc<dyn Directory>,
    known: Cache<String, Arc<Feed>>,
}

impl FeedKeys {
    /// Asks `directory` for what is not known.
    pub fn new(directory: Arc<dyn Directory>) -> Self {
        Self { directory, known: Cache::new() }
    }

    /// The feed of an API key's SHA-256. Keys that are unknown are not remembered: a flood of them must not fill memory.
    pub async fn feed_by_hash(&self, hash: &str) -> Result<Option<Arc<Feed>>, DirectoryError> {
        let asked = match self.known.get(&hash.to_owned()) {
            Ok(feed) => return Ok(Some(feed)),
            Err(asked) => asked,
        };
        let found = self.directory.feed_by_key(hash).await?.map(Arc::new);
        if let Some(feed) = &found {
            self.known.put(hash.to_owned(), Arc::clone(feed), asked);
        }
        Ok(found)
    }

    /// Forgets what is known: a feed was changed.
    pub fn changed(&self) {
        self.known.clear();
    }
}
