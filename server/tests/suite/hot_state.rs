//! Promise P8: whatever befalls Redis, no decision is made twice, no revoked token is good again, no limit is forgotten.
//!
//! The real binary on a real Redis that is killed, stopped, emptied, restarted empty, and restarted with yesterday's data;
//! after each, and again after a kill of the engine, everything is asked that Redis could have got wrong.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nexus_engine::ids::ClientOrderId;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::engine::{Answer, Engine, PASSWORD, World, eventually, signal};
use super::promises::{Ledger, check_memory, check_venue, market, now, taken};
use nexus_testbed::{Kind, Server};

/// What is asked for beside the stores.
const SETTINGS: &[(&str, &str)] = &[("MAX_LOGIN_ATTEMPTS", "3")];

/// What befalls Redis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Calamity {
    Down,
    Hanging,
    Emptied,
    RestartedEmpty,
    RestoredOld,
}

impl Calamity {
    fn strike(self, redis: &Server, data: &Path) {
        match self {
            Self::Down => redis.kill(),
            Self::Hanging => redis.signal("-STOP"),
            Self::Emptied => assert_eq!(redis.say("FLUSHALL"), "+OK"),
            Self::RestartedEmpty => {
                redis.kill();
                std::fs::remove_file(redis.dump()).expect("there was one");
                redis.restart();
            }
            Self::RestoredOld => {
                redis.kill();
                std::fs::copy(data.join("yesterday.rdb"), redis.dump()).expect("copied");
                redis.restart();
            }
        }
    }

    /// Whether Redis is away until somebody helps it.
    fn lasts(self) -> bool {
        matches!(self, Self::Down | Self::Hanging)
    }

    fn end(self, redis: &Server) {
        match self {
            Self::Down => redis.restart(),
            Self::Hanging => redis.signal("-CONT"),
            Self::Emptied | Self::RestartedEmpty | Self::RestoredOld => {}
        }
    }
}

async fn health(engine: &Engine) -> (u16, Value, Value) {
    let answer = engine.get("/health", "").await;
    (answer.status.as_u16(), answer.body["status"].clone(), answer.body["checks"]["hot_state"].clone())
}

async fn until_health(engine: &Engine, status: &str, hot_state: &str) {
    let expected = (200, json!(status), json!(hot_state));
    eventually(&format!("{status} with a hot state that is {hot_state}"), || async {
        health(engine).await == expected
    })
    .await;
}

async fn try_login(engine: &Engine, name: &str, password: &str) -> Answer {
    let body = json!({"username": name, "password": password});
    engine.call(Method::POST, "/api/v1/auth/login", None, Some(&body)).await
}

/// A world in which much has happened that a Redis of before does not know.
struct Story {
    world: World,
    redis: Server,
    settings: Vec<(String, String)>,
    /// Ended after yesterday.
    dead: String,
    /// The answer to a signal of yesterday, and to one of today.
    answers: [Value; 2],
    folder: TempDir,
}

impl Story {
    async fn on(database: &[(&str, &str)]) -> Story {
        let folder = tempfile::tempdir().expect("a folder");
        let redis = Kind::Redis.private(folder.path());
        let settings = [SETTINGS, database, &[("REDIS_URL", redis.url.as_str())]].concat();
        let engine = Engine::start_on(tempfile::tempdir().expect("a folder"), &settings);
        let world = World::on(engine).await;
        until_health(&world.engine, "ok", "up").await;
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let first = world.engine.post("/api/v1/signals", &world.feed, &signal("yesterday")).await.body;
        assert_eq!(first["accepted"], 1, "{first}");
        eventually("Redis has it", || async { snapshot_version(&redis) > 0 }).await;
        redis.save();
        std::fs::copy(redis.dump(), folder.path().join("yesterday.rdb")).expect("copied");

        let dead = world.engine.login("ann", PASSWORD).await;
        let logout = world.engine.call(Method::POST, "/api/v1/auth/logout", Some(&dead), None).await;
        assert_eq!(logout.status, 204);
        for _ in 0..3 {
            assert_eq!(try_login(&world.engine, "bob", "wrong").await.status, 401);
        }
        let limits = json!({"max_daily_loss": "9.80"});
        let path = format!("/api/v1/users/{}/limits", world.ann.id);
        assert_eq!(world.engine.call(Method::PATCH, &path, Some(&world.admin), Some(&limits)).await.status, 200);
        let mut today = signal("today");
        today["timeframe"] = json!("6H");
        let second = world.engine.post("/api/v1/signals", &world.feed, &today).await.body;
        assert_eq!(second["accepted"], 1, "{second}");
        Story { world, redis, settings, dead, answers: [first, second], folder }
    }

