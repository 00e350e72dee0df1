//! Everybody at once: signals through the engine, and acceptances typed by hand on connections of their own. Realised, open and
//! reserved risk together never pass the cap, on no look at the ledger (promise P5).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection};

use super::engine::{Member, World};
use super::production::{Database, Sql, execute, followers, world};
use super::promises::{limit, market};

const SIGNALS: usize = 64;
const HANDS: usize = 32;

/// A signal and an acceptance on it, as somebody types them who cares for no rule: the cap that it claims is enormous.
fn typed(user: &str, name: &str, risk_e8: u64) -> String {
    let now_us = jiff::Timestamp::now().as_microsecond();
    format!(
        "WITH s AS (
             INSERT INTO signals (id, feed_id, key, symbol, side, timeframe, kind, stop_loss_e8, take_profit_e8, issued_at_us,
                                  received_at_us, undecided, signal, subscribers)
             VALUES (gen_random_uuid(), gen_random_uuid(), '{name}', 'EURUSD', 'buy', '6H', 'market', 108300000, 108900000,
                     {now_us}, {now_us}, 0, '{{}}', '[]')
             RETURNING id)
         SELECT id FROM s"
    ) + &format!(
        ";\nINSERT INTO decisions (id, signal_id, user_id, at_us, verdict, symbol, side, timeframe, kind, quantity_e8, sized_at_e8,
                                stop_loss_e8, take_profit_e8, risk_e8, used_before_e8, cap_e8, risk_max_e8, count_before,
                                count_limit, equity_e8, expires_at_us, venue)
         SELECT gen_random_uuid(), id, '{user}', {now_us}, 'accepted', 'EURUSD', 'buy', '6H', 'market', 250000000000, 108500000,
                108300000, 108900000, {risk_e8}, 0, 9000000000000, 9000000000000, 0, 1000000, 9000000000000,
                {now_us} + 3600000000, 'paper'
           FROM signals WHERE key = '{name}'"
    )
}

/// Types acceptances until the ledger has no room for another; returns how many it took.
async fn type_by_hand(mut connection: PgConnection, user: &str, hand: usize, risk_e8: u64) -> u64 {
    let mut taken = 0;
    for n in 0.. {
        let sql = typed(user, &format!("{user} {hand} {n}"), risk_e8);
        match sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.map_err(|error| error.to_string()) {
            Ok(_) => taken += 1,
            Err(error) if error.contains("decisions_within_the_cap") => return taken,
            // Somebody whose clock was read later was faster.
            Err(error) => assert!(error.contains("duplicate window"), "{error}"),
        }
    }
    unreachable!("the range has no end")
}

/// Looks all the while; returns how often, and the most that it saw of one user's day.
async fn watch(mut sql: Sql, is_over: Arc<AtomicBool>) -> (u64, i64) {
    let (mut looks, mut highest) = (0, 0);
    let query = "SELECT coalesce(max(greatest(0, -coalesce(d.realized_e8, 0)) + a.open_e8 + a.reserved_e8), 0)
                   FROM accounts a LEFT JOIN daily_risk d ON d.user_id = a.user_id AND d.day = a.day";
    while !is_over.load(Ordering::SeqCst) {
        let used = sql.number(query).await;
        assert!(used <= CAP_E8, "realised, open and reserved of a day: {used}");
        (looks, highest) = (looks + 1, highest.max(used));
    }
    (looks, highest)
}

const CAP_E8: i64 = 999_000_000;

