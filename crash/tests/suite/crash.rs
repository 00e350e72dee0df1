//! `kill -9` at points drawn over the named steps, each in a run of its own of one script of trades.
//!
//! After each restart: every answered signal has its decisions, the state equals that of a run that was never
//! interrupted, the venue's book has each client order id once, nothing is unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Api, Reply, now};
use super::ledger::{Database, Kind, Ledger};
use super::process::{Engine, Started, passes_file, start, tail};

/// Hits wanted on each step.
const HITS_MIN: u32 = 5;
/// The same where the steps before and after the ledger are the same, and the ledger alone is another.
const HITS_MIN_POSTGRES: u32 = 2;
/// How long a state may take to settle.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a trader's script does, one act after another.
enum Act {
    /// The market of a symbol moves: bid, ask.
    Mark(&'static str, &'static str, &'static str),
    /// Waits until every open position of a symbol has this stop.
    Stop(&'static str, &'static str),
    /// The feed sends a signal: its id and the rest of it.
    Signal(&'static str, &'static str),
}

/// A day of three users on two markets: market and limit entries, a target, a stop, a break-even, refusals.
const SCRIPT: &[Act] = &[
    Act::Mark("EURUSD", "1.08495", "1.08505"),
    Act::Mark("BTCUSD", "60000.00", "60010.00"),
    Act::Signal(
        "s1",
        r#"{"symbol":"EURUSD","side":"buy","timeframe":"3H","stop_loss":"1.08300","take_profit":"1.08900"}"#,
    ),
    Act::Signal(
        "s2",
        r#"{"symbol":"BTCUSD","side":"sell","timeframe":"6H","order_type":"limit","entry_price":"60100.00","stop_loss":"60500.00","take_profit":"59500.00"}"#,
    ),
    Act::Signal(
        "s3",
        r#"{"symbol":"EURUSD","side":"sell","timeframe":"6H","stop_loss":"1.08700","take_profit":"1.08100"}"#,
    ),
    Act::Mark("BTCUSD", "60110.00", "60120.00"),
    Act::Mark("EURUSD", "1.08900", "1.08910"),
    Act::Signal(
        "s4",
        r#"{"symbol":"EURUSD","side":"sell","timeframe":"6H","stop_loss":"1.09100","take_profit":"1.08500","protection":{"breakeven_at_r":"1"}}"#,
    ),
    Act::Mark("EURUSD", "1.08650", "1.08660"),
    Act::Stop("EURUSD", "1.089"),
    Act::Mark("EURUSD", "1.08890", "1.08900"),
    Act::Mark("BTCUSD", "60510.00", "60520.00"),
    Act::Signal(
        "s5",
        r#"{"symbol":"BTCUSD","side":"buy","timeframe":"9H","stop_loss":"60100.00","take_profit":"61500.00"}"#,
    ),
];

/// The market by symbol: bid, ask.
type Marks = BTreeMap<&'static str, (&'static str, &'static str)>;

/// Ids and secrets that outlive a crash of the engine.
struct Cast {
    feed_key: String,
    users: Vec<(String, String)>,
    admin: String,
}

/// One engine folder and whatever runs on it.
struct Stage<'a> {
    dir: &'a Path,
    /// The ledger, when it is not a file in the folder.
    database: Option<&'a str>,
    engine: Option<Engine>,
    crashes: u32,
}

