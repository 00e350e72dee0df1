//! The crates: who may depend on whom, and on what of the world outside.
//!
//! cargo is asked (`metadata` for what a manifest says, `tree` for what is really built), offline, and its answers are
//! judged as texts. Dependencies of tests and of build scripts of others are not part of the product; the engine is
//! held to having no room below it even there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::Violation;
use crate::files::SourceFile;

/// The rooms and what each may lean on. The crates `OUTSIDE` look at everything and are leaned on by nobody.
const DIRECTION: &[(&str, &[&str])] = &[
    ("nexus-engine", &[]),
    ("nexus-actors", &["nexus-engine"]),
    ("nexus-store", &["nexus-actors", "nexus-engine"]),
    ("nexus-venues", &["nexus-actors", "nexus-engine"]),
    ("nexus-config", &["nexus-engine"]),
    ("nexus-server", &["nexus-store", "nexus-venues", "nexus-config", "nexus-actors", "nexus-engine"]),
];
/// Crates that measure, break, feed or judge the others and may lean on anything.
const OUTSIDE: &[&str] = &["nexus-bench", "nexus-crash", "nexus-testbed", "nexus-tidy"];

/// What nothing that the engine is built from may be: clocks, chance, I/O, runtimes, logs, wire formats.
const IMPURE: &[&str] = &[
    "tokio",
    "ractor",
    "async-std",
    "futures",
    "sqlx",
    "rusqlite",
    "redis",
    "rand",
    "rand_core",
    "fastrand",
    "getrandom",
    "tracing",
    "log",
    "chrono",
    "jiff",
    "time",
    "serde_json",
    "toml",
    "parking_lot",
    "reqwest",
    "hyper",
];

/// Knowledge of the world outside, and the rooms that may have it.
const KNOWLEDGE: &[(&[&str], &[&str])] = &[
    (&["rusqlite", "sqlx", "redis"], &["nexus-store"]),
    (&["axum", "hyper", "hyper-util", "tower-http", "utoipa"], &["nexus-server"]),
    (&["reqwest"], &["nexus-server", "nexus-venues"]),
    (&["serde_json"], &["nexus-server", "nexus-store", "nexus-venues"]),
];

/// Crates of which the binary holds one version: they are large, or two of them do not see each other's state.
const SINGLE: &[&str] = &[
    "tokio",
    "hyper",
    "axum",
    "axum-core",
    "http",
    "rustls",
    "aws-lc-rs",
    "ring",
    "rusqlite",
    "sqlx",
    "redis",
    "serde",
    "serde_json",
    "ractor",
    "uuid",
    "jiff",
    "tracing",
    "metrics",
    "clap",
];

/// A crate of the workspace, as its manifest describes it.
#[derive(Clone, Debug, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// What it leans on.
    pub dependencies: Vec<Dependency>,
}

/// Something that a crate leans on.
#[derive(Clone, Debug, Deserialize)]
pub struct Dependency {
    /// Its name.
    pub name: String,
    /// `None` for the product, `dev` for its tests, `build` for its build script.
    pub kind: Option<String>,
}

impl Package {
    /// What the product leans on, tests left out.
    fn product(&self) -> impl Iterator<Item = &str> {
        self.dependencies.iter().filter(|it| it.kind.as_deref() != Some("dev")).map(|it| it.name.as_str())
    }
}

/// The crates of the workspace.
pub fn packages(root: &Path) -> Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let text = cargo(root, &["metadata", "--format-version", "1", "--offline", "--no-deps"])?;
    Ok(serde_json::from_str::<Metadata>(&text)?.packages)
}

/// Everything that `package` (or the workspace) is built from, tests left out: lines of `name vVERSION …`.
pub fn tree(root: &Path, package: Option<&str>) -> Result<String> {
    let mut arguments = vec!["tree", "--offline", "--edges", "normal", "--prefix", "none"];
    match package {
        Some(name) => arguments.extend(["--package", name]),
        None => arguments.push("--workspace"),
    }
    cargo(root, &arguments)
}

fn cargo(root: &Path, arguments: &[&str]) -> Result<String> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program).args(arguments).current_dir(root).output().context("cargo does not run")?;
    ensure!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Dependencies between rooms point one way.
