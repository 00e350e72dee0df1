//! Two instances on one ledger: one owns the accounts, the other says that it stands by, and takes over when the first is
//! killed, ends, or sleeps too long (promises P1, P2, P4 and P7).
//!
//! Where a test lets the second one go on trading, both have the venue's book as one file, because a paper venue lives with
//! its engine; a real one stands outside of both.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nexus_engine::ids::ClientOrderId;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::engine::{self, PATIENCE, command};
use super::production::{Database, Sql, free_port};
use super::promises::{is_filled, market, taken};

const LEASE: Duration = Duration::from_secs(2);
/// From the death of the owner to the first service of the other: its lease, and two seconds.
const TAKES_OVER_WITHIN: Duration = Duration::from_secs(4);
/// The same when the owner has said goodbye.
const AT_ONCE: Duration = Duration::from_millis(1_500);
const ADMIN_PASSWORD: &str = "Example-Admin-1!";
/// Both judge each other's tokens.
const MORE: &[(&str, &str)] = &[
    ("LEASE_SECONDS", "2"),
    ("SECRET_KEY", "an example of 32 bytes or more!!"),
    ("ADMIN_PASSWORD", ADMIN_PASSWORD),
    ("MAX_DAILY_LOSS", "1000"),
];

/// An engine that need not serve yet.
struct Instance {
    process: Child,
    base: String,
    client: Client,
    data: TempDir,
}