impl Stage<'_> {
    fn rise(&mut self, trap: Option<&str>) {
        self.engine = match start(self.dir, self.database, trap) {
            Started::Listening(engine) => Some(engine),
            Started::Died => {
                self.crashes += 1;
                match start(self.dir, self.database, None) {
                    Started::Listening(engine) => Some(engine),
                    Started::Died => panic!("died without a trap\n{}", tail(self.dir)),
                }
            }
        };
    }

    fn api(&self) -> Api {
        Api::new(&self.engine.as_ref().unwrap().url)
    }

    /// Repeats a call until it is answered; a death in between is followed by a restart.
    async fn insist(&mut self, method: Method, path: &str, token: &str, body: Option<&Value>) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(value) = self.attempt(method.clone(), path, token, body).await {
                return value;
            }
            assert!(Instant::now() < until, "{path}: no answer\n{}", tail(self.dir));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// One call; none when the engine has died under it (it is up again afterwards) or could not serve.
    async fn attempt(&mut self, method: Method, path: &str, token: &str, body: Option<&Value>) -> Option<Value> {
        match self.api().call(method, path, Some(token), body).await {
            Reply::Answered(status, value) if status.is_success() => return Some(value),
            Reply::Answered(status, value) if !status.is_server_error() => panic!("{path}: {status} {value}"),
            Reply::Answered(..) | Reply::Gone => {}
        }
        self.revive();
        None
    }

    fn revive(&mut self) {
        if self.engine.as_mut().is_some_and(Engine::is_dead) {
            self.crashes += 1;
            self.rise(None);
        }
    }
}

async fn cast(stage: &Stage<'_>) -> Cast {
    let api = stage.api();
    let admin = api.login().await.unwrap();
    let feed = api.must(Method::POST, "/api/v1/feeds", &admin, Some(&json!({"name": "script"}))).await;
    let mut users = Vec::new();
    for (name, equity) in [("ann", "500.00"), ("bob", "150.00"), ("cid", "2000.00")] {
        let body = json!({"username": name, "password": "Example-User-1!", "role": "user", "equity": equity, "currency": "USD"});
        let user = api.must(Method::POST, "/api/v1/users", &admin, Some(&body)).await;
        let id = user["id"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/feeds/{}/subscribers/{id}", feed["id"].as_str().unwrap());
        api.must(Method::PUT, &path, &admin, Some(&json!({}))).await;
        users.push((name.to_owned(), id));
    }
    Cast { feed_key: feed["api_key"].as_str().unwrap().to_owned(), users, admin }
}

/// Plays the script; returns the answer that each signal got.
async fn play(stage: &mut Stage<'_>, cast: &Cast) -> BTreeMap<String, Value> {
    let mut answers = BTreeMap::new();
    let mut marks = Marks::new();
    for act in SCRIPT {
        match act {
            Act::Mark(symbol, bid, ask) => {
                marks.insert(symbol, (bid, ask));
                push(stage, cast, &marks).await;
            }
            Act::Stop(symbol, stop) => until_stopped_at(stage, cast, symbol, stop).await,
            Act::Signal(id, text) => {
                let mut body: Value = serde_json::from_str(text).unwrap();
                body["id"] = json!(id);
                let until = Instant::now() + PATIENCE;
                let answer = loop {
                    // A restarted engine has forgotten the market; a feed goes on telling it.
                    push(stage, cast, &marks).await;
                    let answer = stage.attempt(Method::POST, "/api/v1/signals", &cast.feed_key, Some(&body)).await;
                    if let Some(answer) = answer.filter(|answer| answer["decided"] == 3) {
                        break answer;
                    }
                    assert!(Instant::now() < until, "{id}: not decided\n{}", tail(stage.dir));
                };
                answers.insert((*id).to_owned(), answer);
            }
        }
        settle(stage, cast, &marks).await;
    }
    answers
}

async fn push(stage: &mut Stage<'_>, cast: &Cast, marks: &Marks) {
    let at = now();
    let body: Vec<Value> =
        marks.iter().map(|(symbol, (bid, ask))| json!({"symbol": symbol, "bid": bid, "ask": ask, "at": at})).collect();
    stage.insist(Method::POST, "/api/v1/marks", &cast.feed_key, Some(&Value::Array(body))).await;
}

/// Waits until nothing is on its way: nothing that the market has called for is still to be done, and no account changes.
async fn settle(stage: &mut Stage<'_>, cast: &Cast, marks: &Marks) {
    let until = Instant::now() + PATIENCE;
    let mut before = None;
    loop {
        let states = accounts(stage, cast).await;
        let of =
            |what: &str| states.iter().flat_map(|state| state[what].as_array().unwrap().clone()).collect::<Vec<_>>();
        let moving = of("open_orders").iter().any(|order| is_due(order, marks))
            || of("open_positions").iter().any(|position| is_over(position, marks));
        let versions: Vec<_> = states.iter().map(|state| state["version"].clone()).collect();
        if !moving && before.as_ref() == Some(&versions) {
            return;
        }
        assert!(Instant::now() < until, "never settles: {states:?}\n{}", tail(stage.dir));
        before = Some(versions);
    }
}

async fn until_stopped_at(stage: &mut Stage<'_>, cast: &Cast, symbol: &str, stop: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let states = accounts(stage, cast).await;
        let mut positions = states.iter().flat_map(|state| state["open_positions"].as_array().unwrap());
        if positions.all(|position| position["symbol"] != symbol || position["stop_loss"] == stop) {
            return;
        }
        assert!(Instant::now() < until, "the stop does not move: {states:?}\n{}", tail(stage.dir));
    }
}

