//! What the promises are held against: an engine whose cap alone refuses, and its files read with no engine code between.
//!
//! The tests of the promises are in the files beside this one. They speak to the real binary and believe its answers only
//! as far as its ledger and its venue's book, read straight from the disk, say the same.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use nexus_engine::ids::{ClientOrderId, Timestamp};
use nexus_engine::units::Money;
use nexus_venues::paper::{Change, journal};
use rusqlite::{Connection, Params};
use serde_json::{Value, json};

use super::engine::{Engine, Member, PATIENCE, World};

/// Settings under which nothing but the day's cap refuses a good signal.
pub const ONLY_THE_CAP: &[(&str, &str)] = &[
    ("TIMEFRAME_LIMITS", "3H=100000,6H=100000,9H=100000"),
    ("DUPLICATE_WINDOW_MINUTES", "0"),
    ("MAX_OPEN_POSITIONS", "10000"),
    ("MAX_ORDERS_PER_MINUTE", "100000"),
    ("MAX_REPEATED_EXECUTIONS", "10000"),
    ("MAX_EXPOSURE", "1000000000"),
    ("LOSS_STREAK", "1000"),
    ("LOG_LEVEL", "warn"),
];

/// An engine on a new folder where only the cap refuses, with some settings more.
pub fn engine_with(more: &[(&str, &str)]) -> Engine {
    Engine::start_on(tempfile::tempdir().expect("a folder"), &[ONLY_THE_CAP, more].concat())
}

/// Takes an engine up again on its folder.
pub fn restart(data: tempfile::TempDir, more: &[(&str, &str)]) -> Engine {
    Engine::start_on(data, &[ONLY_THE_CAP, more].concat())
}

/// The ledger's file, opened by somebody who is not the engine.
pub struct Ledger(pub Connection);

impl Ledger {
    /// Opens it.
    pub fn of(data: &Path) -> Ledger {
        let connection = Connection::open(data.join("nexus.db")).expect("opened");
        connection.busy_timeout(PATIENCE).expect("set");
        Ledger(connection)
    }

    /// One number.
    pub fn number(&self, sql: &str, keys: impl Params) -> i64 {
        self.0.query_row(sql, keys, |row| row.get(0)).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Texts.
    pub fn texts(&self, sql: &str, keys: impl Params) -> Vec<String> {
        let mut statement = self.0.prepare(sql).expect("prepared");
        let rows = statement.query_map(keys, |row| row.get(0)).expect("asked");
        rows.map(|row| row.expect("read")).collect()
    }

    /// Realised loss of the day, open and reserved risk of a user.
    pub fn used(&self, user: &str) -> [i64; 3] {
        // One statement, so that all three are of one moment.
        let sql = "SELECT max(0, -coalesce(d.realized_e8, 0)), a.open_e8, a.reserved_e8
                     FROM accounts a LEFT JOIN daily_risk d ON d.user_id = a.user_id AND d.day = date('now')
                    WHERE a.user_id = ?1";
        self.0.query_row(sql, [user], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?])).expect("read")
    }

    /// The day's cap of a user.
    pub fn cap(&self, user: &str) -> i64 {
        self.number("SELECT max_daily_loss_e8 FROM limits WHERE user_id = ?1", [user])
    }

    /// No acceptance reserved beyond the cap that the ledger held it against (promise P5).
    pub fn check_admissions(&self) {
        let beyond = "SELECT count(*) FROM decisions d JOIN limits l ON l.user_id = d.user_id
                       WHERE verdict = 'accepted' AND (used_before_e8 + risk_e8 > cap_e8 OR cap_e8 > max_daily_loss_e8)";
        assert_eq!(self.number(beyond, []), 0, "a reservation beyond the cap");
    }

    /// The account that risk-status shows is the one that is held.
    fn check_status(&self, member: &Member, status: &Value) {
        let loss = &status["daily_loss"];
        let in_memory = ["realized", "open", "reserved"].map(|part| steps(&loss[part]));
        assert_eq!(in_memory, self.used(&member.id), "realised, open, reserved: {status}");
        let equity = "SELECT starting_equity_e8 + net_realized_e8 FROM accounts WHERE user_id = ?1";
        assert_eq!(steps(&status["equity"]), self.number(equity, [&member.id]), "{status}");
        for (timeframe, count) in status["timeframes"].as_object().expect("an object") {
            let sql = "SELECT coalesce(sum(used), 0) FROM daily_counts WHERE user_id = ?1 AND timeframe = ?2 AND day = date('now')";
            assert_eq!(count["used"], json!(self.number(sql, [&member.id, timeframe])), "{timeframe}: {status}");
        }
        let open = "SELECT decision_id FROM positions WHERE user_id = ?1 AND quantity_e8 > 0 ORDER BY decision_id";
        assert_eq!(ids(&status["open_positions"], "decision_id"), self.texts(open, [&member.id]), "{status}");
        let working =
            "SELECT client_order_id FROM orders WHERE user_id = ?1 AND status = 'working' ORDER BY client_order_id";
        assert_eq!(ids(&status["open_orders"], "client_order_id"), self.texts(working, [&member.id]), "{status}");
    }
}

/// A fixed amount as risk-status shows it, in steps.
pub fn steps(amount: &Value) -> i64 {
    amount.as_str().expect("a text").parse::<Money>().expect("an amount").steps()
}

