//! `scripts/check-ledger`, the auditor that has no engine code: a ledger that an engine made passes, and each alteration of
//! it is found by the check that is there for it.
//!
//! The alterations are made in a copy whose tables have lost their constraints and triggers, because the ledger itself
//! would refuse most of them.

use std::ops::Range;
use std::path::Path;
use std::process::{Command, Output};

use reqwest::Method;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::engine::{Engine, World};
use super::promises::{Ledger, limit, market};
use super::sim_clock::world_on;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/check-ledger");

/// Parts some orders at once and others over several marks.
const SEED: &str = "7";

/// Runs the script on a file.
fn check(file: &Path, options: &[&str]) -> Output {
    Command::new(SCRIPT).arg(file).args(options).output().expect("python3 runs")
}

/// The whole report, and the exit code.
fn report(file: &Path) -> (i32, Value) {
    let output = check(file, &["--json"]);
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().expect("an exit code"), report)
}

/// The names of the checks that found something.
fn found(report: &Value) -> Vec<&str> {
    let checks = report["checks"].as_array().expect("a list").iter();
    checks.filter(|check| check["ok"] == false).map(|check| check["name"].as_str().expect("a name")).collect()
}

/// A signal like another, on bars of another length.
fn on(timeframe: &str, mut signal: Value) -> Value {
    signal["timeframe"] = json!(timeframe);
    signal
}

/// A market order to sell.
fn short(timeframe: &str, id: &str, stop: &str, target: &str) -> Value {
    let mut signal = on(timeframe, market(id, stop, target));
    signal["side"] = json!("sell");
    signal
}

/// Sends a signal; the answer says that everything it caused is at rest.
async fn send(world: &World, signal: &Value) {
    let answer = world.engine.post("/api/v1/signals", &world.feed, signal).await;
    assert_eq!((answer.status.as_u16(), &answer.body["decided"]), (200, &json!(3)), "{}", answer.text);
}

/// What the market is in each of these minutes after nine.
async fn mark(world: &World, minutes: Range<u32>, bid: &str, ask: &str) {
    for minute in minutes {
        let answer = world.push_mark_at(bid, ask, &format!("2017-04-19T09:{minute:02}:00Z")).await;
        assert_eq!(answer.body["accepted"], 1, "{}", answer.text);
    }
}

async fn follow(world: &World, user: &str) {
    let path = format!("/api/v1/feeds/breakout/subscribers/{user}");
    let answer = world.engine.call(Method::PUT, &path, Some(&world.admin), Some(&json!({}))).await;
    assert_eq!(answer.status, 204, "{}", answer.text);
}

/// An engine whose three users have traded: fills in parts, a target, a stop that had moved, a stop that had not, an entry
/// that was cancelled and its place given back, refusals, and a position that is still open. Its clock is that of its marks,
/// so every order has the same name in each run, and the seed parts it alike.
async fn traded() -> World {
    let settings = [
        ("PAPER_PARTIAL_FILL_PERCENT", "100"),
        ("PAPER_SEED", SEED),
        ("MAX_RISK_PERCENT", "0.5"),
        ("LOG_LEVEL", "warn"),
    ];
    let world = world_on(Engine::simulated_on(tempfile::tempdir().expect("a folder"), &settings)).await;
    follow(&world, &world.bob.id).await;
    let rich = json!({
        "username": "cat", "password": "Tr1cky-enough", "role": "user", "equity": "5000.00", "currency": "USD"
    });
    let cat = world.engine.post("/api/v1/users", &world.admin, &rich).await;
    follow(&world, cat.body["id"].as_str().expect("an id")).await;

    let mut moving = market("a", "1.08300", "1.08900");
    moving["protection"] = json!({"breakeven_at_r": "1.0", "trail_distance": "0.0010", "trail_after_r": "1.5"});
    send(&world, &moving).await;
    send(&world, &on("6H", market("b", "1.08400", "1.08710"))).await;
    send(&world, &on("9H", limit("c", "1.08300", "1.08200", "1.08900"))).await;
    send(&world, &market("once more", "1.08300", "1.08900")).await;
    // An order in parts may trade one part a mark.
    mark(&world, 1..5, "1.08495", "1.08505").await;
    mark(&world, 5..9, "1.08720", "1.08730").await;
    mark(&world, 9..10, "1.08850", "1.08860").await;
    for path in ["/admin/emergency-stop", "/admin/emergency-resume"] {
        assert_eq!(world.engine.post(path, &world.admin, &json!({})).await.status, 200);
    }
    mark(&world, 10..14, "1.08700", "1.08710").await;
    send(&world, &short("9H", "d", "1.08800", "1.08300")).await;
    mark(&world, 14..18, "1.08700", "1.08710").await;
    mark(&world, 18..22, "1.08810", "1.08820").await;
    send(&world, &short("6H", "e", "1.09500", "1.08500")).await;
    mark(&world, 22..26, "1.08810", "1.08820").await;
    world
}