async fn accounts(stage: &mut Stage<'_>, cast: &Cast) -> Vec<Value> {
    let mut states = Vec::new();
    for (_, id) in &cast.users {
        states.push(stage.insist(Method::GET, &format!("/api/v1/users/{id}/risk-status"), &cast.admin, None).await);
    }
    states
}

fn number(value: &Value) -> f64 {
    value.as_str().unwrap().parse().unwrap()
}

/// The bid and ask of what an item trades.
fn market(item: &Value, marks: &Marks) -> (f64, f64) {
    let (bid, ask) = marks[item["symbol"].as_str().unwrap()];
    (bid.parse().unwrap(), ask.parse().unwrap())
}

/// Whether an order is still to trade at the market as it is.
fn is_due(order: &Value, marks: &Marks) -> bool {
    if order["status"] == "planned" || order["unknown"] == true || order["kind"] == "market" {
        return true;
    }
    let (bid, ask) = market(order, marks);
    if order["side"] == "buy" { ask <= number(&order["price"]) } else { bid >= number(&order["price"]) }
}

/// Whether a position should have been closed at the market as it is.
fn is_over(position: &Value, marks: &Marks) -> bool {
    let (bid, ask) = market(position, marks);
    let (stop, target) = (number(&position["stop_loss"]), number(&position["take_profit"]));
    if position["side"] == "buy" { bid <= stop || bid >= target } else { ask >= stop || ask <= target }
}

/// What must be equal in both runs: everything but ids and times.
async fn picture(stage: &mut Stage<'_>, cast: &Cast) -> BTreeMap<String, Value> {
    let mut picture = BTreeMap::new();
    for (name, id) in &cast.users {
        let mut user = json!({});
        for list in ["decisions", "orders", "positions?open=false", "fills"] {
            let path = format!("/api/v1/users/{id}/{list}{}limit=1000", if list.contains('?') { "&" } else { "?" });
            let page = stage.insist(Method::GET, &path, &cast.admin, None).await;
            let mut items: Vec<Value> = page["items"].as_array().unwrap().iter().map(without_ids).collect();
            items.sort_by_key(Value::to_string);
            user[list.split('?').next().unwrap()] = Value::Array(items);
        }
        let status = stage.insist(Method::GET, &format!("/api/v1/users/{id}/risk-status"), &cast.admin, None).await;
        for key in ["equity", "daily_loss", "timeframes", "trading_enabled", "trading_state"] {
            user[key] = status[key].clone();
        }
        user["open_orders"] = status["open_orders"].as_array().unwrap().iter().map(without_ids).collect();
        picture.insert(name.clone(), user);
    }
    picture
}

fn without_ids(item: &Value) -> Value {
    let mut item = item.clone();
    let object = item.as_object_mut().unwrap();
    object.retain(|key, _| !(key.ends_with("id") || key.ends_with("_at") || key == "at" || key == "unrealized"));
    item
}

