//! The command line as operators and scripts use it: exit codes, one JSON object, words on stderr.
//!
//! Each test has a data folder, a port and an environment of its own; engines are real processes that end with the test.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const WAIT_MAX: Duration = Duration::from_secs(30);

/// A command with nothing of this machine's environment.
fn nexus(data_dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nexus"));
    command.args(arguments).env_clear().env("NEXUS_DATA_DIR", data_dir).env("USER", "ann").stdin(Stdio::null());
    command
}

/// What a finished command left behind.
struct Finished {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Finished {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("not JSON: {}{}", self.stdout, self.stderr))
    }

    #[track_caller]
    fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    fn expect_error(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "{part:?} is not in {}", self.stderr);
        self
    }
}

fn finish(command: &mut Command) -> Finished {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Finished { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < WAIT_MAX, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A running engine in a data folder of its own; ends with the test.
struct Engine {
    process: Child,
    dir: TempDir,
    port: String,
}

impl Engine {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port().to_string();
        let mut command = nexus(dir.path(), &["serve"]);
        let quiet = || Stdio::from(std::fs::File::create(dir.path().join("serve.log")).unwrap());
        command.env("API_PORT", &port).env("BCRYPT_ROUNDS", "4").stdout(Stdio::null()).stderr(quiet());
        let mut engine = Self { process: command.spawn().unwrap(), dir, port };
        wait_until("the engine is ready", || {
            let ended = engine.process.try_wait().unwrap();
            let log = std::fs::read_to_string(engine.dir.path().join("serve.log")).unwrap_or_default();
            assert!(ended.is_none(), "the engine ended: {log}");
            engine.run(&["healthcheck"]).code == 0
        });
        engine
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = nexus(self.dir.path(), arguments);
        command.env("API_PORT", &self.port);
        command
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        finish(&mut self.command(arguments))
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--json"]].concat()).expect_code(0).json()
    }

    fn send(&self, key: &str, id: &str) -> Finished {
        let fields = [
            "signal",
            "send",
            "--json",
            "--id",
            id,
            "--symbol",
            "EURUSD",
            "--side",
            "buy",
            "--timeframe",
            "3H",
            "--stop-loss",
            "1.08300",
            "--take-profit",
            "1.08900",
        ];
        finish(self.command(&fields).env("NEXUS_FEED_KEY", key))
    }

    fn state(&self) -> Value {
        self.json(&["status"])["risk_engine"]["state"].take()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_settings_are_shown_with_their_origins_and_without_their_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let key = "a3f1c09b7e5d2846f0b1c2d3e4a59687";
    let show = |arguments: &[&str]| {
        finish(nexus(dir.path(), arguments).env("SECRET_KEY", key).env("API_PORT", "9001")).expect_code(0)
    };
    let shown = show(&["config", "show", "--json"]);
    assert!(!shown.stdout.contains(key));
    let settings = shown.json()["settings"].take();
    let named = |name: &str| settings.as_array().unwrap().iter().find(|s| s["name"] == name).unwrap().clone();
    assert_eq!((&named("API_PORT")["value"], &named("API_PORT")["origin"]), (&"9001".into(), &"environment".into()));
    assert_eq!(named("LOG_FORMAT")["origin"], "profile development");
    assert_eq!(named("SECRET_KEY")["value"], "********");
    let text = show(&["config", "show"]).stdout;
    assert!(text.contains("API_PORT") && text.contains("EURUSD") && !text.contains(key), "{text}");
}

#[test]
fn a_faulty_configuration_is_bad_use_wherever_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    for arguments in [&["config", "check"][..], &["config", "show"], &["serve"], &[]] {
        let mut command = nexus(dir.path(), arguments);
        let finished = finish(command.env("ENVIRONMENT", "production").env("API_PORT", "x")).expect_code(2);
        finished.expect_error("API_PORT (environment): \"x\" is not").expect_error("SECRET_KEY: is required");
    }
    let mut command = nexus(dir.path(), &["config", "check", "--json"]);
    let answer = finish(command.env("API_PORT", "x")).expect_code(2).json();
    assert_eq!(answer["errors"][0]["name"], "API_PORT");
    let finished = finish(&mut nexus(dir.path(), &["config", "check"])).expect_code(0);
    assert_eq!(finished.stdout, "the configuration is valid (development)\n");
}

#[test]
fn what_is_not_in_this_build_is_not_served_without() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = nexus(dir.path(), &["serve"]);
    let finished = finish(command.env("ALERT_WEBHOOK_URL", "https://127.0.0.1:1/")).expect_code(1);
    finished.expect_error("ALERT_WEBHOOK_URL: posting alerts is not in this build yet");
}

