//! PostgreSQL: the contracts, and what only a server can do: own, fence, partition, refuse a person at a prompt, be older,
//! newer, edited, read-only, or without TLS.

use std::time::{Duration, Instant};

use nexus_actors::ports::{Acquired, CommitVerdict, Lease, Ledger, LedgerError, TurnRecord};
use nexus_engine::account::{Account, Input};
use nexus_engine::ids::{ClientOrderId, FeedId, SignalId, Timestamp, UserId};
use nexus_engine::order::News;
use nexus_engine::units::{Money, Quantity};
use nexus_store::directory::{Directory, PageRequest};
use nexus_store::{PostgresOpenError, PostgresStore};
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::contract::Database;
use crate::server::{PostgresDatabase, execute, options};
use crate::story::{Story, acceptance_of, decision_of, money, user_id};

impl Database for PostgresDatabase {
    type Store = PostgresStore;

    async fn fresh() -> Self {
        Self::with(&options()).await
    }

    fn store(&self) -> &PostgresStore {
        self.store()
    }

    async fn reopen(self) -> Self {
        self.reopen().await
    }

    async fn reserve_behind_its_back(&self, user: UserId, risk: Money) {
        let sql = "UPDATE accounts SET reserved_e8 = reserved_e8 + $2 WHERE user_id = $1";
        let done = sqlx::query(sql).bind(user.0).bind(risk.steps()).execute(&mut self.raw().await).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
    }

    async fn realize_behind_its_back(&self, user: UserId, day: &str, realized: Money) {
        let sql = "INSERT INTO daily_risk AS r VALUES ($1, $2::date, $3)
                   ON CONFLICT (user_id, day) DO UPDATE SET realized_e8 = r.realized_e8 + excluded.realized_e8";
        let insert = sqlx::query(sql).bind(user.0).bind(day.to_owned()).bind(realized.steps());
        assert_eq!(insert.execute(&mut self.raw().await).await.unwrap().rows_affected(), 1);
    }
}

mod ledger {
    ledger_contract!(crate::server::PostgresDatabase);
    use crate::contract::Database;
}
mod directory {
    directory_contract!(crate::server::PostgresDatabase);
    use crate::contract::Database;
}

const TERM: Duration = Duration::from_secs(60);

async fn number(connection: &mut PgConnection, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(connection).await.unwrap()
}

async fn line(connection: &mut PgConnection, sql: &str) -> String {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(connection).await.unwrap()
}

async fn refusal(connection: &mut PgConnection, sql: &str) -> String {
    let outcome = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await;
    outcome.expect_err(sql).to_string()
}

fn page(limit: u32) -> PageRequest {
    PageRequest { limit, after: None }
}

// ── Turns that the tables refuse ──

#[tokio::test]
async fn a_poisoned_turn_fails_none_of_its_neighbours() {
    let database = PostgresDatabase::fresh().await;
    let story = Story::begins(database.store(), 5).await;
    database.reserve_behind_its_back(user_id(3), Money::from_steps(1)).await;
    let record = story.signal("a", "3H", 5);
    let mut accounts = Vec::new();
    let mut batch = Vec::new();
    for n in 1..=5 {
        let mut account = story.load(n).await;
        batch.push(story.decide(&mut account, &record));
        batch.push(story.turn(&mut account, Input::SetTrading(false), None));
        accounts.push(account);
    }
    // A decision on a signal that nobody has recorded, and a fact that no counter can hold.
    let stray = story.signal("stray", "3H", 5);
    let mut unrecorded = story.decide(&mut story.load(2).await, &stray);
    unrecorded.signal = None;
    batch[2] = unrecorded;
    let mut overflowing = story.turn(&mut story.load(3).await, Input::SetTrading(false), None);
    overflowing.turn.delta.reserved = Money::MAX;
    batch[4] = overflowing;

    let verdicts = story.commit(batch).await;
    let committed = |n: usize| verdicts[2 * n..2 * n + 2] == [CommitVerdict::Committed, CommitVerdict::Committed];
    let refused = |n: usize| {
        matches!(verdicts[2 * n..2 * n + 2], [CommitVerdict::Vetoed { .. }, CommitVerdict::Stale { version: 0 }])
    };
    assert!(committed(0) && refused(1) && refused(2) && committed(3) && committed(4), "{verdicts:?}");
    assert_eq!(story.load(5).await, accounts[4]);
    assert_eq!(story.store.find_signal(stray.signal.id).await, Ok(None));
    let raw = &mut database.raw().await;
    assert_eq!(number(raw, "SELECT undecided FROM signals WHERE key = 'a'").await, 2);
    assert_eq!(number(raw, "SELECT count(*) FROM events").await, 6);
}

