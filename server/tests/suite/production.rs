//! What the tests on production memory stand on: databases of their own, and a ledger read by SQL with no engine code between.
//!
//! They speak to the real binary on a real PostgreSQL and a real Redis, and believe its answers only as far as the tables and the venue's
//! book say the same. A test that harms its server has one for itself; the others share one, each with its own database.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use nexus_testbed::{Kind, Server, with_database};
use nexus_venues::paper::{Change, journal};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tempfile::TempDir;

use super::engine::{Engine, Member, PATIENCE, World, member};
use super::promises::{ONLY_THE_CAP, risk_status, steps, taken};

/// A database for one engine, and a corner of the Redis that all tests share.
pub struct Database {
    /// Where an engine finds it.
    pub url: String,
    redis: String,
    prefix: String,
    home: Home,
}

/// Who takes the database away.
enum Home {
    /// Dropped from the server that tests share: the URL of its first database, and the name of this one.
    Shared(String, String),
    /// With its server, whose keeper has notes in the folder.
    Private(Server, #[expect(dead_code, reason = "held as long as the server")] TempDir),
}

impl Database {
    /// One on the server that all tests share.
    pub async fn fresh() -> Database {
        let server = Kind::Postgres.shared();
        let name = format!("engine_{}", uuid::Uuid::new_v4().simple());
        execute(&mut connect(&server).await, &format!("CREATE DATABASE {name}")).await;
        Self::of(with_database(&server, &name), Home::Shared(server, name))
    }

    /// One on a server of its own.
    pub fn alone() -> Database {
        let folder = tempfile::tempdir().expect("a folder");
        let server = Kind::Postgres.private(folder.path());
        Self::of(server.url.clone(), Home::Private(server, folder))
    }

    /// One on a server of its own whose files are below `place`.
    pub fn alone_in(place: &Path) -> Database {
        let folder = tempfile::tempdir().expect("a folder");
        let server = Kind::Postgres.private_in(folder.path(), place);
        Self::of(server.url.clone(), Home::Private(server, folder))
    }

    fn of(url: String, home: Home) -> Database {
        let prefix = format!("engine-{}", uuid::Uuid::new_v4().simple());
        Database { url, redis: Kind::Redis.shared(), prefix, home }
    }

    /// Settings that name both stores.
    pub fn stores(&self) -> [(&str, &str); 3] {
        [("DATABASE_URL", &self.url), ("REDIS_URL", &self.redis), ("NEXUS_REDIS_PREFIX", &self.prefix)]
    }

    /// Settings of an engine on both stores on which nothing but the day's cap refuses, with some more.
    pub fn settings<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        [ONLY_THE_CAP, &self.stores(), more].concat()
    }

    /// The server that is this database's own.
    pub fn server(&self) -> &Server {
        match &self.home {
            Home::Private(server, _) => server,
            Home::Shared(..) => panic!("the server is not this test's own"),
        }
    }

    /// The port of its server.
    pub fn port(&self) -> u16 {
        let (_, rest) = self.url.rsplit_once(':').expect("a port");
        rest.split('/').next().and_then(|port| port.parse().ok()).expect("a port")
    }

    /// The same by another port of this machine.
    pub fn url_by(&self, port: u16) -> String {
        self.url.replace(&format!(":{}/", self.port()), &format!(":{port}/"))
    }

    /// Somebody who is not the engine reads it.
    pub async fn sql(&self) -> Sql {
        Sql(connect(&self.url).await)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Home::Shared(server, name) = &self.home else { return };
        let (server, name) = (server.clone(), name.clone());
        // A runtime of its own: the test's may be in the middle of ending.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                execute(&mut connect(&server).await, &format!("DROP DATABASE {name} WITH (FORCE)")).await;
            });
        });
        dropping.join().expect("dropped");
    }
}

/// A connection.
pub async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// Runs statements.
pub async fn execute(connection: &mut PgConnection, sql: &str) -> u64 {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}")).rows_affected()
}

/// An engine on a new folder and this database, which must be empty.
pub async fn world(database: &Database, more: &[(&str, &str)]) -> World {
    World::on(Engine::start_on(tempfile::tempdir().expect("a folder"), &database.settings(more))).await
}

/// A free port of this machine, for an engine that comes back on it.
pub fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.expect("a port").port().to_string()
}

