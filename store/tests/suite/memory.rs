//! The in-process hot state: the contract, and its bounds.

use std::sync::Arc;

use nexus_actors::ports::HotState;
use nexus_store::MemoryHotState;

use crate::contract::Place;
use crate::story::{account, user_id};

impl Place for MemoryHotState {
    type Hot = MemoryHotState;

    async fn fresh() -> Self {
        MemoryHotState::default()
    }

    fn hot(&self) -> &MemoryHotState {
        self
    }

    async fn settle(&self) {}
}

hot_contract!(MemoryHotState);

#[tokio::test]
async fn snapshots_are_bounded_and_those_in_use_stay() {
    let hot = MemoryHotState::with_accounts_max(10);
    for n in 1..=1_000 {
        hot.put_account(Arc::new(account(user_id(n))));
        assert!(hot.account(user_id(1)).await.is_some(), "what is asked for all the time stays, at {n}");
    }
    let mut kept = 0;
    for n in 1..=1_000 {
        kept += usize::from(hot.account(user_id(n)).await.is_some());
    }
    assert!((2..=10).contains(&kept), "{kept} snapshots are kept");
}

#[tokio::test]
async fn expired_revocations_are_cleared_out_and_living_ones_kept() {
    let hot = MemoryHotState::default();
    hot.revoke_token("living".into(), i64::MAX);
    for n in 0..5_000 {
        hot.revoke_token(format!("expired {n}").into(), 1);
    }
    assert!(hot.is_revoked("living").await);
    assert!(!hot.is_revoked("expired 0").await);
}