#[test]
fn bad_use_ends_with_two_and_an_absent_engine_with_one() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| finish(nexus(dir.path(), arguments).env("API_PORT", free_port().to_string()));
    run(&["fly"]).expect_code(2);
    run(&["status", "--url", "127.0.0.1"]).expect_code(2).expect_error("--url");
    run(&["signal", "send"]).expect_code(2).expect_error("NEXUS_FEED_KEY");
    run(&["signal", "send", "--api-key", "nxf_1"]).expect_code(2).expect_error("a signal needs --symbol, --side");
    run(&["status"]).expect_code(1).expect_error("is the engine running there?");
    run(&["healthcheck"]).expect_code(1);
    let answer = run(&["healthcheck", "--json"]).expect_code(1).json();
    assert_eq!(answer["ready"], false);
    run(&["user", "list"]).expect_code(1).expect_error("set NEXUS_TOKEN, or ADMIN_PASSWORD");
    run(&["stop"]).expect_code(1).expect_error("NOT stopped").expect_error("nexus stop --local");
    run(&["--version"]).expect_code(0);
}

#[test]
fn a_local_stop_needs_nothing_but_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("new");
    let mut command = nexus(&data_dir, &["stop", "--local", "--reason", "smoke", "--json"]);
    // Neither a valid configuration nor a readable file is needed.
    command.env("NEXUS_CONFIG", "/does/not/exist").env("API_PORT", "x").env("ENVIRONMENT", "production");
    let answer = finish(&mut command).expect_code(0).json();
    assert_eq!(
        (&answer["state"], &answer["by"], &answer["reason"]),
        (&"halted".into(), &"ann".into(), &"smoke".into())
    );
    let text = std::fs::read_to_string(data_dir.join("HALT")).unwrap();
    assert!(text.contains("by: ann") && text.contains("reason: smoke"), "{text}");
}

#[test]
fn a_reader_that_goes_away_ends_the_command_quietly() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    for arguments in [&["config", "show"][..], &["config", "show", "--json"]] {
        let mut command = nexus(dir.path(), arguments);
        command.stdout(writer.try_clone().unwrap()).stderr(Stdio::piped());
        let Output { status, stderr, .. } = command.spawn().unwrap().wait_with_output().unwrap();
        assert_eq!((status.code(), String::from_utf8(stderr).unwrap().as_str()), (Some(0), ""));
    }
}

/// Answers one request with `answer` and hands over its head.
fn answer_once(answer: &'static str) -> (u16, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
        stream.write_all(answer.as_bytes()).unwrap();
        head
    });
    (port, thread)
}

#[test]
fn a_token_is_sent_and_never_carried_along_a_redirect() {
    let dir = tempfile::tempdir().unwrap();
    let redirect = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let (port, thread) = answer_once(redirect);
    let mut command = nexus(dir.path(), &["user", "list"]);
    command.env("API_PORT", port.to_string()).env("NEXUS_TOKEN", "t0ken");
    finish(&mut command).expect_code(1).expect_error("HTTP 302");
    let head = thread.join().unwrap().to_lowercase();
    assert!(head.starts_with("get /api/v1/users?") && head.contains("authorization: bearer t0ken"), "{head}");
}

