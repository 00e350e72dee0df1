//! The main job on real bars: the same decisions however a run is interrupted, and a record that adds up.
//!
//! The client is the real one, in a process of its own, and so is the engine; kills are SIGKILLs at times drawn from a seed
//! that a failure prints. Two checks that know nothing of each other look at every ledger: `scripts/check-ledger`, which has
//! no engine code, and `nexus replay`, which has all of it. With `NEXUS_LONG` all bars are sent and more is killed.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tempfile::TempDir;

use super::engine::Engine;
use super::production::Database;

const BARS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/data/eurusd-1h.csv");
const CHECK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/check-ledger");

fn is_long() -> bool {
    std::env::var_os("NEXUS_LONG").is_some()
}

/// The binary, as whoever owns this data folder would call it.
fn nexus(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nexus"));
    command.args(arguments).env_clear().env("NEXUS_DATA_DIR", data).env("TMPDIR", std::env::temp_dir());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The first bars of the bundled file.
fn first_bars(count: usize, folder: &Path) -> PathBuf {
    let text = std::fs::read_to_string(BARS).expect("the bundled bars");
    let lines: Vec<&str> = text.lines().take(count + 1).collect();
    assert_eq!(lines.len(), count + 1);
    let file = folder.join("bars.csv");
    std::fs::write(&file, lines.join("\n")).expect("written");
    file
}

fn start_replay(data: &Path, base: &str, bars: &Path, more: &[&str]) -> Child {
    let bars = bars.to_str().expect("a path");
    let arguments = [&["feed", "replay", bars, "--url", base, "--json"], more].concat();
    nexus(data, &arguments).spawn().expect("started")
}

/// The report of a client that has ended well.
fn report_of(output: &Output) -> Value {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    serde_json::from_str(stdout.lines().last().expect("a line")).expect("one object on the last line")
}

/// Replays bars through a new engine; returns its folder and the report.
fn replayed(bars: &Path, settings: &[(&str, &str)]) -> (TempDir, Value) {
    let engine = Engine::simulated_on(tempfile::tempdir().expect("a folder"), settings);
    let client = start_replay(engine.data_dir(), &engine.base, bars, &[]);
    let report = report_of(&client.wait_with_output().expect("ended"));
    let (status, data) = engine.terminate();
    assert!(status.success());
    (data, report)
}

/// Both checks of a ledger pass.
fn assert_adds_up(data: &Path) {
    let ledger = data.join("nexus.db");
    let check = Command::new("python3").args([CHECK, ledger.to_str().expect("a path")]).output().expect("python3 runs");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    let again = nexus(data, &["replay", "--json"]).output().expect("run");
    let found = report_of(&again);
    assert_eq!(found["differences"], Value::Array(vec![]), "{found}");
    assert!(found["decisions"].as_u64() > Some(100), "{found}");
}

#[test]
fn all_bars_make_trades_of_every_kind_and_the_record_adds_up() {
    let (data, report) = replayed(Path::new(BARS), &[]);
    let number = |field: &str| report[field].as_u64().unwrap_or_else(|| panic!("{field}: {report}"));
    assert_eq!((number("bars"), number("marks")), (5_000, 20_000));
    assert_eq!(number("decisions"), number("signals") * 10, "one for each signal and user");
    assert!(number("orders") >= 200, "{report}");
    for kind in ["stop_loss", "take_profit", "break_even", "trailing", "max_hold", "gap"] {
        assert!(report["exits"][kind].as_u64() > Some(0), "no exit by {kind}: {}", report["exits"]);
    }
    assert!(report["refused"]["opposing_position"].as_u64() > Some(0), "{}", report["refused"]);
    assert_eq!(report["inconsistencies"], Value::Array(vec![]));
    assert_adds_up(data.path());
}

/// A run at full speed is the yardstick; the other is killed again and again, and paced.
#[test]
fn an_interrupted_run_decides_the_same() {
    let (bar_count, engine_kills, client_kills) = if is_long() { (5_000, 10, 3) } else { (1_500, 3, 1) };
    let folder = tempfile::tempdir().expect("a folder");
    let bars = first_bars(bar_count, folder.path());
    let (_yardstick, expected) = replayed(&bars, &[]);

    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let port = port.to_string();
    let settings = [("API_PORT", port.as_str())];
    let mut engine = Engine::simulated_on(tempfile::tempdir().expect("a folder"), &settings);
    let data = engine.data_dir().to_owned();
    // The engine's folder moves from process to process, its path stays.
    let start_client = |base: &str| start_replay(&data, base, &bars, &["--speed", "300"]);
    let mut client = start_client(&engine.base);
    let mut seed = u64::from(std::process::id());
    println!("seed {seed}");
    for kill in 0..engine_kills + client_kills {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis(200 + (seed >> 33) % 700));
        let has_ended = client.try_wait().expect("a child");
        assert!(has_ended.is_none(), "the client gave up before kill {kill}, with {has_ended:?}");
        // Not the last one: a client that does not wait for a killed engine must not be replaced in time.
        if kill % 4 == 1 {
            client.kill().expect("killed");
            client.wait().expect("ended");
            client = start_client(&engine.base);
        } else {
            engine = Engine::simulated_on(engine.kill(), &settings);
        }
    }
    let report = report_of(&client.wait_with_output().expect("ended"));
    for field in ["decisions_sha256", "decisions", "accepted", "orders", "fills", "pnl", "fees"] {
        assert_eq!(report[field], expected[field], "{field}");
    }
    assert_adds_up(engine.data_dir());
}

