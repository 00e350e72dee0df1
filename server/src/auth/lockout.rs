//! Names are locked after too many failed logins, whether or not anybody is called that.
//!
//! A failure is counted in the hot state, which keeps the count in this process, too: neither a Redis that was emptied nor one
//! that is away gives anybody more attempts. Attempts under way count as failures until they have ended, so that a burst is
//! no way around. While a name is locked nothing is compared, so the right password is refused like any other, and the lock
//! does not last longer for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nexus_actors::ports::HotState;
use parking_lot::Mutex;

/// When somebody who was turned away because of attempts under way may come again.
const RETRY_SOON: Duration = Duration::from_secs(1);

/// Counts failed logins.
pub struct Lockout {
    hot: Arc<dyn HotState>,
    attempts_max: u32,
    lasts: Duration,
    /// Attempts under way by name. Bounded by the connections.
    under_way: Mutex<HashMap<String, u32>>,
}

/// An attempt that may be made.
pub struct Attempt<'a> {
    lockout: &'a Lockout,
    name: &'a str,
}

impl Lockout {
    /// Locks a name for `lasts` after so many failures.
    pub fn new(hot: Arc<dyn HotState>, attempts_max: u32, lasts: Duration) -> Self {
        Self { hot, attempts_max, lasts, under_way: Mutex::default() }
    }

    /// Begins an attempt, or says when to come again.
    pub async fn begin<'a>(&'a self, name: &'a str) -> Result<Attempt<'a>, Duration> {
        // First under way and then counted: one that ends in between counts twice, never not at all.
        let others = {
            let mut under_way = self.under_way.lock();
            let count = under_way.entry(name.to_owned()).or_default();
            *count += 1;
            *count - 1
        };
        let attempt = Attempt { lockout: self, name };
        let failures = self.hot.login_failures(name).await;
        if failures.count >= self.attempts_max {
            return Err(failures.forgotten_in);
        }
        if failures.count.saturating_add(others) >= self.attempts_max {
            return Err(RETRY_SOON);
        }
        Ok(attempt)
    }
}

impl Attempt<'_> {
    /// It was the wrong password, or nobody's name.
    pub async fn failed(self) {
        let failures = self.lockout.hot.login_failed(self.name, self.lockout.lasts).await;
        if failures.count == self.lockout.attempts_max {
            tracing::warn!(failures = failures.count, "a name is locked after failed logins");
        }
    }

    /// It was the right one.
    pub async fn succeeded(self) {
        self.lockout.hot.forget_login_failures(self.name).await;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut under_way = self.lockout.under_way.lock();
        if let Some(count) = under_way.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexus_store::MemoryHotState;

    fn lockout() -> Lockout {
        Lockout::new(Arc::new(MemoryHotState::default()), 3, Duration::from_secs(60))
    }

    #[tokio::test]
    async fn the_name_is_locked_after_so_many_failures_and_no_other() {
        let lockout = lockout();
        for _ in 0..3 {
            lockout.begin("ann").await.expect("an attempt").failed().await;
        }
        let wait = lockout.begin("ann").await.err().expect("locked");
        assert!(wait > Duration::from_secs(50), "{wait:?}");
        assert!(lockout.begin("bob").await.is_ok());
        assert!(lockout.under_way.lock().is_empty());
    }

    #[tokio::test]
    async fn a_success_gives_all_attempts_back() {
        let lockout = lockout();
        for _ in 0..4 {
            for _ in 0..2 {
                lockout.begin("ann").await.expect("an attempt").failed().await;
            }
            lockout.begin("ann").await.expect("an attempt").succeeded().await;
        }
    }

    #[tokio::test]
    async fn a_burst_has_no_more_attempts_than_a_row() {
        let lockout = lockout();
        lockout.begin("ann").await.expect("an attempt").failed().await;
        let attempts = [lockout.begin("ann").await, lockout.begin("ann").await];
        assert!(attempts.iter().all(Result::is_ok));
        assert_eq!(lockout.begin("ann").await.err(), Some(RETRY_SOON));
        drop(attempts);
        assert!(lockout.begin("ann").await.is_ok(), "they came to nothing");
    }
}