#[tokio::test]
async fn a_ledger_that_an_engine_is_writing_passes_and_every_alteration_is_found() {
    let world = traded().await;
    let folder = tempfile::tempdir().expect("a folder");
    let live = world.engine.data_dir().join("nexus.db");
    let (code, report_of_live) = report(&live);
    assert_eq!((code, found(&report_of_live)), (0, vec![]), "{report_of_live:#}");
    for check in report_of_live["checks"].as_array().expect("a list") {
        assert!(check["count"].as_u64() > Some(0), "nothing was looked at: {check}");
    }
    let exits = &report_of_live["facts"]["exits"];
    for kind in ["stop_loss", "take_profit", "trailing"] {
        assert!(exits[kind].as_u64() > Some(0), "no exit by {kind}: {exits}");
    }
    let ledger = Ledger::of(world.engine.data_dir());
    for (what, count) in STORY {
        assert!(ledger.number(count, []) > 0, "the story lacks {what}");
    }
    let words = String::from_utf8(check(&live, &["--max-daily-loss", "9.99", "--max-risk-percent", "1"]).stdout);
    let words = words.expect("text");
    assert!(words.starts_with("ok  18 decisions: one for each signal"), "{words}");
    assert!(!words.contains("NO  "), "{words}");

    let loose = folder.path().join("loose.db");
    loosen(&live, &loose);
    assert_eq!(report(&loose).0, 0, "a copy says the same");
    for (expected, alteration) in ALTERATIONS {
        let copy = folder.path().join("altered.db");
        std::fs::copy(&loose, &copy).expect("copied");
        let altered = Connection::open(&copy).expect("opened");
        altered.execute_batch(alteration).unwrap_or_else(|error| panic!("{alteration}: {error}"));
        assert!(altered.total_changes() > 0, "nothing altered: {alteration}");
        drop(altered);
        let (code, report) = report(&copy);
        assert!(code == 1 && found(&report).contains(expected), "{expected} after {alteration}: {report:#}");
    }
    let cap = check(&live, &["--max-daily-loss", "9.98"]);
    assert_eq!(cap.status.code(), Some(1), "a ceiling is held against every limit");
    for (file, options) in [("nowhere.db", &[][..]), ("loose.db", &["--fee-percent", "many"]), ("note", &[])] {
        std::fs::write(folder.path().join("note"), "not a ledger").expect("written");
        let output = check(&folder.path().join(file), options);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{file} {options:?}: {output:?}");
    }
}

/// What must have happened for the checks to have something to look at.
const STORY: &[(&str, &str)] = &[
    (
        "a fill in parts",
        "SELECT count(*) FROM orders WHERE filled_e8 > 0 AND client_order_id IN
                         (SELECT client_order_id FROM fills GROUP BY 1 HAVING count(*) > 1)",
    ),
    (
        "an exit in parts",
        "SELECT count(*) FROM fills WHERE client_order_id LIKE '%-x%.2' OR execution_id LIKE '%-x1.2'",
    ),
    ("an entry that was cancelled", "SELECT count(*) FROM orders WHERE status = 'cancelled' AND filled_e8 = 0"),
    ("a place given back", "SELECT count(*) FROM daily_counts WHERE timeframe = '9H' AND used = 1"),
    ("a loss", "SELECT count(*) FROM positions WHERE realized_e8 < 0 AND quantity_e8 = 0"),
    ("a profit", "SELECT count(*) FROM positions WHERE realized_e8 > 0"),
    ("an open position", "SELECT count(*) FROM positions WHERE quantity_e8 > 0"),
];

/// A copy in which anything can be altered: the same rows without constraints, and no triggers.
fn loosen(live: &Path, copy: &Path) {
    let ledger = Connection::open(live).expect("opened");
    ledger.execute("VACUUM INTO ?1", [copy.to_str().expect("a path")]).expect("copied");
    let copy = Connection::open(copy).expect("opened");
    copy.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA legacy_alter_table = ON").expect("set");
    for table in ["signals", "decisions", "orders", "fills", "positions", "events", "opened_accounts"] {
        let sql =
            format!("CREATE TABLE x AS SELECT * FROM {table}; DROP TABLE {table}; ALTER TABLE x RENAME TO {table}");
        copy.execute_batch(&sql).unwrap_or_else(|error| panic!("{table}: {error}"));
    }
}