impl Drop for Instance {
    fn drop(&mut self) {
        // It may have ended already; a sleeping one is killed as well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Instance {
    /// Starts one on a new folder.
    fn start(database: &Database) -> Instance {
        Self::start_on(tempfile::tempdir().expect("a folder"), database)
    }

    fn start_on(data: TempDir, database: &Database) -> Instance {
        let port = free_port();
        let more = [MORE, &[("API_PORT", port.as_str())]].concat();
        let process = command(data.path(), &database.settings(&more)).spawn().expect("started");
        let client = Client::builder().timeout(PATIENCE).no_proxy().tls_certs_only([]).build().expect("a client");
        Instance { process, base: format!("http://127.0.0.1:{port}"), client, data }
    }

    /// Starts one with the venue's book of another.
    fn beside(other: &Instance, database: &Database) -> Instance {
        let data = tempfile::tempdir().expect("a folder");
        for file in ["paper-venue.journal", "paper-venue.journal.marks"] {
            std::os::unix::fs::symlink(other.data.path().join(file), data.path().join(file)).expect("linked");
        }
        Self::start_on(data, database)
    }

    fn log(&self) -> String {
        engine::log(self.data.path())
    }

    /// What it says of itself; none while it does not answer.
    async fn health(&self, path: &str) -> Option<(StatusCode, Value)> {
        let response = self.client.get(format!("{}{path}", self.base)).send().await.ok()?;
        let status = response.status();
        Some((status, response.json().await.ok()?))
    }

    async fn post(&self, path: &str, bearer: &str, body: &Value) -> (StatusCode, Value) {
        let request = self.client.post(format!("{}{path}", self.base)).bearer_auth(bearer).json(body);
        let response = request.send().await.expect("answered");
        let status = response.status();
        (status, response.json().await.unwrap_or(Value::Null))
    }

    async fn must(&self, path: &str, bearer: &str, body: &Value) -> Value {
        let (status, body) = self.post(path, bearer, body).await;
        assert!(status.is_success(), "{path}: {status} {body}");
        body
    }

    /// Waits until it serves; returns how long that took.
    async fn until_ready(&self) -> Duration {
        let began = Instant::now();
        while self.health("/health/ready").await.is_none_or(|(status, _)| status != 200) {
            assert!(began.elapsed() < PATIENCE, "it never serves: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        began.elapsed()
    }

    /// Waits until it says that it stands by, with the ledger in this state.
    async fn until_standby(&self, ledger: &str) {
        let began = Instant::now();
        loop {
            if let Some((status, body)) = self.health("/health/ready").await
                && body["role"] == "standby"
                && body["checks"]["ledger"] == ledger
            {
                assert_eq!(status, 503, "{body}");
                return;
            }
            assert!(began.elapsed() < PATIENCE, "it never stands by: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn signal(&self, name: &str) {
        let told = Command::new("kill").args([name, &self.process.id().to_string()]).status().expect("kill runs");
        assert!(told.success());
    }

    /// Waits for its end; gives its folder back.
    async fn ended(mut self) -> (ExitStatus, TempDir) {
        let began = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("a child") {
                let data = std::mem::replace(&mut self.data, tempfile::tempdir().expect("a folder"));
                return (status, data);
            }
            assert!(began.elapsed() < PATIENCE, "it does not end: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn kill(mut self) -> TempDir {
        self.process.kill().expect("killed");
        self.ended().await.1
    }
}

/// The entries that the venue on this folder has taken.
fn entries(data: &Path) -> Vec<ClientOrderId> {
    taken(data).into_iter().map(|(_, order)| order).filter(|order| order.is_entry()).collect()
}

/// A user, and a feed that he follows; all of them outlive any instance.
struct Cast {
    admin: String,
    user: String,
    feed: String,
}

impl Cast {
    async fn of(owner: &Instance) -> Cast {
        let login = json!({"username": "admin", "password": ADMIN_PASSWORD});
        let admin = owner.must("/api/v1/auth/login", "", &login).await["access_token"].clone();
        let admin = admin.as_str().expect("a token").to_owned();
        let body = json!({
            "username": "ann", "password": "Example-User-1!", "role": "user", "equity": "500.00", "currency": "USD"
        });
        let user = owner.must("/api/v1/users", &admin, &body).await["id"].as_str().expect("an id").to_owned();
        let feed = owner.must("/api/v1/feeds", &admin, &json!({"name": "breakout"})).await;
        let path = format!("{}/api/v1/feeds/breakout/subscribers/{user}", owner.base);
        let request = owner.client.put(path).bearer_auth(&admin).json(&json!({}));
        assert_eq!(request.send().await.expect("answered").status(), 204);
        Cast { admin, user, feed: feed["api_key"].as_str().expect("a key").to_owned() }
    }

    async fn mark(&self, at: &Instance, bid: &str, ask: &str) {
        let now = jiff::Timestamp::now().to_string();
        at.must("/api/v1/marks", &self.feed, &json!([{"symbol": "EURUSD", "bid": bid, "ask": ask, "at": now}])).await;
    }

    /// Sends a signal that has to be accepted; returns its answer.
    async fn enter(&self, at: &Instance, id: &str) -> Value {
        self.mark(at, "1.08495", "1.08505").await;
        let answer = at.must("/api/v1/signals", &self.feed, &market(id, "1.08300", "1.08900")).await;
        assert_eq!(answer["accepted"], 1, "{answer}");
        answer
    }
}

fn order_of(answer: &Value) -> String {
    answer["decisions"][0]["client_order_id"].as_str().expect("an id").to_owned()
}

async fn until_filled(data: &Path, order: &str) {
    let began = Instant::now();
    while !is_filled(data, order) {
        assert!(began.elapsed() < PATIENCE, "{order} never trades");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_says_so_and_takes_over_from_a_killed_owner_and_at_once_from_one_that_ends() {
    let database = Database::fresh().await;
    let owner = Instance::start(&database);
    owner.until_ready().await;
    assert_eq!(owner.health("/health").await.expect("answered").1["role"], "owner");
    let cast = Cast::of(&owner).await;
    let held = cast.enter(&owner, "before the kill").await;
    until_filled(owner.data.path(), &order_of(&held)).await;

    let standby = Instance::beside(&owner, &database);
    standby.until_standby("up").await;
    let (status, body) = standby.post("/api/v1/signals", &cast.feed, &market("to the standby", "1.083", "1.089")).await;
    assert_eq!(status, 503, "{body}");

    let killed = owner.kill().await;
    let took = standby.until_ready().await;
    println!("taken over {took:?} after a kill, with a lease of {LEASE:?}");
    assert!(took < TAKES_OVER_WITHIN, "{took:?}: {}", standby.log());
    let status = standby.client.get(format!("{}/status", standby.base)).send().await.expect("answered");
    let status: Value = status.json().await.expect("JSON");
    assert_eq!(status["risk_engine"]["state"], "active", "who saw the ledger all the while need not halt: {status}");
    // What was answered is known here, and what is held is watched over.
    let again = standby.must("/api/v1/signals", &cast.feed, &market("before the kill", "1.08300", "1.08900")).await;
    assert_eq!((&again["duplicate"], &again["decisions"]), (&json!(true), &held["decisions"]), "{again}");
    cast.mark(&standby, "1.08290", "1.08300").await;
    until_filled(standby.data.path(), &format!("{}-x1", order_of(&held).trim_end_matches("-e"))).await;

    let back = Instance::start_on(killed, &database);
    back.until_standby("up").await;
    standby.signal("-TERM");
    let ending = Instant::now();
    back.until_ready().await;
    let (status, _data) = standby.ended().await;
    println!("taken over {:?} after a SIGTERM", ending.elapsed());
    assert!(status.success() && ending.elapsed() < AT_ONCE, "{status}, {:?}", ending.elapsed());
    cast.enter(&back, "after both").await;
    let mut sql = database.sql().await;
    assert_eq!(sql.number("SELECT count(*) FROM decisions").await, 2);
    sql.check_venue(back.data.path()).await;
    sql.check_sums().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_has_slept_through_its_lease_commits_nothing_and_sends_nothing_and_ends() {
    let database = Database::fresh().await;
    let owner = Instance::start(&database);
    owner.until_ready().await;
    let cast = Cast::of(&owner).await;
    cast.enter(&owner, "awake").await;
    let standby = Instance::start(&database);
    standby.until_standby("up").await;

    // Some are under way when it falls asleep, and more arrive while it sleeps.
    let (client, url, feed) = (owner.client.clone(), format!("{}/api/v1/signals", owner.base), cast.feed.clone());
    let load: Vec<_> = (0..40)
        .map(|n| {
            let request = client.post(&url).bearer_auth(&feed).json(&market(&format!("asleep {n}"), "1.083", "1.089"));
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(5 * n)).await;
                let response = request.send().await.ok()?;
                (response.status() == 200).then_some(response.json::<Value>().await.ok()?)
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(60)).await;
    owner.signal("-STOP");
    let took = standby.until_ready().await;
    println!("taken over {took:?} after a SIGSTOP");
    assert!(took < TAKES_OVER_WITHIN, "{took:?}: {}", standby.log());
    let mut sql = database.sql().await;
    let by_the_old = decided(&mut sql, "asleep").await;
    let sent_by_the_old = entries(owner.data.path());
    cast.enter(&standby, "by the new one").await;

    owner.signal("-CONT");
    let path: PathBuf = owner.data.path().into();
    let began = Instant::now();
    let (status, data) = owner.ended().await;
    let said = engine::log(&path);
    println!("the old owner ended {:?} after it woke up", began.elapsed());
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("another instance owns the accounts"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(entries(data.path()), sent_by_the_old, "an entry has left after the takeover");
    assert_eq!(decided(&mut sql, "asleep").await, by_the_old, "a decision was committed after the takeover");
    // What it has answered was decided before; the rest is nobody's, and can be sent to the new owner.
    for answer in load {
        if let Some(answer) = answer.await.expect("sent") {
            let id = answer["decisions"][0]["decision_id"].as_str().expect("an id").to_owned();
            assert!(by_the_old.contains(&id), "answered, and not decided: {answer}");
        }
    }
    let (status, body) = standby.post("/api/v1/signals", &cast.feed, &market("asleep 39", "1.083", "1.089")).await;
    assert_eq!((status.as_u16(), &body["decided"]), (200, &json!(1)), "{body}");
    sql.check_sums().await;
}

/// The decisions on signals whose names begin so.
async fn decided(sql: &mut Sql, name: &str) -> Vec<String> {
    let query = "SELECT d.id::text FROM decisions d JOIN signals s ON s.id = d.signal_id WHERE s.key LIKE '";
    sql.texts(&format!("{query}{name} %' ORDER BY 1")).await
}

/// The owner is stopped while nobody can write it down, and dies. Whoever takes over has not heard of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_may_have_missed_a_stop_takes_over_halted() {
    let database = Database::alone();
    let owner = Instance::start(&database);
    owner.until_ready().await;
    let cast = Cast::of(&owner).await;
    cast.mark(&owner, "1.08495", "1.08505").await;
    let standby = Instance::start(&database);
    standby.until_standby("up").await;
    tokio::task::block_in_place(|| database.server().crash());
    standby.until_standby("down").await;
    let stopped = owner.must("/admin/emergency-stop", &cast.admin, &json!({"reason": "unheard"})).await;
    assert_eq!((&stopped["state"], &stopped["persisted"]), (&json!("halted"), &json!(false)), "{stopped}");
    drop(owner.kill().await);

    tokio::task::block_in_place(|| database.server().start());
    standby.until_ready().await;
    cast.mark(&standby, "1.08495", "1.08505").await;
    let answer = standby.must("/api/v1/signals", &cast.feed, &market("unheard of", "1.08300", "1.08900")).await;
    assert_eq!(answer["reasons"], json!({"trading_halted": 1}), "{answer}");
    assert_eq!(entries(standby.data.path()), []);
    // A person looks, and resumes.
    standby.must("/admin/emergency-resume", &cast.admin, &json!({})).await;
    cast.enter(&standby, "after a person").await;
    let status = standby.client.get(format!("{}/api/v1/users/{}/risk-status", standby.base, cast.user));
    let status: Value = status.bearer_auth(&cast.admin).send().await.expect("answered").json().await.expect("JSON");
    assert_eq!(status["trading_state"], "active", "{status}");
}