/// One whole run with an optional trap; returns the final picture and whether the trap was hit.
async fn run(dir: &Path, kind: Kind, trap: Option<&str>) -> (BTreeMap<String, Value>, u32) {
    let database = match kind {
        Kind::Sqlite => None,
        Kind::Postgres => Some(Database::fresh().await),
    };
    let url = database.as_ref().map(|database| database.url.as_str());
    let mut stage = Stage { dir, database: url, engine: None, crashes: 0 };
    stage.rise(None);
    let cast = cast(&stage).await;
    stage.engine.take().unwrap().end().await;
    stage.rise(trap);
    let answers = play(&mut stage, &cast).await;
    let picture = picture(&mut stage, &cast).await;
    check_answers(&mut stage, &cast, &answers).await;
    stage.engine.take().unwrap().end().await;
    let mut ledger = match url {
        None => Ledger::file(&dir.join("nexus.db")),
        Some(url) => Ledger::at(url).await,
    };
    check_files(dir, &mut ledger).await;
    let crashes = stage.crashes;
    if let Some(database) = database {
        database.remove().await;
    }
    (picture, crashes)
}

/// Every answered signal has exactly the decisions that it was answered with, and a repeat says so.
async fn check_answers(stage: &mut Stage<'_>, cast: &Cast, answers: &BTreeMap<String, Value>) {
    for answer in answers.values() {
        let path = format!("/api/v1/signals/{}", answer["signal_id"].as_str().unwrap());
        let stored = stage.insist(Method::GET, &path, &cast.admin, None).await;
        let ids = |value: &Value| -> BTreeSet<String> {
            let decisions = value.as_array().unwrap().iter();
            decisions.map(|d| format!("{} {}", d["decision_id"], d["verdict"])).collect()
        };
        assert_eq!(ids(&stored["decisions"]), ids(&answer["decisions"]), "{}", tail(stage.dir));
    }
}

/// Reads what was kept, with no engine code in between: the venue's book and the ledger agree, each order once.
async fn check_files(dir: &Path, ledger: &mut Ledger) {
    let orders = nexus_venues::paper::journal::read(&dir.join("paper-venue.journal")).unwrap().orders();
    let mut ids: Vec<String> = orders.iter().map(|order| order.id.to_string()).collect();
    ids.sort();
    let unique: BTreeSet<&String> = ids.iter().collect();
    assert_eq!(ids.len(), unique.len(), "the venue has a client order id twice: {ids:?}");

    let doubtful = ledger.texts("SELECT client_order_id FROM orders WHERE unknown OR status = 'planned'").await;
    assert!(doubtful.is_empty(), "an order is not known: {doubtful:?}");
    let mut known = ledger.texts("SELECT client_order_id FROM orders").await;
    known.sort();
    assert_eq!(known, ids, "ledger and venue disagree");
    let beyond =
        "SELECT CAST(id AS text) FROM decisions WHERE verdict = 'accepted' AND used_before_e8 + risk_e8 > cap_e8";
    assert_eq!(ledger.texts(beyond).await, [""; 0], "a reservation beyond the cap");
}

/// Where two pictures differ, path by path.
fn differences(path: &str, left: &Value, right: &Value) -> Vec<String> {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let keys: BTreeSet<_> = left.keys().chain(right.keys()).collect();
            let of = |object: &serde_json::Map<String, Value>, key: &str| object.get(key).cloned().unwrap_or_default();
            keys.iter().flat_map(|key| differences(&format!("{path}/{key}"), &of(left, key), &of(right, key))).collect()
        }
        (Value::Array(left), Value::Array(right)) => {
            let only = |these: &[Value], those: &[Value], whose: &str| -> Vec<String> {
                these
                    .iter()
                    .filter(|item| !those.contains(item))
                    .map(|item| format!("{path} only {whose}: {item}"))
                    .collect()
            };
            [only(left, right, "after the crash"), only(right, left, "in the reference")].concat()
        }
        _ if left == right => Vec::new(),
        _ => vec![format!("{path}: {left} after the crash, {right} in the reference")],
    }
}

fn passes(dir: &Path) -> BTreeMap<String, u32> {
    let text = std::fs::read_to_string(passes_file(dir)).unwrap();
    text.lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(step, n)| (step.to_owned(), n.parse().unwrap()))
        .collect()
}