#[test]
fn an_operators_day() {
    let engine = Engine::start();
    let ann = engine.json(&["user", "add", "ann", "--equity", "500.00"]);
    assert!(ann["password"].is_string() && ann["id"].is_string(), "{ann}");
    engine.run(&["user", "add", "ann", "--equity", "500.00"]).expect_code(1).expect_error("HTTP 409");
    let users = engine.json(&["user", "list"]);
    let names: Vec<_> = users["items"].as_array().unwrap().iter().map(|user| user["username"].clone()).collect();
    assert!(names.contains(&"ann".into()) && names.contains(&"admin".into()), "{names:?}");

    let feed = engine.json(&["feed", "add", "breakout", "--symbols", "EURUSD"]);
    let key = feed["api_key"].as_str().unwrap().to_owned();
    engine.run(&["feed", "subscribe", "breakout", "ann"]).expect_code(0);
    engine.run(&["feed", "subscribe", "breakout", "nobody"]).expect_code(1).expect_error("there is no user \"nobody\"");

    // Without a price nothing is entered; the same id again is answered from the record.
    let answer = engine.send(&key, "s-1").expect_code(0).json();
    assert_eq!((&answer["rejected"], &answer["duplicate"]), (&1.into(), &false.into()), "{answer}");
    assert_eq!(engine.send(&key, "s-1").expect_code(0).json()["duplicate"], true);

    // A file may hold one signal a line; they are answered in their order.
    let line = |id: &str| {
        format!(
            r#"{{"id":"{id}","symbol":"EURUSD","side":"buy","timeframe":"3H","stop_loss":1.083,"take_profit":1.089}}"#
        )
    };
    let lines = engine.dir.path().join("signals.ndjson");
    std::fs::write(&lines, format!("{}\n{}\n", line("s-1"), line("s-3"))).unwrap();
    let arguments = ["signal", "send", "--json", "--file", lines.to_str().unwrap()];
    let answers = finish(engine.command(&arguments).env("NEXUS_FEED_KEY", &key)).expect_code(0).json();
    let repeated: Vec<&Value> =
        answers["items"].as_array().or(answers.as_array()).unwrap().iter().map(|a| &a["duplicate"]).collect();
    assert_eq!(repeated, [true, false], "{answers}");

    // Asking about it is no bad word, and uses no id up.
    let file = engine.dir.path().join("signal.json");
    let signal = serde_json::json!({"id": "s-9", "symbol": "EURUSD", "side": "buy", "timeframe": "3H",
        "stop_loss": "1.08300", "take_profit": "1.08900"});
    std::fs::write(&file, signal.to_string()).unwrap();
    let check = ["signal", "check", "--api-key", &key, "--file", file.to_str().unwrap()];
    let asked = engine.json(&check);
    assert_eq!((&asked["dry_run"], &asked["reasons"]["stale_market_data"]), (&true.into(), &1.into()), "{asked}");
    let text = engine.run(&check).expect_code(0).stdout;
    assert!(text.contains("LOSS LEFT") && text.contains("stale_market_data"), "{text}");
    assert_eq!(engine.send(&key, "s-9").expect_code(0).json()["duplicate"], false);

    let rotated = engine.json(&["feed", "rotate", "breakout"]);
    engine.send(&key, "s-2").expect_code(1).expect_error("HTTP 401");
    engine.send(rotated["api_key"].as_str().unwrap(), "s-2").expect_code(0);
    engine.run(&["feed", "unsubscribe", "breakout", "ann"]).expect_code(0);
    engine.run(&["feed", "remove", "breakout"]).expect_code(0);
    assert_eq!(engine.json(&["feed", "list"])["items"], Value::Array(Vec::new()));
}

#[test]
fn limits_are_tightened_and_never_raised() {
    let engine = Engine::start();
    engine.json(&["user", "add", "ann", "--equity", "500.00"]);
    let tight = engine.json(&["user", "limits", "ann", "max_daily_loss=5.00", "timeframes=3H=1", "loss_streak=2"]);
    let changed = (&tight["max_daily_loss"], &tight["timeframes"], &tight["loss_streak"]);
    assert_eq!(changed, (&"5.00".into(), &serde_json::json!({"3H": 1}), &2.into()));
    assert_eq!(engine.json(&["user", "limits", "ann"])["max_daily_loss"], "5.00");
    engine.run(&["user", "limits", "ann", "max_daily_loss=100"]).expect_code(1).expect_error("max_daily_loss");
    engine.run(&["user", "disable", "ann"]).expect_code(0);
    assert_eq!(engine.json(&["user", "show", "ann"])["risk_status"]["trading_enabled"], false);
    engine.run(&["user", "enable", "ann"]).expect_code(0);
    assert_eq!(engine.json(&["user", "show", "ann"])["risk_status"]["trading_enabled"], true);
}

#[test]
fn a_stop_holds_until_a_person_resumes() {
    let engine = Engine::start();
    assert_eq!(engine.state(), "active");
    let answer = engine.json(&["stop", "--reason", "drill"]);
    assert_eq!((&answer["state"], &answer["reason"]), (&"halted".into(), &"drill".into()));
    assert_eq!(engine.state(), "halted");
    engine.run(&["healthcheck"]).expect_code(0);
    assert_eq!(engine.json(&["resume"])["state"], "active");
    assert_eq!(engine.state(), "active");

    engine.run(&["stop", "--local"]).expect_code(0);
    wait_until("the engine has seen HALT", || engine.state() == "halted");
    engine.run(&["resume"]).expect_code(0);
    assert_eq!(engine.state(), "active");
    assert!(!engine.dir.path().join("HALT").exists());
}

#[test]
fn who_cannot_sign_in_gets_nothing_done() {
    let engine = Engine::start();
    let with = |name: &str, value: &str| finish(engine.command(&["user", "list"]).env(name, value));
    with("NEXUS_TOKEN", "nonsense").expect_code(1).expect_error("HTTP 401");
    with("ADMIN_PASSWORD", "Wrong-password-1").expect_code(1).expect_error("cannot sign in as admin");
    // The password that a development engine left is for nobody else's engine.
    let finished = finish(engine.command(&["user", "list"]).env("ENVIRONMENT", "production"));
    finished.expect_code(1).expect_error("set NEXUS_TOKEN, or ADMIN_PASSWORD");
}
