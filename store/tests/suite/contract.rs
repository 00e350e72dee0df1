//! What the cases of a contract need of an implementation.

use nexus_actors::ports::{HotState, Ledger};
use nexus_engine::ids::UserId;
use nexus_engine::units::Money;
use nexus_store::LedgerReplay;
use nexus_store::directory::Directory;

/// A database of its own for one case. It is gone when this is dropped.
pub trait Database: Sized {
    type Store: Ledger + Directory;
    /// The table and the column that hold accounts as a whole.
    const SNAPSHOT: (&str, &str);

    /// A new, empty one.
    async fn fresh() -> Self;
    fn store(&self) -> &Self::Store;
    /// Closes the store and opens it again on the same data.
    async fn reopen(self) -> Self;
    /// What another program may do with the same data: adds to a user's reserved risk, past the store.
    async fn reserve_behind_its_back(&self, user: UserId, risk: Money);
    /// The same for the day's realised profit and loss.
    async fn realize_behind_its_back(&self, user: UserId, day: &str, realized: Money);
    /// What somebody may do who owns the data: statements with everything that guards it out of the way. Says how many rows
    /// the last one has changed.
    async fn alter(&self, sql: &[String]) -> u64;
    /// Waits until every account is written as a whole after its newest turn.
    async fn written_whole(&self);
    /// The same data, opened to be taken again.
    async fn replay(&self) -> LedgerReplay;
}

/// A hot state of its own for one case.
pub trait Place: Sized {
    type Hot: HotState;

    /// A new, empty one.
    async fn fresh() -> Self;
    fn hot(&self) -> &Self::Hot;
    /// Waits until what was put can be read.
    async fn settle(&self);
}

/// Makes a test of each case, run against one implementation.
macro_rules! cases {
    ($suite:ident, $kind:ty: $($case:ident,)+) => {
        $(
            #[tokio::test]
            async fn $case() {
                $crate::$suite::$case(<$kind>::fresh().await).await;
            }
        )+
    };
}