/// A small generator of draws; the seed is printed and can be given again.
struct Draw(u64);

impl Draw {
    fn from_env() -> Draw {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = std::env::var("NEXUS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(clock.as_secs());
        println!("NEXUS_SEED={seed}");
        Draw(seed)
    }

    fn up_to(&mut self, n: u32) -> u32 {
        // SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((z ^ (z >> 31)) % u64::from(n.max(1))).unwrap() + 1
    }
}

/// Kills the engine at passes of one step drawn from those that an uninterrupted run makes, until it was hit often enough.
async fn kill_at(step: &str, kind: Kind) {
    let home = tempfile::tempdir().unwrap();
    let fresh = |name: &str| {
        let dir = home.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        dir
    };
    let reference_dir = fresh("reference");
    let (reference, crashes) = run(&reference_dir, kind, None).await;
    assert_eq!(crashes, 0);
    assert!(reference["ann"]["fills"].as_array().unwrap().len() >= 7, "the script trades too little: {reference:?}");
    let passes = passes(&reference_dir)[step];
    assert!(passes > 0, "the script never passes {step}");

    let hits_min = match kind {
        Kind::Sqlite => HITS_MIN,
        Kind::Postgres => HITS_MIN_POSTGRES,
    };
    let hits_wanted = if std::env::var_os("NEXUS_LONG").is_some() { 50 } else { hits_min };
    let mut draw = Draw::from_env();
    let mut hits = 0;
    for attempt in 0..hits_wanted * 3 {
        if hits >= hits_wanted {
            break;
        }
        let trap = format!("{step}:{}", draw.up_to(passes));
        let dir = fresh(&attempt.to_string());
        let (picture, crashes) = run(&dir, kind, Some(&trap)).await;
        let differences = differences("", &json!(picture), &json!(reference));
        assert!(differences.is_empty(), "after a crash at {trap}: {differences:#?}\n{}", tail(&dir));
        hits += crashes.min(1);
    }
    println!("hits of {step} on {kind:?}: {hits}");
    assert!(hits >= hits_min, "{step} was hit only {hits} times");
}

mod sqlite {
    use super::{Kind, kill_at};

    #[tokio::test]
    async fn killed_before_a_commit() {
        kill_at("before_commit", Kind::Sqlite).await;
    }

    #[tokio::test]
    async fn killed_in_a_commit() {
        kill_at("in_commit", Kind::Sqlite).await;
    }

    #[tokio::test]
    async fn killed_after_a_commit_before_the_send() {
        kill_at("after_commit_before_send", Kind::Sqlite).await;
    }

    #[tokio::test]
    async fn killed_in_a_send() {
        kill_at("in_send", Kind::Sqlite).await;
    }

    #[tokio::test]
    async fn killed_after_a_send_before_the_report() {
        kill_at("after_send_before_report", Kind::Sqlite).await;
    }

    #[tokio::test]
    async fn killed_before_the_commit_of_a_report() {
        kill_at("before_report_commit", Kind::Sqlite).await;
    }
}

mod postgresql {
    use super::{Kind, kill_at};

    #[tokio::test]
    async fn killed_before_a_commit() {
        kill_at("before_commit", Kind::Postgres).await;
    }

    #[tokio::test]
    async fn killed_in_a_commit() {
        kill_at("in_commit", Kind::Postgres).await;
    }

    #[tokio::test]
    async fn killed_after_a_commit_before_the_send() {
        kill_at("after_commit_before_send", Kind::Postgres).await;
    }

    #[tokio::test]
    async fn killed_in_a_send() {
        kill_at("in_send", Kind::Postgres).await;
    }

    #[tokio::test]
    async fn killed_after_a_send_before_the_report() {
        kill_at("after_send_before_report", Kind::Postgres).await;
    }

    #[tokio::test]
    async fn killed_before_the_commit_of_a_report() {
        kill_at("before_report_commit", Kind::Postgres).await;
    }
}