/// Another ledger, another way to commit, and the same decisions to the last bit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_and_redis_decide_as_sqlite_does() {
    let database = Database::fresh().await;
    let folder = tempfile::tempdir().expect("a folder");
    let bars = first_bars(if is_long() { 5_000 } else { 500 }, folder.path());
    tokio::task::block_in_place(|| {
        let production = database.stores();
        let (_sqlite, expected) = replayed(&bars, &[]);
        let (data, report) = replayed(&bars, &production);
        assert!(report["accepted"].as_u64() > Some(50), "{report}");
        for field in ["decisions_sha256", "decisions", "accepted", "refused", "orders", "fills", "pnl", "fees", "exits"]
        {
            assert_eq!(report[field], expected[field], "{field}");
        }
        let again = nexus(data.path(), &["replay", "--json"]).envs(production).output().expect("run");
        let found = report_of(&again);
        assert_eq!(found["differences"], Value::Array(vec![]), "{found}");
        assert_eq!(found["decisions"], report["decisions"], "{found}");
    });
}

#[test]
fn a_venue_that_misbehaves_changes_nothing_that_must_hold() {
    let folder = tempfile::tempdir().expect("a folder");
    let bars = first_bars(if is_long() { 5_000 } else { 600 }, folder.path());
    let faults = [
        ("PAPER_SEED", "7"),
        ("PAPER_LATENCY_MS", "1"),
        ("PAPER_PARTIAL_FILL_PERCENT", "40"),
        ("PAPER_LOST_REPLY_PERCENT", "15"),
        ("PAPER_LOST_REQUEST_PERCENT", "10"),
    ];
    let (data, report) = replayed(&bars, &faults);
    assert!(report["fills"].as_u64() > report["orders"].as_u64(), "none filled in parts: {report}");
    assert_adds_up(data.path());
}

