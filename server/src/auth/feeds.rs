//! Feeds prove themselves by an API key, looked up by its SHA-256.
//!
//! The key has 256 random bits, so a plain hash is enough to keep it, and looking it up by the hash leaks nothing
//! through timing that an attacker could steer. A feed that was known before is believed while the directory is away: its
//! marks must still reach the stops. Whoever can change a feed then is here, and a change made here forgets it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nexus_store::directory::{Directory, DirectoryError, Feed};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::cache::{Cache, Generation};

/// How long the directory may take to answer for a feed that is known.
const ANSWERS_WITHIN: Duration = Duration::from_millis(250);
/// How long a directory that did not is not asked again about feeds that are known.
const LEFT_ALONE_FOR: Duration = Duration::from_secs(1);

/// Looks feeds up by their keys.
pub struct FeedKeys {
    directory: Arc<dyn Directory>,
    known: Arc<Cache<String, Arc<Feed>>>,
    /// When the directory last failed to answer.
    away_at: Mutex<Option<Instant>>,
}

impl FeedKeys {
    /// Asks `directory` for what is not known.
    pub fn new(directory: Arc<dyn Directory>) -> Self {
        Self { directory, known: Arc::new(Cache::new()), away_at: Mutex::new(None) }
    }

    /// The feed of an API key's SHA-256. Keys that are unknown are not remembered: a flood of them must not fill memory.
    pub async fn feed_by_hash(&self, hash: &str) -> Result<Option<Arc<Feed>>, DirectoryError> {
        let key = hash.to_owned();
        let asked = match self.known.get(&key) {
            Ok(feed) => return Ok(Some(feed)),
            Err(asked) => asked,
        };
        let Some(before) = self.known.last(&key) else {
            return look_up(&self.directory, &self.known, key, asked).await;
        };
        if self.away_at.lock().is_some_and(|at| at.elapsed() < LEFT_ALONE_FOR) {
            return Ok(Some(before));
        }
        // In a task of its own: an answer that comes late is still an answer.
        let (directory, known) = (Arc::clone(&self.directory), Arc::clone(&self.known));
        let asking = tokio::spawn(async move { look_up(&directory, &known, key, asked).await });
        match timeout(ANSWERS_WITHIN, asking).await {
            Ok(Ok(Ok(found))) => Ok(found),
            Ok(Ok(Err(_)) | Err(_)) | Err(_) => {
                *self.away_at.lock() = Some(Instant::now());
                Ok(Some(before))
            }
        }
    }

    /// Forgets what is known: a feed was changed.
    pub fn changed(&self) {
        self.known.clear();
    }
}

async fn look_up(
    directory: &Arc<dyn Directory>,
    known: &Cache<String, Arc<Feed>>,
    key: String,
    asked: Generation,
) -> Result<Option<Arc<Feed>>, DirectoryError> {
    let found = directory.feed_by_key(&key).await?.map(Arc::new);
    match &found {
        Some(feed) => known.put(key, Arc::clone(feed), asked),
        None => known.forget(&key),
    }
    Ok(found)
}
