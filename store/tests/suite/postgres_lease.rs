//! PostgreSQL: who owns the accounts, and that nobody else commits.
//!
//! Two instances on one database, each a store of its own; the database's clock alone says whose turn it is. What sends may
//! do meanwhile is the actors' business.

use std::time::{Duration, Instant};

use nexus_actors::ports::{Acquired, CommitVerdict, Lease, Ledger, LedgerError, TurnRecord};
use nexus_engine::account::Input;
use nexus_store::PostgresStore;

use crate::contract::Database;
use crate::postgres::{TERM, number};
use crate::server::{PostgresDatabase, execute};
use crate::story::{Story, user_id};

pub async fn lone_turn(store: &PostgresStore, n: u128) -> TurnRecord {
    let story = Story::resumes(store);
    let mut account = story.load(n).await;
    let enabled = account.trading_enabled;
    story.turn(&mut account, Input::SetTrading(!enabled), None)
}

/// Whether a new signal is known to be new although nobody can ask the table.
async fn is_known_to_be_new(database: &PostgresDatabase, store: &PostgresStore, key: &str) -> bool {
    let raw = &mut database.raw().await;
    execute(raw, "ALTER TABLE signals RENAME TO hidden").await;
    let found = store.find_signal(Story::resumes(store).signal(key, "3H", 1).signal.id).await;
    execute(raw, "ALTER TABLE hidden RENAME TO signals").await;
    assert!(matches!(found, Ok(None) | Err(_)), "{found:?}");
    found.is_ok()
}

