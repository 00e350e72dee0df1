//! The lease: which instance owns the accounts.
//!
//! One row, timed by the database's clock alone, so that the instances' clocks do not matter. Every owner gets a higher fence
//! number, and every commit asks in its own transaction whether that number is still the newest: an owner that was paused,
//! has lost the lease and wakes up can commit nothing, whatever it believes. A takeover waits for a commit that is under way.
//! Without a fence (a tool, a test) commits are taken only while nobody owns the accounts.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use nexus_actors::ports::{Acquired, Holder, Lease, LedgerError};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::PostgresStore;
use super::fault::Fault;

/// The fence that commits are made under.
#[derive(Default)]
pub(super) struct Fence(AtomicI64);

impl Fence {
    /// Nobody's: commits while nobody owns the accounts.
    const NONE: i64 = 0;
    /// Given back: commits nothing any more. No row has this fence.
    const RELEASED: i64 = -1;

    pub(super) fn get(&self) -> Option<i64> {
        Some(self.0.load(Ordering::SeqCst)).filter(|fence| *fence != Self::NONE)
    }

    fn set(&self, fence: i64) {
        self.0.store(fence, Ordering::SeqCst);
    }
}

impl Lease for PostgresStore {
    fn acquire<'a>(&'a self, owner: &'a str, term: Duration) -> BoxFuture<'a, Result<Acquired, LedgerError>> {
        // Looked at without a lock while it is held: whoever stands by must not slow down the owner's commits. The row as it
        // was is locked first: its new owner wants to know when the old one was last heard of.
        let sql = "WITH former AS (
                       SELECT id, owner, clock_timestamp() - renewed_at AS age FROM lease
                        WHERE expires_at <= clock_timestamp() OR owner = $1 FOR UPDATE),
                   taken AS (
                       UPDATE lease SET fence = fence + 1, owner = $1, acquired_at = clock_timestamp(),
                              renewed_at = clock_timestamp(), expires_at = clock_timestamp() + $2 * interval '1 microsecond'
                         FROM former WHERE lease.id = former.id RETURNING fence, former.owner, former.age)
                   SELECT t.fence, CASE WHEN t.fence IS NULL THEN l.owner ELSE t.owner END,
                          (extract(epoch FROM CASE WHEN t.fence IS NULL THEN clock_timestamp() - l.renewed_at
                                                   WHEN t.owner IS NOT NULL THEN t.age END) * 1000000)::bigint
                     FROM lease l LEFT JOIN taken t ON true";
        async move {
            let row = self.control(sqlx::query(sql).bind(owner).bind(micros(term))).await?;
            let row = row.ok_or_else(|| LedgerError::Corrupt("the lease has no row".to_owned()))?;
            let (fence, former) = taken(&row).map_err(Fault::of)?;
            let Some(fence) = fence else {
                // Nameless when somebody else was faster to take what had just been given back.
                let nameless = Holder { owner: String::new(), renewed_ago: Duration::ZERO };
                return Ok(Acquired::Held(former.unwrap_or(nameless)));
            };
            self.fence.set(fence);
            let held = Arc::clone(&self.fence);
            self.newness.learn(self.pool.clone(), fence, self.patience, move || held.get() == Some(fence));
            let fence = u64::try_from(fence).map_err(|_| LedgerError::Corrupt("a negative fence".to_owned()))?;
            Ok(Acquired::Owner { fence, former: former.filter(|former| former.owner != owner) })
        }
        .boxed()
    }

    fn renew(&self, term: Duration) -> BoxFuture<'_, Result<bool, LedgerError>> {
        let sql = "UPDATE lease SET renewed_at = clock_timestamp(),
                          expires_at = clock_timestamp() + $2 * interval '1 microsecond'
                    WHERE fence = $1 AND owner IS NOT NULL RETURNING fence";
        async move {
            let renewed = self.control(sqlx::query(sql).bind(self.fence.get()).bind(micros(term))).await?;
            Ok(renewed.is_some())
        }
        .boxed()
    }

    fn was_away_at(&self) -> Option<Instant> {
        self.away_at
    }

    fn release(&self) -> BoxFuture<'_, Result<(), LedgerError>> {
        let sql = "UPDATE lease SET owner = NULL, expires_at = clock_timestamp() WHERE fence = $1 RETURNING fence";
        async move {
            // Whoever comes next may be another program, which had better not take turns again that this one has taken.
            if let Err(fault) = self.writers.catch_up().await {
                tracing::warn!(%fault, "accounts are not written whole; their last turns will be taken again");
            }
            let fence = self.fence.get();
            self.fence.set(Fence::RELEASED);
            self.control(sqlx::query(sql).bind(fence)).await?;
            Ok(())
        }
        .boxed()
    }
}

/// The new fence, if it was given, and who had the lease before.
fn taken(row: &PgRow) -> Result<(Option<i64>, Option<Holder>), sqlx::Error> {
    let (owner, micros): (Option<String>, Option<i64>) = (row.try_get(1)?, row.try_get(2)?);
    let ago = Duration::from_micros(u64::try_from(micros.unwrap_or_default()).unwrap_or(0));
    Ok((row.try_get(0)?, owner.map(|owner| Holder { owner, renewed_ago: ago })))
}

fn micros(term: Duration) -> i64 {
    i64::try_from(term.as_micros()).unwrap_or(i64::MAX)
}