/// The check that must find it, and what is altered.
const ALTERATIONS: &[(&str, &str)] = &[
    (
        "decisions",
        "CREATE TABLE y AS SELECT * FROM decisions WHERE verdict = 'accepted' LIMIT 1;
         UPDATE y SET id = '00000000-0000-5000-8000-000000000000', seq = 1000;
         INSERT INTO decisions SELECT * FROM y",
    ),
    ("decisions", "DELETE FROM decisions WHERE seq = (SELECT max(seq) FROM decisions WHERE verdict = 'rejected')"),
    ("decisions", "UPDATE signals SET subscribers = json_remove(subscribers, '$[0]') WHERE key = 'a'"),
    ("decisions", "UPDATE signals SET undecided = 1 WHERE key = 'a'"),
    ("names", "UPDATE signals SET key = 'z' WHERE key = 'a'"),
    ("names", "UPDATE decisions SET client_order_id = '00000000000050008000000000000000-e' WHERE seq = 1"),
    ("turns", "DELETE FROM events WHERE version = 2"),
    (
        "turns",
        "UPDATE decisions SET verdict = 'accepted' WHERE seq = (SELECT max(seq) FROM decisions WHERE verdict = 'rejected')",
    ),
    ("turns", "UPDATE decisions SET stop_loss_e8 = stop_loss_e8 - 1000 WHERE seq = 1"),
    ("turns", "DELETE FROM fills WHERE seq = 1"),
    ("orders", "UPDATE orders SET decision_id = (SELECT id FROM decisions WHERE verdict = 'rejected') WHERE seq = 1"),
    ("orders", "CREATE TABLE y AS SELECT * FROM orders LIMIT 1; INSERT INTO orders SELECT * FROM y"),
    ("orders", "UPDATE orders SET filled_e8 = filled_e8 - 100000000 WHERE seq = 1"),
    ("orders", "UPDATE orders SET status = 'working' WHERE status = 'cancelled'"),
    (
        "fills",
        "CREATE TABLE y AS SELECT * FROM fills LIMIT 1; UPDATE y SET seq = 1000; INSERT INTO fills SELECT * FROM y",
    ),
    ("fills", "UPDATE fills SET client_order_id = replace(client_order_id, '-e', '-x7') WHERE seq = 1"),
    ("positions", "UPDATE fills SET price_e8 = price_e8 + 1000 WHERE seq = 1"),
    ("positions", "UPDATE fills SET quantity_e8 = quantity_e8 - 100000000 WHERE side = 'buy'"),
    ("positions", "UPDATE fills SET realized_e8 = realized_e8 + 1 WHERE seq = 1"),
    ("positions", "UPDATE positions SET realized_e8 = realized_e8 + 1 WHERE seq = 1"),
    ("positions", "UPDATE positions SET quantity_e8 = 100000000 WHERE seq = 1"),
    ("positions", "UPDATE events SET events = replace(events, '\"to\":\"1.0875\"', '\"to\":\"1.0874\"')"),
    ("positions", "UPDATE fills SET quantity_e8 = 0 WHERE seq = 1"),
    ("turns", "UPDATE events SET events = 'nothing' WHERE version = 1"),
    ("names", "UPDATE decisions SET user_id = 'nobody' WHERE seq = 1"),
    ("fees", "UPDATE fills SET fee_e8 = fee_e8 - 1 WHERE seq = 1"),
    ("sizes", "UPDATE decisions SET risk_e8 = risk_max_e8 + 1 WHERE seq = 1"),
    ("sizes", "UPDATE decisions SET quantity_e8 = quantity_e8 + 100000000 WHERE seq = 1"),
    ("sizes", "UPDATE decisions SET risk_max_e8 = risk_max_e8 * 2, equity_e8 = equity_e8 * 2 WHERE seq = 1"),
    ("cap", "UPDATE decisions SET risk_e8 = cap_e8 - used_before_e8 + 1 WHERE seq = 1"),
    ("cap", "UPDATE decisions SET cap_e8 = cap_e8 + 1 WHERE seq = 1"),
    ("used", "UPDATE decisions SET used_before_e8 = used_before_e8 - 1 WHERE used_before_e8 > 0"),
    ("counts", "UPDATE daily_counts SET used = used + 1 WHERE timeframe = '3H'"),
    ("counts", "DELETE FROM daily_counts WHERE timeframe = '6H'"),
    ("counts", "UPDATE opened_accounts SET account = json_set(account, '$.limits.timeframes.\"6H\"', 1)"),
    ("duplicates", "UPDATE decisions SET timeframe = '3H' WHERE timeframe = '6H'"),
    ("duplicates", "UPDATE duplicate_window SET last_accepted_us = last_accepted_us - 1"),
    ("opposing", "UPDATE decisions SET side = 'sell' WHERE timeframe = '6H'"),
    ("open_positions", "UPDATE opened_accounts SET account = json_set(account, '$.limits.max_open_positions', 1)"),
    ("days", "UPDATE daily_risk SET realized_e8 = realized_e8 + 1"),
    ("accounts", "UPDATE accounts SET net_realized_e8 = net_realized_e8 + 1"),
    ("accounts", "UPDATE accounts SET open_e8 = open_e8 + 1"),
    ("accounts", "UPDATE accounts SET reserved_e8 = reserved_e8 + 1"),
    ("accounts", "UPDATE accounts SET version = version + 1"),
];