pub fn direction(packages: &[Package]) -> Vec<Violation> {
    let rooms: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut found = Vec::new();
    for package in packages.iter().filter(|package| !OUTSIDE.contains(&package.name.as_str())) {
        let Some((_, allowed)) = DIRECTION.iter().find(|(room, _)| *room == package.name) else {
            found.push(Violation::whole(&package.name, "has no place in the direction of dependencies: give it one"));
            continue;
        };
        let leans_on: Vec<&str> = match package.name.as_str() {
            "nexus-engine" => package.dependencies.iter().map(|it| it.name.as_str()).collect(),
            _ => package.product().collect(),
        };
        for room in leans_on.into_iter().filter(|name| rooms.contains(name) && !allowed.contains(name)) {
            found.push(Violation::whole(&package.name, format!("leans on {room}, which stands above or beside it")));
        }
    }
    found
}

/// Nothing that the engine is built from has a clock, chance, I/O, a runtime or a log.
pub fn engine_purity(engine_tree: &str) -> Vec<Violation> {
    let names: BTreeSet<&str> = built(engine_tree).into_iter().map(|(name, _)| name).collect();
    let impure = names.into_iter().filter(|name| IMPURE.contains(name));
    impure.map(|name| Violation::whole("nexus-engine", format!("is built from {name}: the engine is pure"))).collect()
}

/// Only the room whose job it is knows SQL, Redis, HTTP and JSON.
pub fn knowledge(packages: &[Package]) -> Vec<Violation> {
    let mut found = Vec::new();
    for package in packages.iter().filter(|package| !OUTSIDE.contains(&package.name.as_str())) {
        for (crates, rooms) in KNOWLEDGE.iter().filter(|(_, rooms)| !rooms.contains(&package.name.as_str())) {
            for name in package.product().filter(|name| crates.contains(name)) {
                found.push(Violation::whole(&package.name, format!("leans on {name}; only {} may", rooms.join(", "))));
            }
        }
    }
    found
}

/// One version of each heavy crate, and one crypto backend.
pub fn duplicates(workspace_tree: &str) -> Vec<Violation> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, version) in built(workspace_tree) {
        versions.entry(name).or_default().insert(version);
    }
    let mut found = Vec::new();
    for (name, versions) in versions.iter().filter(|(name, _)| SINGLE.contains(name)) {
        if versions.len() > 1 {
            let list: Vec<_> = versions.iter().copied().collect();
            found.push(Violation::whole("Cargo.lock", format!("{name} is built in {}", list.join(" and "))));
        }
    }
    if versions.contains_key("ring") && versions.contains_key("aws-lc-rs") {
        found.push(Violation::whole("Cargo.lock", "two crypto backends are built: ring and aws-lc-rs"));
    }
    found
}

/// Every crate takes its lints and its edition from the workspace.
pub fn inherits(manifest: &SourceFile) -> Vec<Violation> {
    let table: toml::Table = match manifest.text.parse() {
        Ok(table) => table,
        Err(error) => return vec![Violation::whole(&manifest.path, format!("cannot be read: {error}"))],
    };
    if table.contains_key("workspace") && !table.contains_key("package") {
        return Vec::new();
    }
    let from_workspace = |value: Option<&toml::Value>| {
        value.and_then(|value| value.get("workspace")).and_then(toml::Value::as_bool) == Some(true)
    };
    let package = |key: &str| table.get("package").and_then(|package| package.get(key));
    let held = [
        ("[lints] workspace = true", from_workspace(table.get("lints"))),
        ("edition.workspace = true", from_workspace(package("edition"))),
        ("rust-version.workspace = true", from_workspace(package("rust-version"))),
    ];
    let missing = held.into_iter().filter(|(_, held)| !held);
    missing.map(|(line, _)| Violation::whole(&manifest.path, format!("is without `{line}`"))).collect()
}

/// Names and versions in the output of `cargo tree --prefix none`.
fn built(tree: &str) -> Vec<(&str, &str)> {
    let pair = |line| str::split_once(line, " v").map(|(name, rest)| (name, rest.split(' ').next().unwrap_or(rest)));
    tree.lines().filter_map(pair).collect()
}
