//! PostgreSQL: accounts are written whole now and then, and read back with the turns since.

use nexus_actors::ports::{Acquired, CommitVerdict, Lease, Ledger, LedgerError};
use nexus_engine::account::{Account, Input};
use nexus_store::PostgresStore;

use crate::contract::Database;
use crate::postgres::{TERM, number};
use crate::server::PostgresDatabase;
use crate::story::{Story, user_id};

/// Turns from one snapshot to the next.
const EVERY: i64 = 16;

const BEHIND: &str =
    "SELECT coalesce(max(a.version - coalesce(s.version, 0)), 0) FROM accounts a LEFT JOIN snapshots s USING (user_id)";

async fn toggle(story: &Story<'_, PostgresStore>, account: &mut Account) {
    let turn = story.turn(account, Input::SetTrading(!account.trading_enabled), None);
    assert_eq!(story.commit_one(turn).await, CommitVerdict::Committed);
}

#[tokio::test]
async fn after_every_turn_an_account_is_read_back_as_it_is_from_fewer_turns_than_sixteen() {
    let database = PostgresDatabase::fresh().await;
    let story = Story::begins(database.store(), 2).await;
    let raw = &mut database.raw().await;
    let mut account = story.load(1).await;
    story.accepted(&mut account, &story.signal("a", "3H", 1)).await;
    for _ in 0..40 {
        toggle(&story, &mut account).await;
        assert_eq!(story.load(1).await, account);
        assert!(number(raw, BEHIND).await < EVERY);
    }
    // Two turns as one step, wherever the snapshot falls.
    for _ in 0..EVERY {
        let both = [false, true].map(|enabled| story.turn(&mut account, Input::SetTrading(enabled), None));
        let both: Vec<_> = both.into_iter().filter(|turn| !turn.turn.events.is_empty()).collect();
        assert!(story.commit(both).await.iter().all(|verdict| *verdict == CommitVerdict::Committed));
        assert_eq!(story.load(1).await, account);
        assert!(number(raw, BEHIND).await < EVERY);
    }
    let database = database.reopen().await;
    assert_eq!(Story::resumes(database.store()).load(1).await, account);
}

#[tokio::test]
async fn turns_that_do_not_lead_to_what_is_recorded_make_nobody_an_account() {
    let database = PostgresDatabase::fresh().await;
    let story = Story::begins(database.store(), 2).await;
    for user in [1, 2] {
        let mut account = story.load(user).await;
        for _ in 0..5 {
            toggle(&story, &mut account).await;
        }
    }
    database.written_whole().await;
    let (user, other) = (user_id(1), story.load(2).await);
    let kept = ["CREATE TABLE kept AS SELECT * FROM events".to_owned(), "DELETE FROM snapshots".to_owned()];
    database.alter(&kept).await;
    for (sql, words) in [
        ("UPDATE events SET input = replace(input, 'true', 'false')", "does not lead to what is recorded"),
        ("UPDATE events SET events = replace(events, 'false', 'true')", "does not lead to what is recorded"),
        ("UPDATE events SET input = '{}'", ""),
        ("DELETE FROM events WHERE version = 5", "lead to version 4, not to 5"),
        ("DELETE FROM events WHERE version = 2", "does not lead to what is recorded"),
    ] {
        let alter = if sql.contains("WHERE") {
            format!("{sql} AND user_id = '{user}'")
        } else {
            format!("{sql} WHERE user_id = '{user}'")
        };
        assert!(database.alter(&[alter]).await > 0, "{sql}");
        match database.store().load_account(user, None).await {
            Err(LedgerError::Corrupt(said)) => assert!(said.contains(words), "{sql}: {said}"),
            loaded => panic!("{sql}: {loaded:?}"),
        }
        assert_eq!(story.load(2).await, other, "somebody else's record is not his affair");
        database.alter(&["DELETE FROM events".to_owned(), "INSERT INTO events SELECT * FROM kept".to_owned()]).await;
        assert_eq!(story.load(1).await.version, 5);
    }
}

#[tokio::test]
async fn whoever_gives_the_lease_back_leaves_every_account_whole() {
    let database = PostgresDatabase::fresh().await;
    let store = database.store();
    let story = Story::begins(store, 3).await;
    assert!(matches!(store.acquire("owner", TERM).await, Ok(Acquired::Owner { .. })));
    for user in [1, 2, 3] {
        toggle(&story, &mut story.load(user).await).await;
    }
    store.release().await.unwrap();
    assert_eq!(number(&mut database.raw().await, BEHIND).await, 0);
}
