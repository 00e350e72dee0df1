//! The database is away, cannot be written, or has no room left: entries are refused, exits leave, the stop works, and what
//! has happened meanwhile is written when it is back (promises P1, P4 and P6).

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::engine::{Engine, PATIENCE, World, eventually};
use super::production::{Database, Sql, close_everything, connect, execute, world};
use super::production_load::{Load, check_record};
use super::promises::{Draw, enter, is_filled, market, taken};

/// From when the database takes writes again to a decision.
const SERVES_WITHIN: Duration = Duration::from_secs(5);
/// While it is away: how long a new signal waits for its refusal, and a stop for its answer.
const TOLD_WITHIN: Duration = Duration::from_secs(4);
/// From the mark to the order, while nothing can be asked or written.
const LEAVES_WITHIN: Duration = Duration::from_secs(1);

/// A new signal is refused, with a word on when to come back.
pub async fn check_refusal(world: &World, id: &str) {
    let began = Instant::now();
    let answer = world.engine.post("/api/v1/signals", &world.feed, &market(id, "1.08300", "1.08900")).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    answer.check_problem();
    assert!(answer.header("retry-after").is_some(), "a 503 says when to come back");
    assert!(began.elapsed() < TOLD_WITHIN, "refused only after {:?}", began.elapsed());
}

