//! Starts on a database that is not there, not the right one, or not for us: what can come up is waited for, with a word on
//! stderr; the rest is said, with exit code 1.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::engine::{Engine, PATIENCE, command};
use super::production::{Database, connect, execute};

/// The end of a process that ends by itself: its exit code, and all that it has said on stderr.
fn ended(mut process: Child) -> (Option<i32>, String) {
    let began = Instant::now();
    loop {
        if let Some(status) = process.try_wait().expect("a child") {
            let mut words = String::new();
            process.stderr.take().expect("piped").read_to_string(&mut words).expect("text");
            return (status.code(), words);
        }
        if began.elapsed() > PATIENCE {
            process.kill().expect("killed");
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn start(url: &str) -> (Child, tempfile::TempDir) {
    let data = tempfile::tempdir().expect("a folder");
    let process = serving(data.path(), url).stderr(Stdio::piped()).spawn().expect("started");
    (process, data)
}

fn serving(data: &std::path::Path, url: &str) -> Command {
    command(data, &[("DATABASE_URL", url)])
}

/// It ends with exit code 1 and says this; it neither panics nor shows the password.
fn check_refused(url: &str, says: &[&str]) {
    let (process, _data) = start(url);
    let (code, words) = ended(process);
    assert_eq!(code, Some(1), "{url}: {words}");
    for said in says {
        assert!(words.contains(said), "{url} does not say {said:?}: {words}");
    }
    assert!(!words.contains("panicked") && !words.contains("s3cret"), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_wait_can_mend_is_said_and_ends_the_start() {
    let database = Database::alone();
    let port = database.port();
    let hba = database.server().data.join("pg_hba.conf");
    for sql in ["CREATE ROLE keeper LOGIN PASSWORD 'right'", "CREATE DATABASE newer"] {
        execute(&mut connect(&database.url).await, sql).await;
    }
    let rules = std::fs::read_to_string(&hba).expect("the rules of access");
    std::fs::write(&hba, format!("host all keeper 127.0.0.1/32 scram-sha-256\n{rules}")).expect("written");
    execute(&mut connect(&database.url).await, "SELECT pg_reload_conf()").await;

    check_refused(&format!("postgres://keeper:s3cret@127.0.0.1:{port}/postgres"), &["password authentication failed"]);
    check_refused(&format!("postgres://nexus:s3cret@127.0.0.1:{port}/nowhere"), &["\"nowhere\" does not exist"]);
    check_refused(&format!("postgres://nobody:s3cret@127.0.0.1:{port}/postgres"), &["\"nobody\" does not exist"]);

    let newer = format!("postgres://nexus@127.0.0.1:{port}/newer");
    let (status, _) =
        Engine::start_on(tempfile::tempdir().expect("a folder"), &database.settings(&[("DATABASE_URL", &newer)]))
            .terminate();
    assert!(status.success());
    let mut raw = connect(&newer).await;
    let ahead = "INSERT INTO schema_migrations VALUES (999, 'of the future', now(), '')";
    assert_eq!(execute(&mut raw, ahead).await, 1);
    check_refused(&newer, &["version 999", "use a newer program"]);
    execute(&mut raw, "DELETE FROM schema_migrations WHERE version = 999").await;
    assert_eq!(execute(&mut raw, "UPDATE schema_migrations SET text = text || ' ' WHERE version = 2").await, 1);
    check_refused(&newer, &["migration 2 (commit) was applied with another text"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_is_waited_for_in_words_and_then_served() {
    let database = Database::alone();
    tokio::task::block_in_place(|| database.server().crash());
    let data = tempfile::tempdir().expect("a folder");
    let mut process = serving(data.path(), &database.url).spawn().expect("started");
    until_said(data.path(), "waiting for the database");
    assert_eq!(process.try_wait().expect("a child"), None, "it waits");
    tokio::task::block_in_place(|| database.server().start());
    let began = Instant::now();
    let mut stdout = std::io::BufReader::new(process.stdout.take().expect("piped"));
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stdout, &mut line).expect("read");
    assert!(line.starts_with("listening on "), "{line}: {}", super::engine::log(data.path()));
    println!("served {:?} after the database", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    end(process);
}

/// Whoever waits can be told to end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_a_database_ends_when_it_is_asked_to() {
    let data = tempfile::tempdir().expect("a folder");
    let port = super::production::free_port();
    let url = format!("postgres://nexus@127.0.0.1:{port}/postgres");
    let process = serving(data.path(), &url).spawn().expect("started");
    until_said(data.path(), "waiting for the database");
    end(process);
}

fn until_said(data: &std::path::Path, words: &str) {
    let began = Instant::now();
    while !super::engine::log(data).contains(words) {
        assert!(began.elapsed() < PATIENCE, "it does not say {words:?}: {}", super::engine::log(data));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Asks a process to end, and waits for it.
fn end(mut process: Child) {
    let told = Command::new("kill").args(["-TERM", &process.id().to_string()]).status().expect("kill runs");
    assert!(told.success());
    let began = Instant::now();
    while process.try_wait().expect("a child").is_none() {
        if began.elapsed() > Duration::from_secs(10) {
            process.kill().expect("killed");
            panic!("SIGTERM does not end it");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
