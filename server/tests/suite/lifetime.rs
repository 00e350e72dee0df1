//! The beginning and the end of the process.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::engine::{Engine, PATIENCE, World, command, eventually, log, signal};

#[test]
fn a_second_engine_on_one_folder_ends_with_1() {
    let engine = Engine::start();
    let second = command(engine.data_dir(), &[]).output().expect("it ran");
    assert_eq!(second.status.code(), Some(1));
    assert!(log(engine.data_dir()).contains("another engine is running"), "{}", log(engine.data_dir()));
    let data = engine.kill();
    Engine::start_on(data, &[]);
}

#[test]
fn a_port_that_is_taken_ends_with_1() {
    let engine = Engine::start();
    let port = engine.base.rsplit(':').next().expect("a port").to_owned();
    let folder = tempfile::tempdir().expect("a folder");
    let second = command(folder.path(), &[("API_PORT", &port)]).output().expect("it ran");
    assert_eq!(second.status.code(), Some(1));
    assert!(log(folder.path()).contains("cannot listen"), "{}", log(folder.path()));
}

#[tokio::test]
async fn the_first_start_makes_an_admin_and_shows_the_password_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let greet = |folder: &std::path::Path| {
        let mut process = command(folder, &[]).spawn().expect("started");
        let mut text = vec![0; 4096];
        let mut stdout = process.stdout.take().expect("piped");
        let mut greeting = String::new();
        while !greeting.contains("try: ") {
            let read = stdout.read(&mut text).expect("read");
            assert_ne!(read, 0, "{}", log(folder));
            greeting += &String::from_utf8_lossy(&text[..read]);
        }
        process.kill().expect("killed");
        process.wait().expect("ended");
        greeting
    };
    let first = greet(folder.path());
    let kept = std::fs::read_to_string(folder.path().join("admin-password")).expect("kept");
    assert!(first.contains(kept.trim()) && first.contains("/docs"), "{first}");
    for file in ["admin-password", "secret-key"] {
        let mode = std::fs::metadata(folder.path().join(file)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert!(!greet(folder.path()).contains("password"));
    let engine = Engine::start_on(folder, &[]);
    engine.login("admin", kept.trim()).await;
}

#[tokio::test]
async fn a_given_password_is_the_admins() {
    let settings = [("ADMIN_PASSWORD", "G1ven-by-hand")];
    let engine = Engine::start_on(tempfile::tempdir().expect("a folder"), &settings);
    engine.login("admin", "G1ven-by-hand").await;
    assert!(!engine.data_dir().join("admin-password").exists());
}

#[tokio::test]
async fn what_is_under_way_is_finished_before_the_end() {
    let world = World::new().await;
    let address = world.engine.base.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await.expect("connected");
    let body = signal("under way").to_string();
    let (first, rest) = body.split_at(10);
    let head = format!(
        "POST /api/v1/signals HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{first}",
        world.feed,
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    // An idle connection does not hold the end up.
    let idle = TcpStream::connect(&address).await.expect("connected");
    world.engine.signal("-TERM");
    eventually("it takes nothing new", || async { TcpStream::connect(&address).await.is_err() }).await;
    stream.write_all(rest.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time");
    read.expect("whole");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"accepted\":1"), "{answer}");
    let (status, data) = tokio::task::spawn_blocking(move || world.engine.wait()).await.expect("ended");
    assert!(status.success());
    drop(idle);
    let engine = Engine::start_on(data, &[]);
    let stored = engine.get("/api/v1/signals/under%20way", &world.feed).await;
    assert_eq!((stored.status.as_u16(), &stored.body["pending"]), (200, &Value::from(0)), "{}", stored.text);
}

#[tokio::test]
async fn a_stream_is_told_that_the_server_stops() {
    let world = World::new().await;
    let mut stream = TcpStream::connect(world.engine.base.trim_start_matches("http://")).await.expect("connected");
    let line = signal("streamed").to_string();
    let request = format!(
        "POST /api/v1/signals HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/x-ndjson\r\n\
         transfer-encoding: chunked\r\n\r\n{:x}\r\n{line}\n\r\n",
        world.feed,
        line.len() + 1
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    let mut piece = [0; 4096];
    while !answer.contains("\"decided\":1") {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut piece)).await.expect("in time").expect("read");
        assert_ne!(read, 0, "{answer}");
        answer += &String::from_utf8_lossy(&piece[..read]);
    }
    let began = std::time::Instant::now();
    world.engine.signal("-INT");
    stream.read_to_string(&mut answer).await.expect("whole");
    assert!(answer.contains("\"status\":503"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(8), "a stream does not hold the end up");
    let (status, _) = tokio::task::spawn_blocking(move || world.engine.wait()).await.expect("ended");
    assert!(status.success());
}

#[tokio::test]
async fn production_does_not_start_without_a_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = [("ENVIRONMENT", "production"), ("BCRYPT_ROUNDS", "12")];
    let output = command(folder.path(), &settings).output().expect("it ran");
    assert_eq!(output.status.code(), Some(2), "{}", log(folder.path()));
}