#[test]
fn whatever_is_altered_in_the_ledger_is_found_and_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, _) = replayed(&first_bars(500, folder.path()), &[]);
    let accepted = "(SELECT id FROM decisions WHERE verdict = 'accepted' ORDER BY seq LIMIT 1)";
    let by_user = "user_id = (SELECT user_id FROM fills ORDER BY seq LIMIT 1)";
    let alterations = [
        ("quantity_e8", format!("UPDATE decisions SET quantity_e8 = quantity_e8 + 100000000 WHERE id = {accepted}")),
        ("reasons", "UPDATE decisions SET reasons = '[\"throttled\"]' WHERE reasons IS NOT NULL".to_owned()),
        ("events", "UPDATE events SET events = replace(events, '\"risk\":\"', '\"risk\":\"1')".to_owned()),
        ("events", "UPDATE events SET input = replace(input, '\"stop_loss\":\"1.', '\"stop_loss\":\"1.0')".to_owned()),
        ("input", "UPDATE events SET input = '{}' WHERE version = 2".to_owned()),
        ("events 2", "DELETE FROM events WHERE version = 2".to_owned()),
        ("signal", "UPDATE signals SET signal = replace(signal, '\"side\":\"buy\"', '\"side\":\"sell\"')".to_owned()),
        ("price_e8", "UPDATE fills SET price_e8 = price_e8 + 1 WHERE seq = 1".to_owned()),
        ("fills", "DELETE FROM fills WHERE seq = 1".to_owned()),
        ("status", "UPDATE orders SET status = 'cancelled' WHERE seq = 1".to_owned()),
        ("realized_e8", "UPDATE positions SET realized_e8 = realized_e8 + 1 WHERE seq = 1".to_owned()),
        ("open_e8", format!("UPDATE accounts SET open_e8 = open_e8 + 1 WHERE {by_user}")),
        (
            "snapshot",
            format!("UPDATE accounts SET snapshot = replace(snapshot, '\"now\":', '\"now\":1') WHERE {by_user}"),
        ),
        ("daily_risk", format!("UPDATE daily_risk SET realized_e8 = realized_e8 + 1 WHERE {by_user}")),
        ("used", format!("UPDATE daily_counts SET used = used + 1 WHERE {by_user}")),
        ("last_accepted_us", format!("UPDATE duplicate_window SET last_accepted_us = 0 WHERE {by_user}")),
        (
            "decisions",
            "CREATE TEMP TABLE y AS SELECT * FROM decisions WHERE verdict = 'rejected' LIMIT 1;
             UPDATE y SET id = 'ffffffff-0000-5000-8000-000000000000', seq = 1000000, signal_id = 'none';
             INSERT INTO decisions SELECT * FROM y"
                .to_owned(),
        ),
    ];
    for (named, sql) in alterations {
        let copy = tempfile::tempdir().expect("a folder");
        let ledger = Connection::open(data.path().join("nexus.db")).expect("opened");
        let path = copy.path().join("nexus.db");
        ledger.execute("VACUUM INTO ?1", [path.to_str().expect("a path")]).expect("copied");
        alter(&path, &sql);
        let output = nexus(copy.path(), &["replay"]).output().expect("run");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{sql}: {text}");
        assert!(text.contains(named), "{sql}: {text}");
    }
}

/// Whoever has the file can take its triggers out first.
fn alter(path: &Path, sql: &str) {
    let copy = Connection::open(path).expect("opened");
    let mut triggers = copy.prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger'").expect("prepared");
    let names: Vec<String> =
        triggers.query_map([], |row| row.get(0)).expect("asked").map(|n| n.expect("read")).collect();
    drop(triggers);
    for name in names {
        copy.execute_batch(&format!("DROP TRIGGER {name}")).expect("dropped");
    }
    copy.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA ignore_check_constraints = ON").expect("set");
    copy.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert!(copy.total_changes() > 0, "nothing altered: {sql}");
}