    /// Everything that a Redis which is believed too much would get wrong.
    async fn check(&self, is_lock_known: bool) {
        let World { engine, feed, .. } = &self.world;
        self.world.push_mark("EURUSD", "1.08495", "1.08505").await;
        for (id, timeframe, first) in [("yesterday", "3H", &self.answers[0]), ("today", "6H", &self.answers[1])] {
            let mut repeat = signal(id);
            repeat["timeframe"] = json!(timeframe);
            let again = engine.post("/api/v1/signals", feed, &repeat).await;
            assert_eq!((again.status.as_u16(), &again.body["duplicate"]), (200, &json!(true)), "{}", again.text);
            assert_eq!(again.body["decisions"], first["decisions"]);
            // The same trade under another id is within the duplicate window.
            repeat["id"] = json!(format!("{id} again at {}", now().micros()));
            let other = engine.post("/api/v1/signals", feed, &repeat).await;
            assert_eq!(other.body["accepted"], 0, "{}", other.text);
            assert!(other.body["reasons"]["duplicate_signal"].is_number(), "{}", other.text);
        }
        let path = format!("/api/v1/users/{}/risk-status", self.world.ann.id);
        assert_eq!(engine.get(&path, &self.dead).await.status, 401, "a token that was ended");
        let status = engine.get(&path, &self.world.ann.token).await;
        assert_eq!(status.status, 200, "{}", status.text);
        let loss = &status.body["daily_loss"];
        assert_eq!(loss["cap"], "9.80", "{loss}");
        let held = |part: &str| loss[part].as_str().expect("an amount").parse::<f64>().expect("a number");
        assert!(held("open") + held("reserved") > 8.5 && held("remaining") < 0.8, "two trades are held: {loss}");
        if is_lock_known {
            let locked = try_login(engine, "bob", PASSWORD).await;
            assert_eq!(locked.status, 429, "{}", locked.text);
        }
    }

    /// At which version the account of ann is.
    async fn version(&self) -> u64 {
        let path = format!("/api/v1/users/{}/risk-status", self.world.ann.id);
        let status = self.world.engine.get(&path, &self.world.ann.token).await.body;
        status["version"].as_u64().expect("a number")
    }

    /// The engine is killed and started again on what there is.
    fn restart(mut self) -> Story {
        let settings: Vec<_> = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let spare = Engine::start_on(tempfile::tempdir().expect("a folder"), &[]);
        let data = std::mem::replace(&mut self.world.engine, spare).kill();
        drop(std::mem::replace(&mut self.world.engine, Engine::start_on(data, &settings)));
        self
    }
}

/// The highest version among the snapshots.
fn snapshot_version(redis: &Server) -> u64 {
    let script = "local most = 0 for _, key in ipairs(redis.call('KEYS','*:account:*')) do \
                  most = math.max(most, tonumber(redis.call('GETRANGE', key, 0, 19))) end return most";
    redis.say(&format!("EVAL \"{script}\" 0")).trim_start_matches(':').parse().expect("a number")
}

async fn survive(story: Story, calamity: Calamity) -> Story {
    calamity.strike(&story.redis, story.folder.path());
    story.check(true).await;
    let away = calamity.lasts();
    if away {
        until_health(&story.world.engine, "degraded", "down").await;
    } else {
        until_health(&story.world.engine, "ok", "up").await;
        // What only memory knew has been told again before the engine dies.
        story.world.engine.login("ann", PASSWORD).await;
        let counted = || async { story.redis.say("EVAL \"return #redis.call('KEYS','*:login:*')\" 0") == ":1" };
        eventually("the failed logins are told again", counted).await;
    }
    let story = story.restart();
    story.check(!away).await;
    if away {
        let (code, status, hot_state) = health(&story.world.engine).await;
        assert_eq!((code, status, hot_state), (200, json!("degraded"), json!("down")));
        assert_eq!(story.world.engine.get("/health/ready", "").await.status, 200, "it serves all the same");
        calamity.end(&story.redis);
    }
    until_health(&story.world.engine, "ok", "up").await;
    story.check(!away).await;
    story
}

async fn survive_on_sqlite(calamity: Calamity) {
    let story = survive(Story::on(&[]).await, calamity).await;
    check_memory(&story.world.engine, &story.world.ann).await;
    check_venue(story.world.engine.data_dir());
    let entries =
        taken(story.world.engine.data_dir()).into_iter().filter(|(_, order): &(_, ClientOrderId)| order.is_entry());
    assert_eq!(entries.count(), 2, "two entries, whatever Redis says");
}

#[tokio::test]
async fn a_redis_that_is_away_changes_nothing() {
    survive_on_sqlite(Calamity::Down).await;
}

#[tokio::test]
async fn a_redis_that_hangs_changes_nothing() {
    survive_on_sqlite(Calamity::Hanging).await;
}