/// Sends a signal again and again until it is decided.
async fn until_decided(world: &World, id: &str) -> Value {
    let began = Instant::now();
    loop {
        world.push_mark("EURUSD", "1.08495", "1.08505").await;
        let answer = world.engine.post("/api/v1/signals", &world.feed, &market(id, "1.08300", "1.08900")).await;
        if answer.status == 200 {
            return answer.body;
        }
        assert!(began.elapsed() < PATIENCE, "never serves again: {}", answer.text);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Pushes marks as a feed does, one after the other, until `is_so`.
pub async fn push_until(world: &World, bid: &str, ask: &str, is_so: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !is_so() {
        let mark = json!([{"symbol": "EURUSD", "bid": bid, "ask": ask, "at": jiff::Timestamp::now().to_string()}]);
        let answer = world.engine.post("/api/v1/marks", &world.feed, &mark).await;
        assert_eq!(answer.status, 200, "marks are taken: {}", answer.text);
        assert!(began.elapsed() < PATIENCE, "not in time: {}", world.engine.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_postgresql_is_away_stops_leave_and_a_person_can_stop_and_all_is_written_afterwards() {
    let database = Database::alone();
    let world = world(&database, &[]).await;
    let data = world.engine.data_dir().to_owned();
    let entry = enter(&world, &market("held", "1.08300", "1.08900")).await;
    let mut sql = database.sql().await;
    until(&mut sql, "the entry's fill is written", "SELECT count(*) FROM fills", 1).await;
    drop(sql);

    tokio::task::block_in_place(|| database.server().crash());
    check_refusal(&world, "away").await;
    assert_eq!(world.engine.get("/health/ready", "").await.status, 503);
    // Longer than anybody is believed without being asked about.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let exit = format!("{}-x1", entry.trim_end_matches("-e"));
    let took = push_until(&world, "1.08290", "1.08300", || is_filled(&data, &exit)).await;
    println!("the stop left after {took:?}");
    assert!(took < LEAVES_WITHIN, "{took:?}");
    let began = Instant::now();
    let stop = world.engine.post("/admin/emergency-stop", &world.admin, &json!({"reason": "no database"})).await;
    println!("the emergency stop took {:?}", began.elapsed());
    assert!(began.elapsed() < TOLD_WITHIN, "{:?}", began.elapsed());
    assert_eq!((stop.status.as_u16(), &stop.body["state"]), (200, &json!("halted")), "{}", stop.text);
    assert_eq!(stop.body["persisted"], false, "{}", stop.text);
    assert_eq!(taken(&data).len(), 2, "nothing has left but the exit");

    tokio::task::block_in_place(|| database.server().start());
    let back = Instant::now();
    let mut sql = database.sql().await;
    until(&mut sql, "the exit's fill is written", "SELECT count(*) FROM fills", 2).await;
    let halted = "SELECT count(*) FROM trading_state WHERE state = 'halted' AND reason = 'no database'";
    until(&mut sql, "the stop is written", halted, 1).await;
    let resumed = world.engine.call(Method::POST, "/admin/emergency-resume", Some(&world.admin), None).await;
    assert_eq!(resumed.status, 200, "{}", resumed.text);
    let answer = until_decided(&world, "away").await;
    println!("served {:?} after the database", back.elapsed());
    assert!(back.elapsed() < SERVES_WITHIN, "{:?}", back.elapsed());
    assert_eq!(answer["accepted"], 1, "what was refused can be sent again: {answer}");
    close_everything(&world, &mut sql).await;
    let status = sql.check_memory(&world.engine, &world.ann).await;
    assert_ne!(status["daily_loss"]["realized"], "0", "the stop's loss is counted: {status}");
    assert_eq!(taken(&data).iter().filter(|(_, order)| order.to_string() == exit).count(), 1, "the exit has left once");
}

/// Waits until the ledger gives this number.
async fn until(sql: &mut Sql, what: &str, query: &str, wanted: i64) {
    let began = Instant::now();
    while sql.number(query).await != wanted {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A stop that nobody but this machine remembers: the engine dies before the database is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_made_while_postgresql_is_away_holds_for_the_next_engine() {
    let database = Database::alone();
    let world = world(&database, &[]).await;
    tokio::task::block_in_place(|| database.server().crash());
    let stop = world.engine.post("/admin/emergency-stop", &world.admin, &json!({"reason": "before the end"})).await;
    assert_eq!((stop.status.as_u16(), &stop.body["persisted"]), (200, &json!(false)), "{}", stop.text);
    let data = world.engine.kill();
    tokio::task::block_in_place(|| database.server().start());
    let engine = Engine::start_on(data, &database.settings(&[]));
    assert_eq!(engine.get("/status", "").await.body["risk_engine"]["state"], "halted");
    let mut sql = database.sql().await;
    until(&mut sql, "the stop is written", "SELECT count(*) FROM trading_state WHERE state = 'halted'", 1).await;
}

/// Runs a load through `harm` and `mend`, again and again: refused meanwhile, served soon afterwards, nothing lost.
async fn campaign(world: &World, database: &Database, rounds: u32, harm: impl AsyncFn(), mend: impl AsyncFn()) {
    let mut draw = Draw::new();
    let load = Load::on(world);
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        load.until_answered(10).await;
        tokio::time::sleep(Duration::from_millis(draw.between(0, 200))).await;
        harm().await;
        check_refusal(world, &format!("away {round}")).await;
        let answered = load.answered();
        tokio::time::sleep(Duration::from_millis(draw.between(0, 500))).await;
        assert!(load.answered() <= answered + 8, "more was decided than was under way");
        mend().await;
        slowest = slowest.max(load.until_answered(1).await);
        assert!(slowest < SERVES_WITHIN, "round {round}: {slowest:?}: {}", world.engine.log());
        database.sql().await.check_venue(world.engine.data_dir()).await;
    }
    println!("the slowest return took {slowest:?}");
    let record = load.end().await;
    assert_eq!(record.unanswered.load(std::sync::atomic::Ordering::SeqCst), 0, "the engine answers all the while");
    let mut sql = database.sql().await;
    check_record(&mut sql, &record, 1).await;
    close_everything(world, &mut sql).await;
    sql.check_memory(&world.engine, &world.ann).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_can_only_be_read_decides_nothing_and_loses_nothing() {
    let database = Database::alone();
    let world = world(&database, &[("MAX_DAILY_LOSS", "100000")]).await;
    let switch = async |word: &str| {
        let mut raw = connect(&database.url).await;
        execute(&mut raw, "SET default_transaction_read_only = off").await;
        execute(&mut raw, &format!("ALTER SYSTEM SET default_transaction_read_only = {word}")).await;
        // Whoever is connected keeps what it began with, so everybody begins anew.
        let everybody = "SELECT pg_reload_conf(), pg_terminate_backend(pid)
                           FROM pg_stat_activity WHERE application_name = 'nexus'";
        execute(&mut raw, everybody).await;
    };
    campaign(&world, &database, 3, async || switch("on").await, async || switch("off").await).await;
}

/// A file system of a size, below the folder that it is mounted on. Gone when this is.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn of(megabytes: u32) -> Option<SmallDisk> {
        let folder = tempfile::tempdir().expect("a folder");
        let options = format!("size={megabytes}m,mode=755");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "nexus-test"]).arg(folder.path());
        let output = mount.output().expect("mount runs");
        if !output.status.success() {
            println!("{}", String::from_utf8_lossy(&output.stderr));
            return None;
        }
        Some(SmallDisk(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room that there is.
    fn fill(&self) {
        let mut filler = std::fs::File::create(self.path().join("filler")).expect("a file");
        let zeros = vec![0; 64 * 1024];
        while std::io::Write::write_all(&mut filler, &zeros).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.path().join("filler")).expect("it was there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server may still have files open there. What stays mounted would be seen by the next person to look.
        let status = Command::new("umount").arg("--lazy").arg(self.path()).status().expect("umount runs");
        assert!(status.success(), "{} stays mounted", self.path().display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_the_database_decides_nothing_and_loses_nothing() {
    let Some(disk) = SmallDisk::of(200) else {
        println!("not tried: only root can mount a small disk");
        return;
    };
    let database = Database::alone_in(disk.path());
    let world = world(&database, &[("MAX_DAILY_LOSS", "100000")]).await;
    let harm = async || {
        tokio::task::block_in_place(|| disk.fill());
        // What is written fits into pages that are there already, until it does not.
        eventually("the ledger is away", || async { world.engine.get("/status", "").await.body["ledger"] == "down" })
            .await;
    };
    let mend = async || {
        disk.free();
        // A log that cannot grow ends the server; then somebody starts it again.
        if !database.server().is_running() {
            database.server().start();
        }
    };
    campaign(&world, &database, 2, harm, mend).await;
}