#[tokio::test]
async fn an_owner_asks_for_no_signal_that_is_certainly_new_and_finds_every_other_one() {
    let database = PostgresDatabase::fresh().await;
    let story = Story::begins(database.store(), 2).await;
    let mut account = story.load(1).await;
    let (decided, recorded) = (story.signal("decided", "3H", 1), story.signal("recorded", "3H", 1));
    story.accepted(&mut account, &decided).await;
    database.store().record_signal(recorded.clone()).await.unwrap();
    assert!(!is_known_to_be_new(&database, database.store(), "new").await, "nobody owns what others may write");

    let owner = database.another().await;
    assert!(matches!(owner.acquire("owner", TERM).await, Ok(Acquired::Owner { .. })));
    let began = Instant::now();
    while !is_known_to_be_new(&database, &owner, "new").await {
        assert!(began.elapsed() < TERM, "what is recorded was not read");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (story, mut account) = (Story::resumes(&owner), owner.load_account(user_id(2), None).await.unwrap().unwrap());
    let [own, written] = ["own", "written"].map(|key| story.signal(key, "3H", 1));
    story.accepted(&mut account, &own).await;
    owner.record_signal(written.clone()).await.unwrap();
    for signal in [&decided, &recorded, &own, &written] {
        let found = owner.find_signal(signal.signal.id).await.unwrap();
        assert_eq!(found.map(|record| record.signal.key.clone()), Some(signal.signal.key.clone()));
    }
    assert!(is_known_to_be_new(&database, &owner, "newer").await);
    owner.release().await.unwrap();
    assert!(!is_known_to_be_new(&database, &owner, "newest").await, "the next owner may have written it");
}

#[tokio::test]
async fn a_former_owner_commits_nothing() {
    let database = PostgresDatabase::fresh().await;
    Story::begins(database.store(), 2).await;
    let (old, new) = (database.store(), database.another().await);
    let lost = |outcome: Result<_, LedgerError>| match outcome {
        Err(LedgerError::Unavailable(words)) => assert!(words.contains("the lease was lost"), "{words}"),
        outcome => panic!("{outcome:?}"),
    };
    let short = Duration::from_millis(300);
    let Ok(Acquired::Owner { fence: first, former: None }) = old.acquire("old", short).await else {
        panic!("nobody has owned the accounts before")
    };
    assert_eq!(old.renew(short).await, Ok(true));
    match new.acquire("new", TERM).await.unwrap() {
        Acquired::Held(holder) => assert_eq!(holder.owner, "old"),
        owner @ Acquired::Owner { .. } => panic!("{owner:?} while another owns the accounts"),
    }
    lost(new.commit(vec![lone_turn(&new, 1).await]).await);
    assert_eq!(old.commit(vec![lone_turn(old, 1).await]).await, Ok(vec![CommitVerdict::Committed]));

    let began = Instant::now();
    let (second, former) = loop {
        match new.acquire("new", TERM).await.unwrap() {
            Acquired::Owner { fence, former } => break (fence, former.expect("the old owner")),
            Acquired::Held(_) if began.elapsed() < TERM => tokio::time::sleep(Duration::from_millis(20)).await,
            Acquired::Held(holder) => panic!("{holder:?}"),
        }
    };
    assert!(second > first);
    assert!(former.owner == "old" && (short..TERM).contains(&former.renewed_ago), "{former:?}");
    lost(old.commit(vec![lone_turn(old, 1).await]).await);
    lost(old.record_signal(Story::resumes(old).signal("late", "3H", 1)).await.map(|()| vec![]));
    assert_eq!(old.renew(TERM).await, Ok(false));
    assert_eq!(new.commit(vec![lone_turn(&new, 1).await]).await, Ok(vec![CommitVerdict::Committed]));
    match old.acquire("old", TERM).await.unwrap() {
        Acquired::Held(holder) => assert_eq!(holder.owner, "new"),
        owner @ Acquired::Owner { .. } => panic!("{owner:?} while another owns the accounts"),
    }
    // The same process again, after a kill: it does not wait for itself.
    let again = new.acquire("new", TERM).await;
    assert!(matches!(again, Ok(Acquired::Owner { fence, former: None }) if fence > second), "{again:?}");

    new.release().await.unwrap();
    lost(new.commit(vec![lone_turn(&new, 1).await]).await);
    let taken = old.acquire("old", TERM).await;
    assert!(
        matches!(taken, Ok(Acquired::Owner { former: None, .. })),
        "what was given back has no former owner: {taken:?}"
    );
    assert_eq!(old.commit(vec![lone_turn(old, 1).await]).await, Ok(vec![CommitVerdict::Committed]));
}

#[tokio::test]
async fn whoever_stands_by_does_not_hold_up_the_owner() {
    let database = PostgresDatabase::fresh().await;
    let (owner, standby) = (database.store(), database.another().await);
    owner.acquire("owner", TERM).await.unwrap();
    let raw = &mut database.raw().await;
    // A commit that is under way holds the fence; a look at it must neither wait for that nor queue before the next one.
    execute(raw, "BEGIN; SELECT hold_fence((SELECT fence FROM lease))").await;
    let looked = tokio::time::timeout(Duration::from_secs(4), standby.acquire("standby", TERM)).await;
    assert!(matches!(looked, Ok(Ok(Acquired::Held(_)))), "{looked:?}");
    execute(raw, "COMMIT").await;
}

#[tokio::test]
async fn a_takeover_waits_for_the_commit_that_is_under_way() {
    let database = PostgresDatabase::fresh().await;
    let (old, new) = (database.store(), database.another().await);
    let Ok(Acquired::Owner { fence, .. }) = old.acquire("old", Duration::ZERO).await else {
        panic!("nobody owns them")
    };
    let raw = &mut database.raw().await;
    execute(raw, &format!("BEGIN; SELECT hold_fence({fence})")).await;
    assert_eq!(old.renew(Duration::ZERO).await, Ok(true), "the owner itself is not kept from renewing");
    let mut takeover = new.acquire("new", TERM);
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let watcher = &mut database.raw().await;
    let began = Instant::now();
    loop {
        let early = tokio::time::timeout(Duration::from_millis(20), &mut takeover).await;
        assert!(early.is_err(), "the takeover did not wait: {early:?}");
        if number(watcher, waiting).await == 1 {
            break;
        }
        assert!(began.elapsed() < TERM, "the takeover is not waiting for a lock");
    }
    execute(raw, "COMMIT").await;
    assert!(matches!(takeover.await, Ok(Acquired::Owner { .. })));
}
