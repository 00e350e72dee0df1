//! The examples of docs/SIGNALS.md, run as they stand there against a real engine, and held to the outputs shown there.
//!
//! Between each of them and the engine stands a door that turns its first request away with `Retry-After`, because what a
//! feed does when the engine is busy is the part of an example that nobody tries out.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::engine::World;
use super::promises::Ledger;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The fenced block behind a marker.
fn block(marker: &str) -> String {
    let text = std::fs::read_to_string(Path::new(ROOT).join("docs/SIGNALS.md")).expect("the document");
    let (_, rest) = text.split_once(&format!("<!-- {marker} -->\n```")).unwrap_or_else(|| panic!("no block {marker}"));
    let (_language, rest) = rest.split_once('\n').expect("a line");
    rest.split_once("```\n").expect("its end").0.to_owned()
}

/// A door to the engine that is shut for the first who comes, and says when to try again.
async fn door(engine: &str, refusal: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let engine = engine.trim_start_matches("http://").to_owned();
    tokio::spawn(async move {
        let (first, _) = listener.accept().await.expect("somebody");
        turn_away(first, refusal).await;
        while let Ok((mut caller, _)) = listener.accept().await {
            let mut within = TcpStream::connect(&engine).await.expect("the engine");
            tokio::spawn(async move {
                // Whoever hangs up first ends the conversation; what was said is judged by the test.
                let _ = tokio::io::copy_bidirectional(&mut caller, &mut within).await;
            });
        }
    });
    format!("http://{address}")
}

/// Reads a request to its end, so that the refusal is read and not a reset, and refuses it.
async fn turn_away(mut caller: TcpStream, refusal: &str) {
    let mut request = Vec::new();
    while !is_whole(&request) {
        assert!(caller.read_buf(&mut request).await.expect("a request") > 0, "it hung up");
    }
    let answer = format!("HTTP/1.1 {refusal}\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    caller.write_all(answer.as_bytes()).await.expect("heard");
}

/// Whether a request has come with all of its body.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).expect("a length");
    body.len() >= length.trim().parse().expect("a number")
}

/// The compiled example, which is built with the tests and stands beside the binary.
fn example() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_nexus")).with_file_name("examples").join("feed");
    let changed = |file: &Path| file.metadata().and_then(|data| data.modified()).ok();
    // Whoever builds this suite alone has no example, or that of another day.
    if changed(&beside) < changed(&Path::new(ROOT).join("server/examples/feed.rs")) {
        let mut cargo = Command::new(env!("CARGO"));
        let built = cargo.args(["build", "-q", "-p", "nexus-server", "--example", "feed"]).current_dir(ROOT).status();
        assert!(built.expect("cargo runs").success());
    }
    beside
}

#[tokio::test]
async fn every_example_of_a_feed_does_what_it_says() {
    let source = std::fs::read_to_string(Path::new(ROOT).join("server/examples/feed.rs")).expect("the example");
    assert_eq!(block("run: feed"), source, "the document shows the example as it is");
    let world = World::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("feed.py");
    std::fs::write(&script, block("run: python3")).expect("written");
    let mut bash = Command::new("bash");
    bash.args(["-euc", &block("run: bash")]);
    let mut python = Command::new("python3");
    python.arg(&script);
    let examples = [
        ("bash", "curl-1", bash, "503 Service Unavailable"),
        ("python3", "python-1", python, "429 Too Many Requests"),
        ("feed", "rust-1", Command::new(example()), "503 Service Unavailable"),
    ];
    for (name, key, mut command, refusal) in examples {
        let door = door(&world.engine.base, refusal).await;
        command.env("API", door).env("KEY", &world.feed).env("no_proxy", "127.0.0.1").current_dir(folder.path());
        let began = Instant::now();
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("not cancelled");
        let output = output.unwrap_or_else(|error| panic!("{name}: {error}"));
        let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{name}: {said} {complained}");
        assert_eq!(said, block(&format!("prints: {name}")), "{name}: {complained}");
        assert!(began.elapsed() >= Duration::from_secs(1), "{name} came back before it was told to");
        let ledger = Ledger::of(world.engine.data_dir());
        let sql = "SELECT count(*) FROM decisions d JOIN signals s ON s.id = d.signal_id WHERE s.key = ?1";
        assert_eq!(ledger.number(sql, [key]), 1, "{key} was sent twice and decided once");
    }
}