/// Somebody writes into a user's counters while the engine is away. That is a difference until the engine has seen it and a
/// turn has told of it; then it is shown, and is none. What is altered afterwards is found as before.
fn others_write(ledger: &str, settings: &[(&str, &str)], sql: impl Fn(&str)) {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::simulated_on(tempfile::tempdir().expect("a folder"), settings);
    let client = start_replay(engine.data_dir(), &engine.base, &first_bars(300, folder.path()), &[]);
    report_of(&client.wait_with_output().expect("ended"));
    let (_, data) = engine.terminate();
    let path = data.path().to_owned();
    let replay = |arguments: &[&str]| {
        let arguments = [&["replay"], arguments].concat();
        let output = nexus(&path, &arguments).envs(settings.iter().copied()).output().expect("run");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text, errors) = replay(&["--json"]);
    assert_eq!(code, Some(0), "{text}{errors}");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert!(report["users"] == 11 && report["decisions"].as_u64() > Some(50), "{report}");
    assert_eq!((&report["corrections"], &report["differences"]), (&json!([]), &json!([])));

    let user = "user_id = (SELECT id FROM users WHERE username = 'replay-02')";
    sql(&format!("UPDATE accounts SET reserved_e8 = reserved_e8 + 100000000 WHERE {user}"));
    let (code, text, _) = replay(&["--user", "replay-02"]);
    assert!(code == Some(1) && text.contains(": accounts: reserved_e8 is 100000000 in the ledger, 0 when"), "{text}");

    let engine = Engine::simulated_on(data, settings);
    let disable = nexus(&path, &["user", "disable", "replay-02", "--url", &engine.base]).output().expect("run");
    assert!(disable.status.success(), "{}", String::from_utf8_lossy(&disable.stderr));
    let (_, _data) = engine.terminate();
    let (code, text, errors) = replay(&[]);
    assert_eq!(code, Some(0), "{text}{errors}");
    let (head, told) = text.trim().split_once('\n').expect("two lines");
    assert!(head.starts_with("11 users, ") && head.ends_with(" s: no differences"), "{head}");
    assert!(told.starts_with("user replay-02, turn "), "{told}");
    let what = ": corrected by what somebody else had written: risk that no decision explains 0.00 to 1.00";
    assert!(told.ends_with(what), "{told}");
    let report: Value = serde_json::from_str(&replay(&["--json"]).1).expect("JSON");
    assert_eq!((&report["corrections"][0]["times"], &report["differences"]), (&json!(1), &json!([])));

    let check = Command::new("python3").args([CHECK, ledger]).output().expect("python3 runs");
    let words = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.status.success(), "{words}{}", String::from_utf8_lossy(&check.stderr));
    assert!(words.contains("--  corrections by what others have written: 1"), "{words}");

    sql(&format!("UPDATE accounts SET net_realized_e8 = net_realized_e8 + 1 WHERE {user}"));
    let report: Value = serde_json::from_str(&replay(&["--json"]).1).expect("JSON");
    let found = &report["differences"][0];
    assert_eq!((&found["username"], &found["what"]), (&json!("replay-02"), &json!("accounts: net_realized_e8")));
}

#[test]
fn what_others_write_into_a_file_is_told_of() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.db");
    let url = format!("sqlite://{}", path.display());
    others_write(path.to_str().expect("a path"), &[("DATABASE_URL", &url)], |sql| {
        assert_eq!(Connection::open(&path).expect("opened").execute(sql, []), Ok(1));
    });
}

#[test]
fn what_others_write_into_a_server_is_told_of() {
    let server = nexus_testbed::Kind::Postgres.shared();
    let name = format!("replay_{}", std::process::id());
    let run = |url: &str, sql: String| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut connection = PgConnection::connect(url).await.expect("connected");
            let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("done");
            done.rows_affected()
        })
    };
    run(&server, format!("CREATE DATABASE {name}"));
    let url = nexus_testbed::with_database(&server, &name);
    others_write(&url, &[("DATABASE_URL", &url)], |sql| assert_eq!(run(&url, sql.to_owned()), 1));
    run(&server, format!("DROP DATABASE {name} WITH (FORCE)"));
}