#[tokio::test]
async fn a_fill_with_a_name_that_no_text_can_hold_is_recorded() {
    let database = PostgresDatabase::fresh().await;
    let story = Story::begins(database.store(), 1).await;
    let mut account = story.load(1).await;
    let acceptance = story.accepted(&mut account, &story.signal("a", "3H", 1)).await;
    let (quantity, price, fee) = (acceptance.quantity, "1.085".parse().unwrap(), Money::ZERO);
    let news = News::Filled { execution: "a\0b".into(), quantity, price, fee };
    let fill = story.report(&mut account, acceptance.order, news);
    assert_eq!(story.commit_one(fill).await, CommitVerdict::Committed);
    assert_eq!(story.load(1).await, account);
    assert_eq!(story.store.fills(user_id(1), page(9)).await.unwrap().items[0].fill.execution, "a\u{2400}b");
}

#[tokio::test]
async fn turns_of_one_account_in_one_batch_see_each_other() {
    let database = PostgresDatabase::fresh().await;
    let mut story = Story::begins(database.store(), 2).await;
    let (mut first, mut second) = (story.load(1).await, story.load(2).await);
    let record = story.signal("a", "3H", 2);
    let mut batch = vec![story.decide(&mut first, &record), story.decide(&mut second, &record)];
    let order = acceptance_of(&batch[0]).order;
    batch.push(story.report(&mut first, order, News::Acknowledged));
    batch.push(story.fill(&mut first, order, Quantity::whole(2_500), "1.08500"));
    batch.push(story.decide(&mut first, &story.signal("b", "9H", 2)));
    let last = acceptance_of(&batch[4]);
    assert_eq!(story.commit(batch).await, vec![CommitVerdict::Committed; 5]);
    assert_eq!(last.used_before, money("5.00"));
    assert_eq!((story.load(1).await, story.load(2).await), (first, second));
    let orders = story.store.orders(user_id(1), page(9)).await.unwrap().items;
    assert_eq!(orders.iter().map(|row| row.order.id).collect::<Vec<_>>(), [order]);
}

