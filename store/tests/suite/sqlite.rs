//! SQLite: the contracts, and what only a file can do: be newer, edited, locked, full, read-only, or written by others.

use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::Duration;

use nexus_actors::ports::{CommitVerdict, Ledger, LedgerError};
use nexus_engine::account::Input;
use nexus_engine::ids::UserId;
use nexus_engine::order::News;
use nexus_engine::units::Money;
use nexus_store::directory::{Directory, PageRequest};
use nexus_store::{LedgerReplay, OpenError, SqliteOptions, SqliteStore};
use rusqlite::{Connection, params};

use crate::contract::Database;
use crate::replay_contract::is_of_one_moment;
use crate::story::{Story, acceptance_of, make_user, money, user_id};

/// A store in a folder of its own.
pub struct SqliteFile {
    store: SqliteStore,
    folder: tempfile::TempDir,
}

impl SqliteFile {
    fn with(options: &SqliteOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open_with(&folder.path().join("ledger.db"), options).unwrap();
        Self { store, folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("ledger.db")
    }

    /// What another program sees.
    fn raw(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    fn close(self) -> tempfile::TempDir {
        self.folder
    }
}

impl Database for SqliteFile {
    type Store = SqliteStore;
    const SNAPSHOT: (&str, &str) = ("accounts", "snapshot");

    async fn fresh() -> Self {
        Self::with(&SqliteOptions::default())
    }

    fn store(&self) -> &SqliteStore {
        &self.store
    }

    async fn reopen(self) -> Self {
        let Self { store, folder } = self;
        drop(store);
        let store = SqliteStore::open(&folder.path().join("ledger.db")).unwrap();
        Self { store, folder }
    }

    async fn reserve_behind_its_back(&self, user: UserId, risk: Money) {
        let sql = "UPDATE accounts SET reserved_e8 = reserved_e8 + ?2 WHERE user_id = ?1";
        assert_eq!(self.raw().execute(sql, params![user.to_string(), risk.steps()]), Ok(1));
    }

    async fn realize_behind_its_back(&self, user: UserId, day: &str, realized: Money) {
        let sql = "INSERT INTO daily_risk VALUES (?1, ?2, ?3)
                   ON CONFLICT DO UPDATE SET realized_e8 = realized_e8 + excluded.realized_e8";
        assert_eq!(self.raw().execute(sql, params![user.to_string(), day, realized.steps()]), Ok(1));
    }

    async fn alter(&self, sql: &[String]) -> u64 {
        let raw = self.raw();
        raw.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON").unwrap();
        let mut triggers = raw.prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger'").unwrap();
        let names: Vec<String> = triggers.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        drop(triggers);
        for name in names {
            raw.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
        }
        let run = |sql: &String| raw.execute(sql, []).unwrap_or_else(|error| panic!("{sql}: {error}"));
        sql.iter().map(run).last().unwrap().try_into().unwrap()
    }

    /// They are, with every turn.
    async fn written_whole(&self) {}

    async fn replay(&self) -> LedgerReplay {
        LedgerReplay::of_sqlite(&self.path()).unwrap()
    }
}

mod ledger {
    ledger_contract!(super::SqliteFile);
    use crate::contract::Database;
}
mod directory {
    directory_contract!(super::SqliteFile);
    use crate::contract::Database;
}
mod replay {
    replay_contract!(super::SqliteFile);
    use crate::contract::Database;
}

fn page() -> PageRequest {
    PageRequest { limit: 100, after: None }
}

#[test]
fn the_folder_and_the_file_are_made_and_migrated_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/ledger.db");
    for _ in 0..2 {
        drop(SqliteStore::open(&path).unwrap());
    }
    let raw = Connection::open(&path).unwrap();
    let applied: Vec<(i64, String)> = raw
        .prepare("SELECT version, name FROM schema_migrations ORDER BY version")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(
        applied,
        [(1, "ledger"), (2, "views"), (3, "identity"), (4, "scopes")].map(|(version, name)| (version, name.to_owned()))
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_of_one_moment() {
    is_of_one_moment(SqliteFile::fresh().await).await;
}

#[tokio::test]
async fn only_a_ledger_of_this_program_is_replayed() {
    let file = SqliteFile::fresh().await;
    let opened = |change: &str| {
        file.raw().execute_batch(change).unwrap();
        LedgerReplay::of_sqlite(&file.path()).err()
    };
    assert!(opened("").is_none());
    let edited = opened("UPDATE schema_migrations SET text = text || ' ' WHERE version = 2");
    assert!(matches!(edited, Some(OpenError::ChangedMigration { version: 2, .. })), "{edited:?}");
    let older = opened("DELETE FROM schema_migrations WHERE version = 4");
    assert!(matches!(older, Some(OpenError::OlderSchema { found: 3, known: 4 })), "{older:?}");
    let newer = opened("INSERT INTO schema_migrations VALUES (99, 'later', '2030-01-01', '')");
    assert!(matches!(newer, Some(OpenError::NewerSchema { found: 99, known: 4 })), "{newer:?}");
    let nowhere = file.folder.path().join("nowhere.db");
    assert!(LedgerReplay::of_sqlite(&nowhere).is_err() && !nowhere.exists());
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let file = SqliteFile::fresh().await;
    file.raw().execute("INSERT INTO schema_migrations VALUES (99, 'later', '2030-01-01', '')", []).unwrap();
    let path = file.path();
    let folder = file.close();
    let opened = SqliteStore::open(&path).err();
    assert!(matches!(opened, Some(OpenError::NewerSchema { found: 99, known: 4 })), "{opened:?}");
    drop(folder);
}

#[tokio::test]
async fn an_edited_migration_is_refused() {
    let file = SqliteFile::fresh().await;
    file.raw().execute("UPDATE schema_migrations SET text = text || ' ' WHERE version = 1", []).unwrap();
    let path = file.path();
    let folder = file.close();
    let opened = SqliteStore::open(&path).err();
    assert!(matches!(opened, Some(OpenError::ChangedMigration { version: 1, .. })), "{opened:?}");
    drop(folder);
}

#[tokio::test]
async fn a_ping_writes_so_that_a_full_disk_is_not_called_well() {
    let file = SqliteFile::fresh().await;
    let store = file.store();
    let log = format!("{}-wal", file.path().display());
    let length = || std::fs::metadata(&log).unwrap().len();
    let before = length();
    store.ping().await.unwrap();
    assert!(length() > before);
}

#[tokio::test]
async fn a_file_that_was_moved_away_takes_nothing_until_it_is_back() {
    let file = SqliteFile::fresh().await;
    let story = Story::begins(file.store(), 1).await;
    let mut account = story.load(1).await;
    let away = file.path().with_extension("away");
    std::fs::rename(file.path(), &away).unwrap();
    let turn = story.turn(&mut account, Input::SetTrading(false), None);
    let moved = |result| matches!(result, Err(LedgerError::Unavailable(_)));
    assert!(moved(story.store.commit(vec![turn.clone()]).await.map(drop)));
    assert!(moved(story.store.ping().await));
    std::fs::write(file.path(), "another file").unwrap();
    assert!(moved(story.store.commit(vec![turn.clone()]).await.map(drop)), "another file is not the ledger");
    std::fs::rename(&away, file.path()).unwrap();
    assert_eq!(story.commit(vec![turn]).await, [CommitVerdict::Committed]);
    assert_eq!(story.load(1).await, account);
}

#[tokio::test]
async fn a_locked_file_is_unavailable_until_it_is_free_and_can_be_read_meanwhile() {
    let file = SqliteFile::with(&SqliteOptions { busy_timeout: Duration::from_millis(50), ..SqliteOptions::default() });
    let story = Story::begins(file.store(), 1).await;
    let mut account = story.load(1).await;
    let turn = story.decide(&mut account, &story.signal("a", "3H", 1));
    let other = file.raw();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = story.store.commit(vec![turn.clone()]).await;
    assert!(matches!(refused, Err(LedgerError::Unavailable(_))), "{refused:?}");
    assert!(matches!(story.store.ping().await, Err(LedgerError::Unavailable(_))));
    assert_eq!(story.load(1).await.version, 0);
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(story.commit_one(turn).await, CommitVerdict::Committed);
    story.store.ping().await.unwrap();
}

#[tokio::test]
async fn a_read_does_not_wait_behind_the_writer() {
    let file = SqliteFile::fresh().await;
    let story = Story::begins(file.store(), 1).await;
    let mut account = story.load(1).await;
    let turn = story.turn(&mut account, Input::SetTrading(false), None);
    let other = file.raw();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut commit = story.store.commit(vec![turn]);
    assert!(futures::poll!(&mut commit).is_pending());
    assert_eq!(story.load(1).await.version, 0);
    assert!(futures::poll!(&mut commit).is_pending(), "the writer still waits for its lock");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(commit.await, Ok(vec![CommitVerdict::Committed]));
}

#[tokio::test]
async fn a_full_ledger_refuses_and_keeps_what_it_has() {
    let file = SqliteFile::with(&SqliteOptions { pages_max: Some(120), ..SqliteOptions::default() });
    let story = Story::begins(file.store(), 1).await;
    let mut account = story.load(1).await;
    let mut committed = account.clone();
    let refused = loop {
        let enabled = account.trading_enabled;
        let turn = story.turn(&mut account, Input::SetTrading(!enabled), None);
        match story.store.commit(vec![turn]).await {
            Ok(verdicts) => assert_eq!(verdicts, [CommitVerdict::Committed]),
            Err(error) => break error,
        }
        committed = account.clone();
        assert!(account.version < 10_000, "the ledger never fills up");
    };
    assert!(matches!(refused, LedgerError::Unavailable(_)), "{refused:?}");
    assert!(committed.version > 10);
    assert_eq!(story.load(1).await, committed);
    // With room again, the account goes on where it was.
    let file = file.reopen().await;
    let story = Story::resumes(file.store());
    let turn = story.turn(&mut committed, Input::SetQuarantine(true), None);
    assert_eq!(story.commit_one(turn).await, CommitVerdict::Committed);
}

#[tokio::test]
async fn a_read_only_file_is_not_opened_for_trading() {
    let file = SqliteFile::fresh().await;
    make_user(file.store(), user_id(1), "ann").await;
    assert!(file.store().user(user_id(1)).await.unwrap().is_some());
    let path = file.path();
    let folder = file.close();
    assert!(!path.with_extension("db-wal").exists(), "closing folds the log into the file");
    // A file of a later write version must be treated as read-only (file format, offset 18).
    let mut raw = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    raw.seek(SeekFrom::Start(18)).unwrap();
    raw.write_all(&[3]).unwrap();
    drop(raw);
    let opened = SqliteStore::open(&path).err();
    assert!(matches!(opened, Some(OpenError::Sqlite(_))), "{opened:?}");
    drop(folder);
}

#[tokio::test]
async fn the_tables_themselves_refuse_what_the_ledger_would() {
    let file = SqliteFile::fresh().await;
    let story = Story::begins(file.store(), 2).await;
    let mut account = story.load(1).await;
    let record = story.signal("a", "3H", 2);
    story.accepted(&mut account, &record).await;
    let raw = file.raw();
    raw.pragma_update(None, "foreign_keys", true).unwrap();

    // A copy of the acceptance for the other user, changed here and there.
    let copy = |changes: &str| {
        let sql = format!(
            "INSERT INTO decisions SELECT * FROM (
                 SELECT NULL AS seq, '{id}' AS id, signal_id, '{user}' AS user_id, at_us, verdict, reasons,
                        '00000000000000000000000000000002-e' AS client_order_id, symbol, side, timeframe, kind, price_e8,
                        quantity_e8, sized_at_e8, stop_loss_e8, take_profit_e8, {changes}, equity_e8, expires_at_us, venue
                   FROM decisions WHERE verdict = 'accepted' LIMIT 1)",
            id = user_id(2),
            user = user_id(2),
        );
        raw.execute(&sql, []).map_err(|error| error.to_string())
    };
    let refused = |changes: &str, why: &str| {
        let error = copy(changes).expect_err(changes);
        assert!(error.contains(why), "{changes}: {error}");
    };
    refused("risk_e8, 600000000, 999000000, risk_max_e8", "CHECK constraint failed");
    refused("risk_e8 + 1, 0, 999000000, risk_max_e8", "CHECK constraint failed");
    refused("risk_e8, 0, 1000000000, risk_max_e8", "a higher cap than the user has");
    refused("NULL, 0, 999000000, risk_max_e8", "CHECK constraint failed");
    raw.execute("UPDATE accounts SET open_e8 = 100000000 WHERE user_id = ?1", [user_id(2).to_string()]).unwrap();
    refused("risk_e8, 99999999, 999000000, risk_max_e8", "less use of the cap");
    assert_eq!(copy("risk_e8, 100000000, 999000000, risk_max_e8"), Ok(1));

    for (sql, why) in [
        ("UPDATE decisions SET risk_e8 = 0", "a decision is never changed"),
        ("UPDATE events SET events = '[]'", "an event is never changed"),
        (
            "INSERT INTO orders VALUES (NULL, 'x', 'x', 'x', 'entry', 'EURUSD', 'buy', 'market', NULL, 1, 0, 0, 0,
                                        'working', 0, 0, 'paper', 0)",
            "no accepted decision permits this order",
        ),
    ] {
        let error = raw.execute(sql, []).expect_err(sql).to_string();
        assert!(error.contains(why), "{sql}: {error}");
    }
}

#[tokio::test]
async fn people_can_read_the_record() {
    let file = SqliteFile::fresh().await;
    let mut story = Story::begins(file.store(), 1).await;
    let mut account = story.load(1).await;
    let turn = story.decide(&mut account, &story.signal("a", "3H", 1));
    let order = acceptance_of(&turn).order;
    assert_eq!(story.commit_one(turn).await, CommitVerdict::Committed);
    let line = |sql: &str| -> String { file.raw().query_row(sql, [], |row| row.get(0)).unwrap() };
    let orders =
        "SELECT concat_ws(' ', status, symbol, side, quantity, filled, average_price, created_at) FROM v_orders";
    assert_eq!(line(orders), "planned EURUSD buy 2500 0 2026-11-24T12:00:00.000000Z");
    let decisions =
        "SELECT concat_ws(' ', verdict, signal_key, risk, used_before, cap, risk_max, equity) FROM v_decisions";
    assert_eq!(line(decisions), "accepted a 5 0 9.99 5 500");

    let news = News::Acknowledged;
    let mut batch = vec![story.report(&mut account, order, news)];
    batch.push(story.fill(&mut account, order, "2500".parse().unwrap(), "1.08512"));
    assert_eq!(story.commit(batch).await, vec![CommitVerdict::Committed; 2]);
    assert_eq!(line(orders), "filled EURUSD buy 2500 2500 1.08512 2026-11-24T12:00:00.000000Z");
    let positions =
        "SELECT concat_ws(' ', quantity, entry_price, stop_loss, take_profit, realized, closed_at) FROM v_positions";
    assert_eq!(line(positions), "2500 1.08512 1.083 1.089 0");
    let accounts = "SELECT concat_ws(' ', username, version, equity, open, reserved, max_daily_loss, open_business) FROM v_accounts";
    assert_eq!(line(accounts), "user1 3 500 5.3 0 9.99 1");
    assert_eq!(line("SELECT concat_ws(' ', day, realized, timeframes) FROM v_daily_risk"), "2026-11-24 0 {\"3H\":1}");
    assert_eq!(line("SELECT concat_ws(' ', feed, key, subscribers, undecided) FROM v_signals"), "breakout a 1 0");
    assert_eq!(line("SELECT concat_ws(' ', price, fee, realized) FROM v_fills"), "1.08512 0 0");
    assert_eq!(line("SELECT count(*) || '' FROM v_events"), "3");
    assert_eq!(story.store.turns(user_id(1), page()).await.unwrap().items.len(), 3);
    assert_eq!(account.open_risk(), money("5.30"));
}

#[tokio::test]
async fn start_up_finds_its_work_by_index() {
    let file = SqliteFile::fresh().await;
    let plan = |sql: &str| -> String {
        file.raw().query_row(&format!("EXPLAIN QUERY PLAN {sql}"), [], |row| row.get(3)).unwrap()
    };
    let signals = plan("SELECT signal, received_at_us, subscribers FROM signals WHERE undecided > 0 ORDER BY seq");
    assert!(signals.contains("signals_undecided"), "{signals}");
    let accounts = plan("SELECT user_id FROM accounts WHERE open_business = 1 ORDER BY user_id");
    assert!(accounts.contains("accounts_with_open_business"), "{accounts}");
    for table in ["decisions", "orders", "fills", "positions"] {
        let newest = plan(&format!("SELECT * FROM {table} WHERE user_id = 'x' AND seq < 9 ORDER BY seq DESC LIMIT 5"));
        assert!(newest.contains(&format!("{table}_by_user")), "{newest}");
    }
}