#[test]
fn the_demonstration_ends_in_a_report() {
    let data = tempfile::tempdir().expect("a folder");
    let page = data.path().join("report.html");
    let arguments = ["demo", "--exit", "--json", "--users", "1", "--html", page.to_str().expect("a path")];
    let report = report_of(&nexus(data.path(), &arguments).env("API_PORT", "0").output().expect("run"));
    assert_eq!((&report["bars"], report["users"].as_array().map(Vec::len)), (&Value::from(5_000), Some(1)));
    let page = std::fs::read_to_string(page).expect("written");
    assert!(page.contains("<svg class=\"chart equity\"") && page.contains("<svg class=\"chart drawdown\""));
    assert!(!page.contains("http://") && !page.contains("<script"), "it needs nothing else");
}

#[test]
fn bad_bars_are_named_and_nothing_is_sent() {
    let data = tempfile::tempdir().expect("a folder");
    let file = data.path().join("bad.csv");
    let text = "time,open,high,low,close\n2017-04-19T09:00:00Z,1.1,1.2,1.0,1.1\n2017-04-19T10:00:00Z,1.1,1.0,1.2,1.1\n\
                2017-04-19T08:00:00Z,1.1,1.2,1.0,1.1\n2017-04-19T11:00:00Z,x,1.2,1.0,1.1\n";
    std::fs::write(&file, text).expect("written");
    // Nobody listens there: whatever would be sent would be another error.
    let arguments = ["feed", "replay", file.to_str().expect("a path"), "--url", "http://127.0.0.1:1"];
    let output = nexus(data.path(), &arguments).output().expect("run");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{words}");
    for named in ["line 3: high", "line 4: time runs backwards", "line 5: open \"x\" is not a number"] {
        assert!(words.contains(named), "{named}: {words}");
    }
}

#[test]
fn a_feed_of_one_s_own_comes_from_stdin_and_a_wrong_line_is_named() {
    let engine = Engine::simulated_on(tempfile::tempdir().expect("a folder"), &[]);
    let mark = |bid: &str, ask: &str, at: &str| {
        format!(r#"{{"symbol":"EURUSD","bid":"{bid}","ask":"{ask}","at":"2017-05-01T{at}Z"}}"#)
    };
    let signal =
        r#"{"id":"one","symbol":"EURUSD","side":"buy","timeframe":"3H","stop_loss":"1.083","take_profit":"1.089"}"#;
    let run = |lines: &[&str]| {
        let arguments = ["feed", "replay", "--from-stdin", "--users", "2", "--url", &engine.base, "--json"];
        let mut client = nexus(engine.data_dir(), &arguments).stdin(Stdio::piped()).spawn().expect("started");
        client.stdin.take().expect("piped").write_all(lines.join("\n").as_bytes()).expect("written");
        client.wait_with_output().expect("ended")
    };
    let (first, last) = (mark("1.08495", "1.08505", "09:00:00"), mark("1.08905", "1.08915", "10:00:00"));
    let report = report_of(&run(&[&first, signal, &last]));
    assert_eq!((&report["marks"], &report["signals"], &report["decisions"]), (&2.into(), &1.into(), &2.into()));
    assert_eq!(report["exits"]["take_profit"], 1, "of the two, the poorer one could be sized: {report}");
    let nameless = signal.replace("\"id\":\"one\",", "");
    for (line, why) in [("{\"hello\":1}", "neither a mark"), (nameless.as_str(), "without an id")] {
        let output = run(&[&first, line, signal]);
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.contains("line 2") && words.contains(why), "{words}");
    }
}

#[test]
fn a_wall_clock_engine_is_told_apart_before_anything_is_sent() {
    let engine = Engine::start();
    let client = start_replay(engine.data_dir(), &engine.base, Path::new(BARS), &[]);
    let output = client.wait_with_output().expect("ended");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("nexus serve --sim-clock"), "{words}");
}