#[tokio::test]
async fn a_redis_that_was_emptied_changes_nothing() {
    survive_on_sqlite(Calamity::Emptied).await;
}

#[tokio::test]
async fn a_redis_that_was_restarted_empty_changes_nothing() {
    survive_on_sqlite(Calamity::RestartedEmpty).await;
}

#[tokio::test]
async fn a_redis_with_yesterdays_data_changes_nothing() {
    survive_on_sqlite(Calamity::RestoredOld).await;
}

/// Where the snapshots of accounts were loaded from.
async fn loaded_from(engine: &Engine, place: &str) -> u64 {
    let text = engine.get("/api/v1/metrics", "").await.text;
    let name = format!("nexus_snapshots_loaded_total{{from=\"{place}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().expect("a count"))
}

#[tokio::test]
async fn on_postgresql_a_snapshot_of_redis_is_believed_when_it_is_true_and_an_old_one_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let postgres = Kind::Postgres.private(folder.path());
    let story = Story::on(&[("DATABASE_URL", postgres.url.as_str())]).await;
    story.check(true).await;
    let version = story.version().await;
    eventually("the newest has come to Redis", || async { snapshot_version(&story.redis) == version }).await;
    let story = story.restart();
    story.check(true).await;
    assert!(loaded_from(&story.world.engine, "hot_state").await > 0, "a true one is believed");
    assert_eq!(loaded_from(&story.world.engine, "ledger").await, 0);
    let story = survive(story, Calamity::RestoredOld).await;
    assert!(loaded_from(&story.world.engine, "ledger").await > 0, "an old one is not");
}

#[tokio::test]
async fn while_postgresql_is_away_a_repeat_is_answered_from_redis_and_nothing_new_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let postgres = Kind::Postgres.private(folder.path());
    let story = Story::on(&[("DATABASE_URL", postgres.url.as_str())]).await;
    let World { engine, feed, .. } = &story.world;
    let answers = || async { story.redis.say("EVAL \"return #redis.call('KEYS','*:answer:*')\" 0") == ":2" };
    eventually("both answers are kept", answers).await;
    postgres.crash();
    let again = engine.post("/api/v1/signals", feed, &signal("yesterday")).await;
    assert_eq!((again.status.as_u16(), &again.body["duplicate"]), (200, &json!(true)), "{}", again.text);
    assert_eq!(again.body["decisions"], story.answers[0]["decisions"]);
    let mut changed = signal("yesterday");
    changed["take_profit"] = json!("1.08800");
    for refused in [changed, signal("new")] {
        eventually("it is refused for want of the ledger", || async {
            engine.post("/api/v1/signals", feed, &refused).await.status == 503
        })
        .await;
    }
    postgres.start();
    eventually("the ledger is there again", || async { engine.get("/health", "").await.body["status"] == "ok" }).await;
    story.check(true).await;
}

#[tokio::test]
async fn a_redis_that_is_away_at_the_start_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().expect("a folder");
    let redis = Kind::Redis.private(folder.path());
    redis.kill();
    let began = Instant::now();
    let engine = Engine::start_on(tempfile::tempdir().expect("a folder"), &[("REDIS_URL", redis.url.as_str())]);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    until_health(&engine, "degraded", "down").await;
    assert_eq!(engine.get("/status", "").await.body["hot_state"], "down");
    let metrics = engine.get("/api/v1/metrics", "").await.text;
    assert!(metrics.contains("nexus_hot_state_up 0"), "{metrics}");
    assert!(metrics.contains("nexus_hot_errors_total{operation=\"beat\"}"), "{metrics}");
    redis.restart();
    until_health(&engine, "ok", "up").await;
    assert_eq!(engine.get("/status", "").await.body["hot_state"], "up");
}

#[tokio::test]
async fn a_token_that_was_ended_at_another_instance_is_dead_within_a_second() {
    let world = World::new().await;
    let path = format!("/api/v1/users/{}/risk-status", world.ann.id);
    assert_eq!(world.engine.get(&path, &world.ann.token).await.status, 200);
    let claims = world.ann.token.split('.').nth(1).expect("claims");
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).expect("base64")).expect("JSON");
    let ledger = Ledger::of(world.engine.data_dir());
    let ended = "INSERT INTO revoked_tokens (token_id, until_unix_s) VALUES (?1, ?2)";
    let keys = (claims["jti"].as_str().expect("an id"), claims["exp"].as_i64().expect("a time"));
    assert_eq!(ledger.0.execute(ended, keys).expect("written"), 1);
    let began = Instant::now();
    while world.engine.get(&path, &world.ann.token).await.status != 401 {
        assert!(began.elapsed() < Duration::from_secs(1), "another instance has ended it");
    }
}