#[tokio::test]
async fn events_find_or_make_the_partition_of_their_month() {
    let database = PostgresDatabase::fresh().await;
    let mut story = Story::begins(database.store(), 1).await;
    let mut account = story.load(1).await;
    let day_us = 24 * 60 * 60 * 1_000_000;
    for months in 0..3 {
        story.now = Timestamp::from_micros(1_000 + months * 31 * day_us);
        let enabled = account.trading_enabled;
        let turn = story.turn(&mut account, Input::SetTrading(!enabled), None);
        assert_eq!(story.commit_one(turn).await, CommitVerdict::Committed);
    }
    let raw = &mut database.raw().await;
    for name in ["events_1970_01", "events_1970_02", "events_1970_03"] {
        assert_eq!(number(raw, &format!("SELECT count(*) FROM {name}")).await, 1, "{name}");
    }
    let ahead = "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname IN (to_char(now() AT TIME ZONE 'UTC', '\"events_\"YYYY_MM'),
                 to_char(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month', '\"events_\"YYYY_MM'))";
    assert_eq!(number(raw, ahead).await, 2);
    assert_eq!(story.store.turns(user_id(1), page(9)).await.unwrap().items.len(), 3);
    for sql in
        ["UPDATE events_1970_02 SET events = '[]'", "DELETE FROM events", "TRUNCATE events", "TRUNCATE events_1970_02"]
    {
        let changed = refusal(raw, sql).await;
        assert!(changed.contains("never changed"), "{sql}: {changed}");
    }
}

// ── Ownership ──

async fn lone_turn(store: &PostgresStore, n: u128) -> TurnRecord {
    let story = Story::resumes(store);
    let mut account = story.load(n).await;
    let enabled = account.trading_enabled;
    story.turn(&mut account, Input::SetTrading(!enabled), None)
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

// ── A person at a prompt ──

/// An acceptance as somebody would type it, for a signal that is recorded.
pub fn typed(signal: &str, user: UserId, changes: &[(&str, &str)]) -> String {
    let mut columns = vec![
        ("id", "gen_random_uuid()"),
        ("at_us", "1795521600000000"),
        ("verdict", "'accepted'"),
        ("symbol", "'EURUSD'"),
        ("side", "'buy'"),
        ("timeframe", "'3H'"),
        ("kind", "'market'"),
        ("quantity_e8", "250000000000"),
        ("sized_at_e8", "108500000"),
        ("stop_loss_e8", "108300000"),
        ("take_profit_e8", "108900000"),
        ("risk_e8", "500000000"),
        ("used_before_e8", "0"),
        ("cap_e8", "9000000000000"),
        ("risk_max_e8", "9000000000000"),
        ("count_before", "0"),
        ("count_limit", "1000"),
        ("equity_e8", "9000000000000"),
        ("expires_at_us", "1795532400000000"),
        ("venue", "'paper'"),
    ];
    for (name, value) in changes {
        columns.iter_mut().find(|(column, _)| column == name).unwrap().1 = value;
    }
    let (names, values): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    format!(
        "INSERT INTO decisions (signal_id, user_id, {}) SELECT id, '{user}', {} FROM signals WHERE key = '{signal}'",
        names.join(", "),
        values.join(", ")
    )
}

#[tokio::test]
async fn nobody_types_an_entry_beyond_the_limits() {
    let database = PostgresDatabase::fresh().await;
    let story = Story::begins(database.store(), 2).await;
    for key in ["a", "b", "c"] {
        story.store.record_signal(story.signal(key, "3H", 0)).await.unwrap();
    }
    let raw = &mut database.raw().await;
    let user = user_id(1);
    for (changes, why) in [
        // The claimed cap, equity, use and counts are not believed.
        (&[("risk_e8", "500000001")][..], "decisions_within_the_percent"),
        (&[("risk_e8", "NULL")], "decisions_risk_something"),
        (&[("risk_e8", "-1")], "decisions_risk_something"),
        (&[("timeframe", "'5H'")], "decisions_within_the_count"),
        (&[("quantity_e8", "0")], "decisions_risk_something"),
        (&[("kind", "'limit'")], "an acceptance is complete"),
        (&[("verdict", "'maybe'")], "decisions_rejected_have_reasons"),
    ] {
        let words = refusal(raw, &typed("a", user, changes)).await;
        assert!(words.contains(why), "{changes:?}: {words}");
    }
    assert_eq!(
        number(raw, "SELECT sum(reserved_e8)::bigint FROM accounts").await,
        0,
        "what is refused reserves nothing"
    );
    let nobody = refusal(raw, &typed("a", user_id(9), &[])).await;
    assert!(nobody.contains("needs its account"), "{nobody}");

    assert_eq!(execute(raw, &typed("a", user, &[])).await, 1);
    let row = "SELECT concat_ws(' ', used_before, cap, risk_max, count_before, count_limit, equity) FROM v_decisions";
    assert_eq!(line(raw, row).await, "0 9.99 5 0 1 500");
    for (changes, why) in [
        (&[("side", "'sell'"), ("risk_e8", "1")][..], "decisions_within_the_count"),
        (&[("timeframe", "'9H'")], "decisions_within_the_cap"),
        (&[("timeframe", "'9H'"), ("risk_e8", "499000001")], "decisions_within_the_cap"),
    ] {
        let words = refusal(raw, &typed("b", user, changes)).await;
        assert!(words.contains(why), "{changes:?}: {words}");
    }
    assert_eq!(execute(raw, &typed("b", user, &[("timeframe", "'9H'"), ("risk_e8", "400000000")])).await, 1);
    let again = refusal(raw, &typed("c", user, &[("timeframe", "'9H'"), ("risk_e8", "1")])).await;
    assert!(again.contains("duplicate window"), "{again}");
    let twice = refusal(raw, &typed("b", user, &[("timeframe", "'6H'"), ("risk_e8", "1")])).await;
    assert!(twice.contains("decisions_one_a_signal_and_user"), "{twice}");

    // The engine sees it as risk that it cannot explain, and stays within what is left.
    let account = story.load(1).await;
    assert_eq!((account.unexplained_risk, account.remaining()), (money("9.00"), money("0.99")));
    for (sql, why) in [
        ("UPDATE decisions SET risk_e8 = 0", "never changed"),
        ("DELETE FROM decisions", "never changed"),
        ("TRUNCATE decisions", "never changed"),
        ("TRUNCATE fills", "never changed"),
        (
            "INSERT INTO orders (client_order_id, decision_id, user_id, purpose, symbol, side, kind, quantity_e8, filled_e8,
                                 value_e8, fees_e8, status, unknown, cancel_requested, venue, created_at_us)
             VALUES ('x', gen_random_uuid(), gen_random_uuid(), 'entry', 'EURUSD', 'buy', 'market', 1, 0, 0, 0, 'working',
                     false, false, 'paper', 0)",
            "no accepted decision permits this row of orders",
        ),
    ] {
        let words = refusal(raw, sql).await;
        assert!(words.contains(why), "{sql}: {words}");
    }
}

#[tokio::test]
async fn people_can_read_the_record() {
    let database = PostgresDatabase::fresh().await;
    let mut story = Story::begins(database.store(), 1).await;
    let mut account = story.load(1).await;
    let turn = story.decide(&mut account, &story.signal("a", "3H", 1));
    let order: ClientOrderId = acceptance_of(&turn).order;
    let decision = decision_of(&turn).id;
    assert_eq!(story.commit_one(turn).await, CommitVerdict::Committed);
    let raw = &mut database.raw().await;
    execute(raw, "SET TimeZone = 'UTC'").await;
    let orders = "SELECT concat_ws(' ', client_order_id, status, side, quantity, filled, average_price, created_at) FROM v_orders";
    assert_eq!(line(raw, orders).await, format!("{order} planned buy 2500 0 2026-11-24 12:00:00+00"));
    let batch = vec![
        story.report(&mut account, order, News::Acknowledged),
        story.fill(&mut account, order, "2500".parse().unwrap(), "1.08512"),
    ];
    assert_eq!(story.commit(batch).await, vec![CommitVerdict::Committed; 2]);
    assert_eq!(line(raw, orders).await, format!("{order} filled buy 2500 2500 1.08512 2026-11-24 12:00:00+00"));
    for (sql, expected) in [
        (
            "SELECT concat_ws(' ', id, verdict, signal_key, risk, used_before, cap, risk_max, equity) FROM v_decisions",
            format!("{decision} accepted a 5 0 9.99 5 500"),
        ),
        (
            "SELECT concat_ws(' ', quantity, entry_price, stop_loss, take_profit, realized, closed_at) FROM v_positions",
            "2500 1.08512 1.083 1.089 0".to_owned(),
        ),
        (
            "SELECT concat_ws(' ', username, version, equity, open, reserved, max_daily_loss, open_business) FROM v_accounts",
            "user1 3 500 5.3 0 9.99 t".to_owned(),
        ),
        ("SELECT concat_ws(' ', day, realized, timeframes) FROM v_daily_risk", "2026-11-24 0 {\"3H\": 1}".to_owned()),
        ("SELECT concat_ws(' ', feed, key, subscribers, undecided) FROM v_signals", "breakout a 1 0".to_owned()),
        ("SELECT concat_ws(' ', price, fee, realized) FROM v_fills", "1.08512 0 0".to_owned()),
        ("SELECT count(*)::text FROM v_events WHERE events->0 IS NOT NULL", "3".to_owned()),
    ] {
        assert_eq!(line(raw, sql).await, expected, "{sql}");
    }
    let silent = "SELECT count(*) FROM pg_class c CROSS JOIN LATERAL
                  (SELECT 0 AS attnum UNION ALL SELECT a.attnum FROM pg_attribute a
                    WHERE a.attrelid = c.oid AND a.attnum > 0 AND c.relkind <> 'v') p
                   WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
                     AND c.relname <> 'schema_migrations' AND col_description(c.oid, p.attnum) IS NULL";
    assert_eq!(number(raw, silent).await, 0, "every table and column says what it is for");
}

// ── The server itself ──

#[tokio::test]
async fn the_schema_is_made_once_by_whoever_comes_first_and_never_misread() {
    let database = PostgresDatabase::fresh().await;
    let raw = &mut database.raw().await;
    execute(raw, "DROP SCHEMA public CASCADE; CREATE SCHEMA public").await;
    let (url, options) = (database.url(), options());
    let opened = futures::future::join_all((0..4).map(|_| PostgresStore::open(&url, &options))).await;
    opened.into_iter().for_each(|store| drop(store.unwrap()));
    assert_eq!(number(raw, "SELECT count(*) FROM schema_migrations").await, 4);

    execute(raw, "INSERT INTO schema_migrations VALUES (99, 'later', now(), '')").await;
    let opened = PostgresStore::open(&url, &options).await.err();
    assert!(matches!(opened, Some(PostgresOpenError::NewerSchema { found: 99, known: 3 })), "{opened:?}");
    execute(raw, "DELETE FROM schema_migrations WHERE version = 99").await;
    execute(raw, "UPDATE schema_migrations SET text = text || ' ' WHERE version = 2").await;
    let opened = PostgresStore::open(&url, &options).await.err();
    assert!(matches!(opened, Some(PostgresOpenError::ChangedMigration { version: 2, .. })), "{opened:?}");
}

#[tokio::test]
async fn a_connection_is_named_and_without_tls_refused_where_tls_is_required() {
    let database = PostgresDatabase::fresh().await;
    database.store().ping().await.unwrap();
    let named =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'nexus'";
    assert!(number(&mut database.raw().await, named).await > 0);
    let url = format!("{}?sslmode=require", database.url());
    let opened = PostgresStore::open(&url, &options()).await.err();
    assert!(matches!(opened, Some(PostgresOpenError::Away(_))), "{opened:?}");
    let opened = PostgresStore::open("postgres//nonsense", &options()).await.err();
    assert!(matches!(opened, Some(PostgresOpenError::Url(_))), "{opened:?}");
}

#[tokio::test]
async fn a_database_that_takes_no_writes_is_unavailable_until_it_does_again() {
    let database = PostgresDatabase::fresh().await;
    let story = Story::begins(database.store(), 1).await;
    let stopped = lone_turn(story.store, 1).await;
    assert_eq!(story.commit_one(stopped).await, CommitVerdict::Committed);
    let name = database.url().rsplit_once('/').unwrap().1.to_owned();
    let raw = &mut database.raw().await;
    let end_others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                       WHERE datname = current_database() AND pid <> pg_backend_pid()";
    execute(raw, &format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await;
    let turn = lone_turn(story.store, 1).await;
    execute(raw, end_others).await;
    let doubted = story.store.commit(vec![turn.clone()]).await;
    assert!(matches!(doubted, Err(LedgerError::InDoubt(_))), "its connection was ended: {doubted:?}");
    let refused = story.store.commit(vec![turn.clone()]).await;
    assert!(matches!(refused, Err(LedgerError::Unavailable(_))), "{refused:?}");
    assert!(matches!(story.store.ping().await, Err(LedgerError::Unavailable(_))));
    assert_eq!(read_again(story.store).await.version, 1, "it can be read meanwhile");

    execute(
        raw,
        &format!("SET default_transaction_read_only = off; ALTER DATABASE {name} RESET default_transaction_read_only"),
    )
    .await;
    execute(raw, end_others).await;
    // The connection that commits was just in use: that it is gone shows in the middle of the next commit.
    let doubted = story.store.commit(vec![turn.clone()]).await;
    assert!(matches!(doubted, Err(LedgerError::InDoubt(_))), "{doubted:?}");
    assert_eq!(read_again(story.store).await.version, 1);
    assert_eq!(story.commit(vec![turn]).await, [CommitVerdict::Committed]);
    // The connection that asked last was ended, too; the next one is whole.
    drop(story.store.ping().await);
    story.store.ping().await.unwrap();
}

/// Reads until the connections that were ended are all found out.
pub async fn read_again(store: &PostgresStore) -> Account {
    let began = Instant::now();
    loop {
        match store.load_account(user_id(1), None).await {
            Ok(account) => return account.expect("the user has an account"),
            Err(LedgerError::Unavailable(_)) if began.elapsed() < Duration::from_secs(5) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Every list and every question of the start, on tables of some size: the server itself counts how it looked for the rows.
#[tokio::test]
async fn no_list_reads_a_whole_table() {
    let database = PostgresDatabase::fresh().await;
    let mut story = Story::begins(database.store(), 3).await;
    let mut account = story.load(1).await;
    let order = story.accepted(&mut account, &story.signal("a", "3H", 1)).await.order;
    let fill = story.fill(&mut account, order, Quantity::whole(2_500), "1.08500");
    assert_eq!(story.commit_one(fill).await, CommitVerdict::Committed);
    let unfinished = story.signal("unfinished", "3H", 3);
    story.store.record_signal(unfinished).await.unwrap();
    let raw = &mut database.raw().await;
    for statement in include_str!("fill.sql").split(";\n") {
        execute(raw, statement).await;
    }
    execute(raw, "SELECT pg_stat_force_next_flush()").await;
    execute(raw, "SELECT pg_stat_reset()").await;
    // Its connections plan with the new statistics, and report what they did when they are closed.
    let database = database.reopen().await;
    let store = database.store();
    let user = user_id(1_010);

    assert_eq!(store.users(page(50)).await.unwrap().items.len(), 50);
    assert_eq!(store.feeds(page(50)).await.unwrap().items.len(), 50);
    let decisions = store.decisions(user, page(10)).await.unwrap().items;
    assert_eq!(decisions.len(), 10);
    assert_eq!(store.orders(user, page(10)).await.unwrap().items.len(), 10);
    assert_eq!(store.fills(user, page(10)).await.unwrap().items.len(), 10);
    assert_eq!(store.positions(user, false, page(10)).await.unwrap().items.len(), 10);
    assert_eq!(store.positions(user, true, page(10)).await.unwrap().items.len(), 1);
    let everybodys = SignalId(Uuid::from_u128(200_000));
    assert_eq!(store.signal_decisions(everybodys, page(10)).await.unwrap().items.len(), 10);
    assert_eq!(store.decisions_on(everybodys).await.unwrap().len(), 200);
    assert_eq!(store.turns(user, page(10)).await.unwrap().items.len(), 10);
    assert_eq!(store.owner_of(decisions[0].decision.id).await, Ok(Some(user)));
    assert_eq!(store.unfinished_signals().await.unwrap().len(), 1);
    assert_eq!(store.users_with_open_business().await.unwrap(), [user_id(1)]);
    assert_eq!(store.subscribers(FeedId(Uuid::from_u128(100_001))).await.unwrap().len(), 200);
    assert!(store.load_account(user, None).await.unwrap().is_some());

    let database = database.reopen().await;
    let raw = &mut database.raw().await;
    let reported = "SELECT count(DISTINCT relname) FROM pg_stat_user_indexes WHERE idx_scan > 0
                       AND relname IN ('users', 'feeds', 'decisions', 'orders', 'fills', 'positions', 'signals', 'accounts')";
    let began = Instant::now();
    while number(raw, reported).await < 8 {
        assert!(began.elapsed() < TERM, "the server does not report");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let read_whole = "SELECT coalesce(string_agg(relname, ' '), '') FROM pg_stat_user_tables
                       WHERE seq_scan > 0 AND relname NOT IN ('schema_migrations', 'lease', 'pulse')";
    assert_eq!(line(raw, read_whole).await, "");
}
