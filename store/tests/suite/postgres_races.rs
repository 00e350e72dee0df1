//! PostgreSQL under contention: many who admit at once, and a server that dies in the middle (promises P1, P2 and P5).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nexus_actors::ports::{CommitVerdict, Ledger, LedgerError};
use nexus_engine::account::{Account, Input};
use nexus_engine::limits::Limits;
use nexus_engine::units::Money;
use nexus_store::directory::Directory;
use nexus_store::{PostgresOptions, PostgresStore};
use nexus_testbed::{Kind, with_database};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::Barrier;

use crate::postgres::{read_again, typed};
use crate::server::{PostgresDatabase, execute, options};
use crate::story::{Story, acceptance_of, credentials, limits, money, user_id};

const HANDS: usize = 32;
const COMMITS: usize = 64;

/// Many small trades fit: 0.50 each, up to 9.99.
fn many_small_trades() -> Limits {
    Limits {
        max_risk_percent: "0.1".parse().unwrap(),
        timeframes: [("3H".parse().unwrap(), 1_000)].into(),
        duplicate_window: Duration::ZERO,
        max_open_positions: 1_000,
        max_orders_per_minute: 1_000,
        max_repeated_executions: 1_000,
        ..limits()
    }
}

/// Decides a signal as an actor does: steps what the ledger holds, and reads again when it has moved on.
async fn decide(story: &Story<'_, PostgresStore>, key: &str) -> Option<Money> {
    let record = story.signal(key, "3H", 1);
    loop {
        let mut account = story.load(1).await;
        let turn = story.decide(&mut account, &record);
        let decided = crate::story::decision_of(&turn).verdict.clone();
        match story.commit_one(turn).await {
            CommitVerdict::Committed => {
                return match decided {
                    nexus_engine::account::Verdict::Accepted(acceptance) => Some(acceptance.risk),
                    nexus_engine::account::Verdict::Rejected(_) => None,
                };
            }
            CommitVerdict::Stale { .. } | CommitVerdict::Vetoed { .. } => {}
            CommitVerdict::AlreadyDecided => panic!("nobody else decides {key}"),
        }
    }
}

/// Types acceptances until the ledger has no room for another.
async fn type_by_hand(mut connection: PgConnection, hand: usize) -> Money {
    let mut taken = Money::ZERO;
    for n in 0.. {
        let sql = typed(&format!("hand {hand} {n}"), user_id(1), &[("risk_e8", "50000000")]);
        match sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await {
            Ok(done) if done.rows_affected() == 1 => taken = taken.plus(money("0.50")),
            Ok(_) => return taken,
            Err(error) => {
                assert!(error.to_string().contains("decisions_within_the_cap"), "{error}");
                return taken;
            }
        }
    }
    unreachable!("the range has no end")
}

#[tokio::test]
async fn nobody_admits_above_the_cap_however_many_try_at_once() {
    let database = PostgresDatabase::with(&PostgresOptions { pool_overflow: 16, ..options() }).await;
    Story::begins(database.store(), 0).await;
    let account = Account::open(user_id(1), "USD".into(), Money::whole(500), many_small_trades());
    database.store().create_user(credentials(user_id(1), "ann"), account).await.unwrap();
    let others = [database.another().await, database.another().await, database.another().await];
    let stores: Vec<&PostgresStore> = others.iter().chain([database.store()]).collect();
    let mut connections = Vec::new();
    for hand in 0..HANDS {
        for n in 0..3 {
            let record = Story::resumes(database.store()).signal(&format!("hand {hand} {n}"), "3H", 0);
            database.store().record_signal(record).await.unwrap();
        }
        connections.push(database.raw().await);
    }

    let hands = futures::future::join_all(connections.into_iter().zip(0..).map(|(raw, hand)| type_by_hand(raw, hand)));
    let commits = futures::future::join_all((0..COMMITS).map(|n| {
        let story = Story::resumes(stores[n % stores.len()]);
        async move { decide(&story, &format!("signal {n}")).await }
    }));
    let (typed, decided) = futures::join!(hands, commits);

    let by_hand = typed.into_iter().fold(Money::ZERO, Money::plus);
    let by_engine = decided.into_iter().flatten().fold(Money::ZERO, Money::plus);
    let raw = &mut database.raw().await;
    let mut sum =
        async |sql: &'static str| Money::from_steps(sqlx::query_scalar(sql).fetch_one(&mut *raw).await.unwrap());
    let admitted = sum("SELECT sum(risk_e8)::bigint FROM decisions WHERE verdict = 'accepted'").await;
    let reserved = sum("SELECT reserved_e8 FROM accounts").await;
    assert_eq!((admitted, reserved), (by_hand.plus(by_engine), by_hand.plus(by_engine)));
    assert!(admitted <= money("9.99"), "{admitted}");
    assert!(admitted > money("9.40"), "there is room for another: {admitted}");
}