/// Now, by the clock that the engine reads.
pub fn now() -> Timestamp {
    Timestamp::from_micros(jiff::Timestamp::now().as_microsecond())
}

/// When the venue took each order, and its id, in order. The venue may be running: then what it is writing is left out.
pub fn taken(data: &Path) -> Vec<(Timestamp, ClientOrderId)> {
    let records = journal::read(&data.join("paper-venue.journal")).expect("a whole journal").records;
    let firsts = records.iter().filter(|record| matches!(record.change, Change::Taken { .. }));
    firsts.map(|record| (record.at, record.order)).collect()
}

/// Whether the venue has filled anything of an order.
pub fn is_filled(data: &Path, order: &str) -> bool {
    let records = journal::read(&data.join("paper-venue.journal")).expect("a whole journal").records;
    records.iter().any(|record| record.order.to_string() == order && matches!(record.change, Change::Filled { .. }))
}

/// The venue has each order once, and each under a decision that the ledger has accepted (promises P1 and P3).
pub fn check_venue(data: &Path) {
    let ledger = Ledger::of(data);
    let permitted: BTreeSet<String> =
        ledger.texts("SELECT replace(id, '-', '') FROM decisions WHERE verdict = 'accepted'", []).into_iter().collect();
    let mut seen = BTreeSet::new();
    for (_, order) in taken(data) {
        assert!(seen.insert(order), "the venue has {order} twice");
        let decision = order.decision.0.simple().to_string();
        assert!(permitted.contains(&decision), "the venue has {order}, which no committed decision permits");
    }
}

/// What risk-status says.
pub async fn risk_status(engine: &Engine, member: &Member) -> Value {
    let answer = engine.get(&format!("/api/v1/users/{}/risk-status", member.id), &member.token).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body
}

/// What memory says of an account is what the ledger holds. Returns what it says.
///
/// A trade may still be under way: both are read at one version of the account, when the venue has heard of every order.
pub async fn check_memory(engine: &Engine, member: &Member) -> Value {
    let ledger = Ledger::of(engine.data_dir());
    let began = Instant::now();
    loop {
        let status = risk_status(engine, member).await;
        // One transaction, so that everything read below is of one moment.
        let _moment = ledger.0.unchecked_transaction().expect("begun");
        let version = ledger.number("SELECT version FROM accounts WHERE user_id = ?1", [&member.id]);
        let orders = status["open_orders"].as_array().expect("a list");
        if status["version"] == json!(version) && orders.iter().all(|order| order["status"] != "planned") {
            ledger.check_status(member, &status);
            return status;
        }
        assert!(began.elapsed() < PATIENCE, "the ledger stays at version {version} of {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One field of each item, sorted.
pub fn ids(items: &Value, field: &str) -> Vec<String> {
    let items = items.as_array().unwrap_or_else(|| panic!("not a list: {items}")).iter();
    let mut ids: Vec<String> = items.map(|item| item[field].as_str().expect("an id").to_owned()).collect();
    ids.sort();
    ids
}

/// A market order, by its name, stop and target.
pub fn market(id: &str, stop: &str, target: &str) -> Value {
    json!({
        "id": id, "symbol": "EURUSD", "side": "buy", "timeframe": "3H", "stop_loss": stop, "take_profit": target
    })
}

/// The same, waiting at a price.
pub fn limit(id: &str, price: &str, stop: &str, target: &str) -> Value {
    let mut signal = market(id, stop, target);
    signal["order_type"] = json!("limit");
    signal["entry_price"] = json!(price);
    signal
}

/// Sends a signal that has to be accepted; returns its entry's id.
pub async fn enter(world: &World, signal: &Value) -> String {
    let answer = world.engine.post("/api/v1/signals", &world.feed, signal).await;
    assert_eq!((answer.status.as_u16(), &answer.body["accepted"]), (200, &json!(1)), "{}", answer.text);
    answer.body["decisions"][0]["client_order_id"].as_str().expect("an id").to_owned()
}

/// How many inputs the engine has stepped since its start.
pub async fn inputs_stepped(engine: &Engine) -> u64 {
    let text = engine.get("/api/v1/metrics", "").await.text;
    // Absent until the first.
    let count = text.lines().find_map(|line| line.strip_prefix("nexus_decide_seconds_count "));
    count.map_or(0, |count| count.parse().unwrap_or_else(|error| panic!("{count}: {error}")))
}

/// Waits until the engine has stepped at least so many inputs and is at rest.
pub async fn until_stepped(engine: &Engine, least: u64) -> u64 {
    let began = Instant::now();
    let mut before = 0;
    loop {
        let stepped = inputs_stepped(engine).await;
        if stepped >= least && stepped == before {
            return stepped;
        }
        before = stepped;
        assert!(began.elapsed() < PATIENCE, "{stepped} of {least} inputs stepped");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Draws that can be repeated: the seed is printed, and taken from `NEXUS_SEED` when it is there.
pub struct Draw(u64);

impl Draw {
    /// From the environment or the clock.
    pub fn new() -> Draw {
        let given = std::env::var("NEXUS_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| now().micros().unsigned_abs());
        println!("NEXUS_SEED={seed}");
        Draw(seed)
    }

    /// From `least` to `most`.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        // SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        least + (z ^ (z >> 31)) % (most - least + 1)
    }
}
