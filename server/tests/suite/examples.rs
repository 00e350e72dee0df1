//! The examples of docs/SIGNALS.md, run as they stand there against a real engine.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::engine::World;
use super::promises::Ledger;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The fenced block behind a marker.
fn block(marker: &str) -> String {
    let text = std::fs::read_to_string(Path::new(ROOT).join("docs/SIGNALS.md")).expect("the document");
    let (_, rest) = text.split_once(&format!("<!-- run: {marker} -->\n```")).expect("a marked block");
    let (_language, rest) = rest.split_once('\n').expect("a line");
    rest.split_once("```\n").expect("its end").0.to_owned()
}

/// The compiled example, which is built with the tests and stands beside the binary.
fn example() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_nexus")).with_file_name("examples").join("feed");
    if !beside.exists() {
        let mut cargo = Command::new(env!("CARGO"));
        let built = cargo.args(["build", "-q", "-p", "nexus-server", "--example", "feed"]).current_dir(ROOT).status();
        assert!(built.expect("cargo runs").success());
    }
    beside
}

#[tokio::test]
async fn every_example_of_a_feed_does_what_it_says() {
    let source = std::fs::read_to_string(Path::new(ROOT).join("server/examples/feed.rs")).expect("the example");
    assert_eq!(block("feed"), source, "the document shows the example as it is");
    let world = World::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("feed.py");
    std::fs::write(&script, block("python3")).expect("written");
    let mut bash = Command::new("bash");
    bash.args(["-euc", &block("bash")]);
    let mut python = Command::new("python3");
    python.arg(&script);
    for (name, mut command) in [("curl-1", bash), ("python-1", python), ("rust-1", Command::new(example()))] {
        command.env("API", &world.engine.base).env("KEY", &world.feed).current_dir(folder.path());
        let output = command.output().unwrap_or_else(|error| panic!("{name}: {error}"));
        let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{name}: {said} {complained}");
        let lines: Vec<&str> = said.lines().filter(|line| !line.is_empty()).collect();
        // The third entry finds less than a quarter of its risk left of the day.
        let verdict = if name == "rust-1" { "rejected" } else { "accepted" };
        let line = |duplicate: bool| format!("\"{name}\" \"{verdict}\" duplicate={duplicate}");
        assert_eq!(lines, [line(false), line(true)], "{name}: {complained}");
        let ledger = Ledger::of(world.engine.data_dir());
        let sql = "SELECT count(*) FROM decisions d JOIN signals s ON s.id = d.signal_id WHERE s.key = ?1";
        assert_eq!(ledger.number(sql, [name]), 1, "{name} was sent twice and decided once");
    }
}