/// A loss of the day, or another acceptance of the timeframe, that somebody commits while a batch waits for the account.
#[tokio::test]
async fn what_is_committed_while_a_batch_waits_for_the_account_counts() {
    for outside in [
        "INSERT INTO daily_risk VALUES ('{user}', (SELECT day FROM accounts WHERE user_id = '{user}'), -600000000)",
        "INSERT INTO daily_counts VALUES ('{user}', (SELECT day FROM accounts WHERE user_id = '{user}'), '3H', 1)",
    ] {
        let database = PostgresDatabase::with(&options()).await;
        let story = Story::begins(database.store(), 1).await;
        // The account is of this day before anybody looks at it.
        let mut account = story.load(1).await;
        for enabled in [false, true] {
            let turn = story.turn(&mut account, Input::SetTrading(enabled), None);
            assert_eq!(story.commit_one(turn).await, CommitVerdict::Committed);
        }
        let turn = story.decide(&mut account, &story.signal("a", "3H", 1));
        assert_eq!(acceptance_of(&turn).risk, money("5.00"));

        let user = user_id(1).to_string();
        let raw = &mut database.raw().await;
        execute(raw, &format!("BEGIN; SELECT FROM accounts WHERE user_id = '{user}' FOR UPDATE")).await;
        let commit = story.commit_one(turn);
        let meanwhile = async {
            let watcher = &mut database.raw().await;
            let waiting = "SELECT count(*) FROM pg_stat_activity
                            WHERE wait_event_type = 'Lock' AND datname = current_database()";
            let began = Instant::now();
            while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut *watcher).await.unwrap() == 0 {
                assert!(began.elapsed() < Duration::from_secs(4), "nobody waits for the account");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            execute(raw, &format!("{}; COMMIT", outside.replace("{user}", &user))).await;
        };
        let (verdict, ()) = futures::join!(commit, meanwhile);
        assert!(matches!(verdict, CommitVerdict::Vetoed { .. }), "{outside}: {verdict:?}");
    }
}

/// What became of the turns of four users that were always committed together.
#[derive(Default)]
struct Record {
    committed: u64,
    doubted: bool,
}

#[tokio::test]
async fn what_was_reported_survives_a_crash_of_the_server_and_what_is_in_doubt_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let server = Arc::new(Kind::Postgres.private(folder.path()));
    let mut connection = PgConnection::connect(&server.url).await.unwrap();
    execute(&mut connection, "CREATE DATABASE crashing").await;
    let url = with_database(&server.url, "crashing");
    let store = PostgresStore::open(&url, &options()).await.unwrap();
    Story::begins(&store, 12).await;
    let rounds = if std::env::var_os("NEXUS_LONG").is_some() { 50 } else { 8 };
    let mut doubts = 0;
    for round in 0..rounds {
        let groups = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]];
        let all_are_loaded = &Barrier::new(groups.len() + 1);
        let crashing = async {
            all_are_loaded.wait().await;
            let server = Arc::clone(&server);
            let crash = tokio::task::spawn_blocking(move || {
                std::thread::sleep(Duration::from_millis(30 + 37 * (round % 5)));
                server.crash();
            });
            crash.await.unwrap();
        };
        let committing = groups.map(|group| commit_until_it_dies(&store, group, all_are_loaded));
        let (records, ()) = futures::join!(futures::future::join_all(committing), crashing);
        let starting = {
            let server = Arc::clone(&server);
            tokio::task::spawn_blocking(move || server.start())
        };
        // A store that is opened meanwhile waits for the server.
        let patient = PostgresOptions { start_timeout: Duration::from_secs(60), ..options() };
        drop(PostgresStore::open(&url, &patient).await.unwrap());
        starting.await.unwrap();
        serves_again(&store).await;
        let raw = &mut PgConnection::connect(&url).await.unwrap();
        for (group, record) in groups.into_iter().zip(records) {
            doubts += u32::from(record.doubted);
            read_again(&store).await;
            check_group(&store, raw, group, &record).await;
        }
    }
    println!("{doubts} batches were in doubt");
}

