//! The bounded door in front of unbounded mailboxes: a permit for every decision under way (promise P9).
//!
//! Mailboxes accept a million messages without a word, so the bound is here. A signal weighs as many permits as it has
//! subscribers and holds them until its work is done, also when its caller has gone away: a ledger that hangs fills the
//! door and not the memory. Facts, exits and admin acts need no permit, and an emergency stop does not pass here at all.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::engine::SubmitError;
use crate::meters::Meters;

/// What a caller that was shed is told to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The door.
pub(crate) struct Ingress {
    permits: Arc<Semaphore>,
    total: u32,
}

impl Ingress {
    /// A door for so many decisions at once.
    pub(crate) fn new(total: usize) -> Ingress {
        let total = u32::try_from(total.clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Ingress { permits: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Permits for a signal with so many subscribers, now or not at all. One with more than there are takes them all, so that
    /// the largest fan-out can run, alone.
    pub(crate) fn admit(&self, subscribers: usize, meters: &Meters) -> Result<OwnedSemaphorePermit, SubmitError> {
        let weight = u32::try_from(subscribers).unwrap_or(u32::MAX).clamp(1, self.total);
        let permit = Arc::clone(&self.permits).try_acquire_many_owned(weight);
        meters.permits_available.set(f64::from(u32::try_from(self.permits.available_permits()).unwrap_or(u32::MAX)));
        permit.map_err(|_| {
            meters.overloaded.increment(1);
            SubmitError::Overloaded { retry_after: RETRY_AFTER }
        })
    }
}