#[tokio::test]
async fn a_redis_behind_tls_is_spoken_to_when_its_certificate_is_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let redis = Kind::Redis.private(folder.path());
    let (key, certificate) = (folder.path().join("key.pem"), folder.path().join("certificate.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .args([key.as_os_str(), OsStr::new("-out"), certificate.as_os_str()])
        .stderr(Stdio::null())
        .status();
    assert!(made.expect("openssl runs").success());
    let (plain, certificate) = (redis.url.rsplit(':').next().expect("a port"), certificate.display().to_string());
    let port = plain.parse::<u16>().expect("a port") + 12_001;
    let key = key.display();
    let said = redis.say(&format!(
        "CONFIG SET tls-cert-file {certificate} tls-key-file {key} tls-ca-cert-file {certificate} \
         tls-auth-clients no tls-port {port}"
    ));
    assert_eq!(said, "+OK");
    let url = format!("rediss://127.0.0.1:{port}");
    let data = || tempfile::tempdir().expect("a folder");
    let trusting = Engine::start_on(data(), &[("REDIS_URL", &url), ("SSL_CERT_FILE", &certificate)]);
    until_health(&trusting, "ok", "up").await;
    let doubting = Engine::start_on(data(), &[("REDIS_URL", &url)]);
    until_health(&doubting, "degraded", "down").await;
}

/// The median of the times that decisions take.
async fn median(world: &World, ids: impl Iterator<Item = String>) -> Duration {
    let mut times = Vec::new();
    for id in ids {
        let signal = market(&id, "1.08300", "1.08900");
        let began = Instant::now();
        let answer = world.engine.post("/api/v1/signals", &world.feed, &signal).await;
        times.push(began.elapsed());
        assert_eq!(answer.body["decided"], 1, "{}", answer.text);
    }
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test]
async fn decisions_take_no_longer_while_redis_is_away_or_hangs() {
    let folder = tempfile::tempdir().expect("a folder");
    let redis = Kind::Redis.private(folder.path());
    let engine = Engine::start_on(
        tempfile::tempdir().expect("a folder"),
        &[("REDIS_URL", redis.url.as_str()), ("LOG_LEVEL", "warn")],
    );
    let world = World::on(engine).await;
    let mut ratios = Vec::new();
    // Other tests may take the machine in the middle of one; not of all.
    for round in 0..6 {
        let ids = |part: &str| (0..60).map(|n| format!("{round} {part} {n}")).collect::<Vec<_>>();
        world.push_mark("EURUSD", "1.08495", "1.08505").await;
        let usual = median(&world, ids("usual").into_iter()).await;
        redis.signal("-STOP");
        let hanging = median(&world, ids("hanging").into_iter()).await;
        redis.signal("-CONT");
        redis.kill();
        let away = median(&world, ids("away").into_iter()).await;
        redis.restart();
        until_health(&world.engine, "ok", "up").await;
        ratios.push(hanging.max(away).as_secs_f64() / usual.as_secs_f64());
        if ratios.iter().any(|ratio| *ratio <= 1.2) {
            return;
        }
    }
    panic!("{ratios:?}");
}

#[tokio::test]
async fn a_name_is_locked_whoever_it_is_and_the_right_password_with_it() {
    let settings = [("MAX_LOGIN_ATTEMPTS", "3"), ("LOCKOUT_MINUTES", "2")];
    let engine = Engine::start_on(tempfile::tempdir().expect("a folder"), &settings);
    let password = engine.admin_password();
    for name in ["admin", "nobody"] {
        for _ in 0..3 {
            assert_eq!(try_login(&engine, name, "wrong").await.status, 401);
        }
    }
    let answers = [
        try_login(&engine, "admin", &password).await,
        try_login(&engine, "admin", "wrong").await,
        try_login(&engine, "nobody", "wrong").await,
    ];
    for answer in &answers {
        assert_eq!(answer.status, 429, "{}", answer.text);
        answer.check_problem();
        let wait: u64 = answer.header("retry-after").expect("a wait").parse().expect("seconds");
        assert!((100..=120).contains(&wait), "{wait}");
        assert_eq!(answer.text, answers[0].text, "existing or not, right or wrong: alike");
    }
    assert_eq!(try_login(&engine, "somebody", "wrong").await.status, 401);
    let metrics = engine.get("/api/v1/metrics", "").await.text;
    assert!(metrics.contains("nexus_logins_total{outcome=\"locked\"} 3"), "{metrics}");
}

#[tokio::test]
async fn a_good_login_gives_all_attempts_back() {
    let engine = Engine::start_on(tempfile::tempdir().expect("a folder"), &[("MAX_LOGIN_ATTEMPTS", "3")]);
    for _ in 0..3 {
        for _ in 0..2 {
            assert_eq!(try_login(&engine, "admin", "wrong").await.status, 401);
        }
        engine.admin().await;
    }
}