async fn commit_until_it_dies(store: &PostgresStore, group: [u128; 4], all_are_loaded: &Barrier) -> Record {
    let story = Story::resumes(store);
    let mut accounts: BTreeMap<u128, Account> = BTreeMap::new();
    for n in group {
        accounts.insert(n, story.load(n).await);
    }
    all_are_loaded.wait().await;
    let mut record = Record { committed: accounts[&group[0]].version, doubted: false };
    loop {
        let mut batch = Vec::new();
        for n in group {
            let account = accounts.get_mut(&n).unwrap();
            let enabled = account.trading_enabled;
            batch.push(story.turn(account, Input::SetTrading(!enabled), None));
        }
        match store.commit(batch).await {
            Ok(verdicts) => {
                assert_eq!(verdicts, vec![CommitVerdict::Committed; 4]);
                record.committed += 1;
            }
            Err(LedgerError::InDoubt(_)) => return Record { doubted: true, ..record },
            Err(LedgerError::Unavailable(_)) => return record,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Without a restart, within five seconds of the server's own start.
async fn serves_again(store: &PostgresStore) {
    let began = Instant::now();
    while let Err(error) = store.ping().await {
        assert!(began.elapsed() < Duration::from_secs(5), "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn check_group(store: &PostgresStore, raw: &mut PgConnection, group: [u128; 4], record: &Record) {
    let story = Story::resumes(store);
    let version = story.load(group[0]).await.version;
    let in_doubt = u64::from(record.doubted);
    assert!((record.committed..=record.committed + in_doubt).contains(&version), "{version} of {}", record.committed);
    for n in group {
        assert_eq!(story.load(n).await.version, version, "a batch is whole or not there");
        let events: i64 = sqlx::query_scalar("SELECT count(*) FROM events WHERE user_id = $1")
            .bind(user_id(n).0)
            .fetch_one(&mut *raw)
            .await
            .unwrap();
        assert_eq!(u64::try_from(events), Ok(version));
    }
}

#[tokio::test]
async fn a_decision_made_while_the_server_is_away_is_unavailable_and_can_be_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Kind::Postgres.private(folder.path());
    let mut connection = PgConnection::connect(&server.url).await.unwrap();
    execute(&mut connection, "CREATE DATABASE away").await;
    let short = PostgresOptions { connect_timeout: Duration::from_millis(500), ..options() };
    let store = PostgresStore::open(&with_database(&server.url, "away"), &short).await.unwrap();
    let story = Story::begins(&store, 1).await;
    let mut account = story.load(1).await;
    let turn = story.decide(&mut account, &story.signal("a", "3H", 1));
    acceptance_of(&turn);
    server.crash();
    // Nothing had been committed, so there was no connection that could have been lost in the middle.
    let refused = store.commit(vec![turn.clone()]).await;
    assert!(matches!(refused, Err(LedgerError::Unavailable(_))), "{refused:?}");
    assert!(matches!(store.load_account(user_id(1), None).await, Err(LedgerError::Unavailable(_))));
    assert!(matches!(store.ping().await, Err(LedgerError::Unavailable(_))));
    server.start();
    assert_eq!(store.commit(vec![turn]).await, Ok(vec![CommitVerdict::Committed]));
    assert_eq!(read_again(&store).await, account);
}
