//! The lease: which instance owns the accounts.
//!
//! One row, timed by the database's clock alone, so that the instances' clocks do not matter. Every owner gets a higher fence
//! number, and every commit asks in its own transaction whether that number is still the newest: an owner that was paused,
//! has lost the lease and wakes up can commit nothing, whatever it believes. A takeover waits for a commit that is under way.
//! Without a fence (a tool, a test) commits are taken only while nobody owns the accounts.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use nexus_actors::ports::LedgerError;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::PostgresStore;
use super::fault::Fault;

/// The lease as its owner has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// Rises with every owner.
    pub fence: i64,
}

/// Who owns the accounts, by the database's clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Its name.
    pub owner: String,
    /// How long ago it was heard of.
    pub renewed_ago: Duration,
    /// When somebody else may take over, unless it renews.
    pub expires_in: Duration,
}

/// What became of an attempt to own the accounts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Acquired {
    /// They are ours.
    Owner(Lease),
    /// They are somebody else's.
    Held(Holder),
}

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

impl PostgresStore {
    /// Tries to own the accounts for `term`. `owner` is this process and no other: whoever comes with the name of the present
    /// owner gets the lease anew, as after an attempt whose answer was lost.
    pub async fn acquire_lease(&self, owner: &str, term: Duration) -> Result<Acquired, LedgerError> {
        let sql = "UPDATE lease SET fence = fence + 1, owner = $1, acquired_at = clock_timestamp(),
                          renewed_at = clock_timestamp(), expires_at = clock_timestamp() + $2 * interval '1 microsecond'
                    WHERE expires_at <= clock_timestamp() OR owner = $1 RETURNING fence";
        let taken = self.control(sqlx::query(sql).bind(owner).bind(micros(term))).await?;
        if let Some(row) = taken {
            let fence = row.try_get(0).map_err(Fault::of)?;
            self.fence.set(fence);
            return Ok(Acquired::Owner(Lease { fence }));
        }
        Ok(Acquired::Held(self.lease_holder().await?.unwrap_or(Holder {
            owner: String::new(),
            renewed_ago: Duration::ZERO,
            expires_in: Duration::ZERO,
        })))
    }

    /// Who owns the accounts, if anybody does. For a standby.
    pub async fn lease_holder(&self) -> Result<Option<Holder>, LedgerError> {
        let sql = "SELECT coalesce(owner, ''), (extract(epoch FROM clock_timestamp() - renewed_at) * 1000000)::bigint,
                          (extract(epoch FROM expires_at - clock_timestamp()) * 1000000)::bigint
                     FROM lease WHERE expires_at > clock_timestamp()";
        let row = self.control(sqlx::query(sql)).await?;
        Ok(row.map(|row| holder(&row)).transpose().map_err(Fault::of)?)
    }

    /// Keeps the accounts for another `term`. False when they are not ours any more: nothing will be committed.
    pub async fn renew_lease(&self, term: Duration) -> Result<bool, LedgerError> {
        let sql = "UPDATE lease SET renewed_at = clock_timestamp(),
                          expires_at = clock_timestamp() + $2 * interval '1 microsecond'
                    WHERE fence = $1 AND owner IS NOT NULL RETURNING fence";
        let renewed = self.control(sqlx::query(sql).bind(self.fence.get()).bind(micros(term))).await?;
        Ok(renewed.is_some())
    }

    /// Gives the accounts back, so that somebody else need not wait for the lease to run out. Nothing is committed afterwards.
    pub async fn release_lease(&self) -> Result<(), LedgerError> {
        let sql = "UPDATE lease SET owner = NULL, expires_at = clock_timestamp() WHERE fence = $1 RETURNING fence";
        let fence = self.fence.get();
        self.fence.set(Fence::RELEASED);
        self.control(sqlx::query(sql).bind(fence)).await?;
        Ok(())
    }
}

fn holder(row: &PgRow) -> Result<Holder, sqlx::Error> {
    let time = |micros: i64| Duration::from_micros(u64::try_from(micros).unwrap_or(0));
    Ok(Holder { owner: row.try_get(0)?, renewed_ago: time(row.try_get(1)?), expires_in: time(row.try_get(2)?) })
}

fn micros(term: Duration) -> i64 {
    i64::try_from(term.as_micros()).unwrap_or(i64::MAX)
}