/// More users, all of whom follow the feed like the first.
pub async fn followers(world: &World, names: &[&str]) -> Vec<Member> {
    let mut members = Vec::new();
    for name in names {
        let follower = member(&world.engine, &world.admin, name).await;
        let path = format!("/api/v1/feeds/breakout/subscribers/{}", follower.id);
        let answer = world.engine.call(Method::PUT, &path, Some(&world.admin), Some(&json!({}))).await;
        assert_eq!(answer.status, 204, "{}", answer.text);
        members.push(follower);
    }
    members
}

/// The ledger, read by somebody who is not the engine.
pub struct Sql(pub PgConnection);

impl Sql {
    /// One number.
    pub async fn number(&mut self, sql: &str) -> i64 {
        let number = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut self.0).await;
        number.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Texts.
    pub async fn texts(&mut self, sql: &str) -> Vec<String> {
        let texts = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(&mut self.0).await;
        texts.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Each entry of the venue's book is there once, under a decision that the ledger has accepted (promises P1 and P3).
    pub async fn check_venue(&mut self, data: &Path) {
        // The book first: what is in it by now must have been permitted before.
        let taken = taken(data);
        let accepted = "SELECT replace(id::text, '-', '') FROM decisions WHERE verdict = 'accepted'";
        let permitted: BTreeSet<String> = self.texts(accepted).await.into_iter().collect();
        let mut seen = BTreeSet::new();
        for (_, order) in taken {
            assert!(seen.insert(order), "the venue has {order} twice");
            let decision = order.decision.0.simple().to_string();
            assert!(permitted.contains(&decision), "the venue has {order}, which no committed decision permits");
        }
    }

    /// Everything that was answered is there, and as it was answered.
    pub async fn check_answers(&mut self, answered: &BTreeMap<String, Value>) {
        let sql =
            "SELECT s.key, coalesce(string_agg(concat_ws(' ', d.user_id, d.id, d.verdict), ',' ORDER BY d.user_id), '')
                     FROM signals s LEFT JOIN decisions d ON d.signal_id = s.id GROUP BY s.key";
        let rows = sqlx::query(sql).fetch_all(&mut self.0).await.expect("read");
        let stored: BTreeMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        for (key, answer) in answered {
            let text = |decision: &Value, field: &str| decision[field].as_str().expect("a text").to_owned();
            let mut lines: Vec<String> = (answer["decisions"].as_array().expect("a list").iter())
                .map(|one| format!("{} {} {}", text(one, "user_id"), text(one, "decision_id"), text(one, "verdict")))
                .collect();
            lines.sort();
            assert_eq!(stored.get(key), Some(&lines.join(",")), "{key} was answered otherwise, or is lost: {answer}");
        }
    }

    /// Every counter is the sum of the facts that it counts, and every record stands on what permits it.
    pub async fn check_sums(&mut self) {
        for (what, sql) in SUMS {
            let wrong = self.texts(sql).await;
            assert!(wrong.is_empty(), "{what}: {wrong:?}");
        }
    }

    /// The venue's fills and the ledger's are the same.
    pub async fn check_fills(&mut self, data: &Path) {
        let records = journal::read(&data.join("paper-venue.journal")).expect("a whole journal").records;
        let mut traded: Vec<String> = (records.iter())
            .filter(|record| matches!(record.change, Change::Filled { .. }))
            .map(|record| record.order.to_string())
            .collect();
        traded.sort();
        let known = self.texts("SELECT client_order_id FROM fills ORDER BY client_order_id COLLATE \"C\"").await;
        assert_eq!(known, traded, "fills of the ledger, and of the venue");
    }

    /// What memory says of an account is what the ledger holds. A trade may still be under way: both are read at one version.
    pub async fn check_memory(&mut self, engine: &Engine, member: &Member) -> Value {
        let sql = "SELECT greatest(0, -coalesce(d.realized_e8, 0)), a.open_e8, a.reserved_e8,
                          a.starting_equity_e8 + a.net_realized_e8, a.version
                     FROM accounts a LEFT JOIN daily_risk d ON d.user_id = a.user_id AND d.day = a.day
                    WHERE a.user_id = $1::uuid";
        let began = Instant::now();
        loop {
            let status = risk_status(engine, member).await;
            let row = sqlx::query(sql).bind(&member.id).fetch_one(&mut self.0).await.expect("read");
            let cell = |index: usize| row.get::<i64, _>(index);
            if status["version"] == json!(cell(4)) {
                let loss = ["realized", "open", "reserved"].map(|part| steps(&status["daily_loss"][part]));
                assert_eq!(loss, [cell(0), cell(1), cell(2)], "realised, open, reserved: {status}");
                assert_eq!(steps(&status["equity"]), cell(3), "{status}");
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "the ledger stays at version {} of {status}", cell(4));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Rows that contradict what they count, by what is wrong with them.
const SUMS: &[(&str, &str)] = &[
    (
        "realised profit and loss is not the sum of the fills",
        "SELECT a.user_id::text FROM accounts a
          WHERE net_realized_e8 <> (SELECT coalesce(sum(realized_e8), 0) FROM fills f WHERE f.user_id = a.user_id)
             OR net_realized_e8 <> (SELECT coalesce(sum(realized_e8), 0) FROM daily_risk d WHERE d.user_id = a.user_id)
             OR net_realized_e8 <> (SELECT coalesce(sum(realized_e8), 0) FROM positions p WHERE p.user_id = a.user_id)",
    ),
    (
        "an order's fills do not add up to it",
        "SELECT client_order_id FROM orders o
          WHERE filled_e8 <> (SELECT coalesce(sum(quantity_e8), 0) FROM fills f
                               WHERE f.client_order_id = o.client_order_id)",
    ),
    (
        "a position is not what was bought less what was sold",
        "SELECT p.decision_id::text FROM positions p
          WHERE quantity_e8 <> (SELECT sum(CASE o.purpose WHEN 'entry' THEN o.filled_e8 ELSE -o.filled_e8 END)
                                  FROM orders o WHERE o.decision_id = p.decision_id)",
    ),
    (
        "acceptances of a day are counted wrongly",
        "SELECT u.id::text FROM users u
          WHERE (SELECT coalesce(sum(used), 0) FROM daily_counts c WHERE c.user_id = u.id)
             <> (SELECT count(*) FROM decisions d LEFT JOIN orders o
                     ON o.decision_id = d.id AND o.purpose = 'entry'
                  WHERE d.user_id = u.id AND d.verdict = 'accepted'
                    AND NOT (coalesce(o.status, 'planned') IN ('cancelled', 'rejected', 'expired') AND o.filled_e8 = 0))",
    ),
    (
        "turns are missing",
        "SELECT a.user_id::text FROM accounts a LEFT JOIN events e ON e.user_id = a.user_id
          GROUP BY a.user_id, a.version HAVING count(e.version) <> a.version OR max(e.version) <> a.version",
    ),
    (
        "an order or a position without an accepted decision",
        "SELECT o.client_order_id FROM orders o
          WHERE NOT EXISTS (SELECT FROM decisions d WHERE d.id = o.decision_id AND d.verdict = 'accepted')
         UNION ALL SELECT p.decision_id::text FROM positions p
          WHERE NOT EXISTS (SELECT FROM decisions d WHERE d.id = p.decision_id AND d.verdict = 'accepted')",
    ),
    (
        "a decision twice",
        "SELECT concat_ws(' ', signal_id, user_id) FROM decisions GROUP BY signal_id, user_id HAVING count(*) > 1",
    ),
    (
        "a reservation beyond the cap",
        "SELECT d.id::text FROM decisions d JOIN limits l ON l.user_id = d.user_id
          WHERE verdict = 'accepted' AND (used_before_e8 + risk_e8 > cap_e8 OR cap_e8 > max_daily_loss_e8)",
    ),
    ("a signal that nobody decides", "SELECT key FROM signals WHERE undecided <> 0"),
];

/// Risk that is held although nothing is open.
pub const HELD_BY_NOTHING: &str = "SELECT count(*) FROM accounts
     WHERE NOT open_business AND (open_e8, reserved_e8) <> (0, 0)";

/// Stops entries, has the market reach every target, and waits until nothing is open; then the sums must be right.
pub async fn close_everything(world: &World, sql: &mut Sql) {
    let stop = world.engine.post("/admin/emergency-stop", &world.admin, &json!({"reason": "the end"})).await;
    assert_eq!((stop.status.as_u16(), &stop.body["persisted"]), (200, &json!(true)), "{}", stop.text);
    world.push_mark("EURUSD", "1.09000", "1.09010").await;
    let open = "SELECT user_id::text FROM accounts WHERE open_business";
    let began = Instant::now();
    while !sql.texts(open).await.is_empty() {
        assert!(began.elapsed() < PATIENCE, "never closes: {}", world.engine.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(sql.number(HELD_BY_NOTHING).await, 0, "risk is held by nothing");
    sql.check_venue(world.engine.data_dir()).await;
    sql.check_fills(world.engine.data_dir()).await;
    sql.check_sums().await;
}
