//! Bad samples for the rules about crates: each would pass unseen if its rule looked away.

use nexus_tidy::crates::{Dependency, Package, direction, duplicates, engine_purity, inherits, knowledge};
use nexus_tidy::files::SourceFile;

fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
    let dependency =
        |(name, kind): &(&str, Option<&str>)| Dependency { name: (*name).into(), kind: kind.map(str::to_owned) };
    Package { name: name.into(), dependencies: dependencies.iter().map(dependency).collect() }
}

fn house(changed: Package) -> Vec<Package> {
    let names =
        ["nexus-engine", "nexus-actors", "nexus-store", "nexus-venues", "nexus-config", "nexus-server", "nexus-bench"];
    let others = names.into_iter().filter(|name| *name != changed.name).map(|name| package(name, &[]));
    let others: Vec<_> = others.collect();
    others.into_iter().chain([changed]).collect()
}

fn said(violations: &[nexus_tidy::Violation]) -> Vec<String> {
    violations.iter().map(ToString::to_string).collect()
}

#[test]
fn a_dependency_that_points_up_is_found() {
    let table = [
        ("nexus-engine", "nexus-actors", None, true),
        ("nexus-engine", "nexus-actors", Some("dev"), true),
        ("nexus-actors", "nexus-store", None, true),
        ("nexus-actors", "nexus-store", Some("build"), true),
        ("nexus-actors", "nexus-store", Some("dev"), false),
        ("nexus-store", "nexus-venues", None, true),
        ("nexus-config", "nexus-actors", None, true),
        ("nexus-server", "nexus-bench", None, true),
        ("nexus-server", "nexus-store", None, false),
        ("nexus-store", "nexus-actors", None, false),
        ("nexus-bench", "nexus-server", None, false),
        ("nexus-newcomer", "serde", None, true),
    ];
    for (from, to, kind, found) in table {
        let violations = direction(&house(package(from, &[(to, kind)])));
        assert_eq!(!violations.is_empty(), found, "{from} -> {to} ({kind:?}): {:?}", said(&violations));
    }
}

#[test]
fn knowledge_in_the_wrong_room_is_found() {
    let table = [
        ("nexus-actors", "rusqlite", None, true),
        ("nexus-actors", "serde_json", None, true),
        ("nexus-actors", "serde_json", Some("dev"), false),
        ("nexus-venues", "redis", None, true),
        ("nexus-server", "rusqlite", None, true),
        ("nexus-server", "rusqlite", Some("dev"), false),
        ("nexus-store", "axum", None, true),
        ("nexus-store", "rusqlite", None, false),
        ("nexus-server", "axum", None, false),
        ("nexus-bench", "rusqlite", None, false),
    ];
    for (room, name, kind, found) in table {
        let violations = knowledge(&[package(room, &[(name, kind)])]);
        assert_eq!(!violations.is_empty(), found, "{room} -> {name} ({kind:?})");
    }
}

#[test]
fn an_impure_crate_below_the_engine_is_found() {
    let clean = "nexus-engine v0.1.0 (/x/engine)\nserde v1.0.229\nuuid v1.29.3\n";
    assert!(engine_purity(clean).is_empty());
    let impure = format!("{clean}getrandom v0.4.3\ncfg-if v1.0.5\ngetrandom v0.4.3 (*)\n");
    assert_eq!(
        said(&engine_purity(&impure)),
        ["nexus-engine: is built from getrandom: the engine is pure"],
        "once, however often the tree shows it"
    );
}

#[test]
fn a_heavy_crate_in_two_versions_is_found() {
    let once = "tokio v1.54.1\nhashbrown v0.14.5\nhashbrown v0.17.1\nsyn v2.0.119 \nsyn v3.0.10\ntokio v1.54.1 (*)\n";
    assert!(duplicates(once).is_empty());
    let twice = format!("{once}tokio v1.40.0\nring v0.17.0\naws-lc-rs v1.0.0\n");
    let found = said(&duplicates(&twice));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("tokio is built in 1.40.0 and 1.54.1"), "{found:?}");
    assert!(found[1].contains("two crypto backends"), "{found:?}");
}

#[test]
fn a_crate_with_its_own_lints_or_edition_is_found() {
    let manifest = |text: &str| SourceFile::new("x/Cargo.toml", text);
    let good = "[package]\nname='x'\nedition.workspace=true\nrust-version.workspace=true\n[lints]\nworkspace=true\n";
    assert!(inherits(&manifest(good)).is_empty());
    assert!(inherits(&manifest("[workspace]\nmembers=[]\n")).is_empty());
    let own = "[package]\nname='x'\nedition='2021'\nrust-version.workspace=true\n[lints.rust]\nunsafe_code='allow'\n";
    let found = said(&inherits(&manifest(own)));
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(inherits(&manifest("[package")).len(), 1);
}