/// All signals and all hands at one user.
async fn race(world: &World, database: &Database, user: &Member, round: usize) -> (u64, u64) {
    let mut connections = Vec::new();
    for _ in 0..HANDS {
        connections.push(database.sql().await.0);
    }
    // Small ones creep up to the cap, large ones jump at what is left.
    let risk_e8 = [31_000_000, 240_000_000, 599_400_000, 7_000_000][round % 4];
    let by_hand = AtomicU64::new(0);
    let hands = join_all(connections.into_iter().enumerate().map(|(hand, connection)| {
        let by_hand = &by_hand;
        // All at once, or one after the other while the signals are under way.
        let wait = Duration::from_millis(if round % 2 == 0 { 0 } else { 4 * u64::try_from(hand).expect("few") });
        async move {
            tokio::time::sleep(wait).await;
            by_hand.fetch_add(type_by_hand(connection, &user.id, hand, risk_e8).await, Ordering::SeqCst)
        }
    }));
    let signals = join_all((0..SIGNALS).map(|n| async move {
        let id = format!("race {round} {n}");
        // Half of them trade at once and move risk on, half wait at a price and hold it.
        let mut signal = match n % 2 {
            0 => market(&id, "1.08300", "1.08900"),
            _ => limit(&id, "1.08400", "1.08300", "1.08900"),
        };
        signal["user_id"] = json!(user.id);
        world.engine.post("/api/v1/signals", &world.feed, &signal).await
    }));
    let (_, answers) = tokio::join!(hands, signals);
    let mut by_engine = 0;
    for answer in answers {
        assert_eq!((answer.status.as_u16(), &answer.body["decided"]), (200, &json!(1)), "{}", answer.text);
        by_engine += answer.body["accepted"].as_u64().expect("a count");
        let only_the_cap = ["daily_loss_cap", "size_below_minimum", "ledger_veto"];
        let reasons = answer.body["reasons"].as_object().expect("an object");
        assert!(reasons.keys().all(|reason| only_the_cap.contains(&reason.as_str())), "{}", answer.text);
    }
    (by_engine, by_hand.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_and_hands_together_never_pass_the_cap() {
    let database = Database::fresh().await;
    // 1.1988 % of 500 is 5.994: 60 % of the cap of 9.99.
    let world = world(&database, &[("MAX_RISK_PERCENT", "1.1988")]).await;
    let rounds = if std::env::var_os("NEXUS_LONG").is_some() { 60 } else { 6 };
    let names: Vec<String> = (0..rounds).map(|n| format!("racer{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let users = followers(&world, &names).await;
    let mut owner = database.sql().await.0;
    // The signals of hands are found by their names.
    execute(&mut owner, "CREATE INDEX ON signals (key)").await;

    let is_over = Arc::new(AtomicBool::new(false));
    let watchers: Vec<_> = {
        let mut watchers = Vec::new();
        for _ in 0..2 {
            watchers.push(tokio::spawn(watch(database.sql().await, Arc::clone(&is_over))));
        }
        watchers
    };
    let (mut by_engine, mut by_hand) = (0, 0);
    for (round, user) in users.iter().enumerate() {
        world.push_mark("EURUSD", "1.08495", "1.08505").await;
        let (engine, hand) = race(&world, &database, user, round).await;
        (by_engine, by_hand) = (by_engine + engine, by_hand + hand);
    }
    is_over.store(true, Ordering::SeqCst);
    let mut looks = 0;
    for watcher in watchers {
        let (looked, highest) = watcher.await.expect("the cap held on every look");
        assert!(highest * 10 > CAP_E8 * 9, "the races came nowhere near the cap: {highest}");
        looks += looked;
    }
    println!("{by_engine} accepted by the engine, {by_hand} by hand, {looks} looks");
    assert!(by_engine > 0 && by_hand > 0 && looks > 50, "a race has more than one runner");

    let mut sql = Sql(owner);
    let beyond = "SELECT count(*) FROM decisions WHERE verdict = 'accepted' AND used_before_e8 + risk_e8 > cap_e8";
    assert_eq!(sql.number(beyond).await, 0, "a reservation beyond the cap");
    let each = "SELECT count(*) FROM decisions d JOIN signals s ON s.id = d.signal_id WHERE s.key LIKE 'race %'";
    assert_eq!(sql.number(each).await, i64::try_from(SIGNALS * rounds).expect("few"));
    sql.check_venue(world.engine.data_dir()).await;
}
