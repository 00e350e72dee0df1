//! The contract of the hot state port: the newest stays, whatever the order of arrival.

use std::sync::Arc;

use nexus_actors::ports::HotState;
use nexus_engine::account::Account;
use nexus_engine::ids::Timestamp;
use nexus_engine::instrument::Mark;

use crate::contract::Place;
use crate::story::{account, user_id};

/// Runs the whole contract against one implementation.
macro_rules! hot_contract {
    ($place:ty) => {
        cases! { hot_contract, $place:
            the_newest_snapshot_stays,
            a_snapshot_proven_wrong_is_forgotten,
            the_newest_mark_stays,
            a_revoked_token_is_known,
        }
    };
}

fn at_version(version: u64) -> Arc<Account> {
    Arc::new(Account { version, ..account(user_id(1)) })
}

pub async fn the_newest_snapshot_stays<P: Place>(place: P) {
    let hot = place.hot();
    assert_eq!(hot.account(user_id(1)).await, None);
    for (put, expected) in [(2, 2), (1, 2), (3, 3)] {
        hot.put_account(at_version(put));
        assert_eq!(hot.account(user_id(1)).await, Some(at_version(expected)));
    }
    assert_eq!(hot.account(user_id(2)).await, None);
}

pub async fn a_snapshot_proven_wrong_is_forgotten<P: Place>(place: P) {
    let hot = place.hot();
    hot.put_account(at_version(2));
    hot.forget_account(user_id(1));
    assert_eq!(hot.account(user_id(1)).await, None);
    hot.put_account(at_version(1));
    assert_eq!(hot.account(user_id(1)).await, Some(at_version(1)));
}

pub async fn the_newest_mark_stays<P: Place>(place: P) {
    let hot = place.hot();
    let mark = |at| Mark {
        symbol: "EURUSD".parse().unwrap(),
        bid: "1.08490".parse().unwrap(),
        ask: "1.08500".parse().unwrap(),
        at: Timestamp::from_micros(at),
    };
    let symbol = mark(0).symbol;
    assert_eq!(hot.mark(&symbol).await, None);
    for (put, expected) in [(2, 2), (1, 2), (3, 3)] {
        hot.put_mark(mark(put));
        assert_eq!(hot.mark(&symbol).await, Some(mark(expected)));
    }
}

pub async fn a_revoked_token_is_known<P: Place>(place: P) {
    let hot = place.hot();
    assert!(!hot.is_revoked("token").await);
    hot.revoke_token("token".into(), i64::MAX);
    assert!(hot.is_revoked("token").await);
    assert!(!hot.is_revoked("other").await);
}
