//! Bad samples for the rules about the shape of a file and the purity of the engine.

use nexus_tidy::Violation;
use nexus_tidy::files::{SourceFile, mark_tests};
use nexus_tidy::migrations::numbering;
use nexus_tidy::source::{FILE_LINES_MAX, FUNCTION_LINES_MAX, TEST_LINES_MAX};
use nexus_tidy::source::{file_length, function_length, module_doc, pure};

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile::new(path, text)
}

/// A function of `lines` lines.
fn function(head: &str, lines: usize) -> String {
    format!("{head} {{\n{}}}\n", "    work();\n".repeat(lines - 2))
}

fn lines_of(violations: &[Violation]) -> Vec<usize> {
    violations.iter().map(|violation| violation.line).collect()
}

#[test]
fn a_file_without_its_story_is_found() {
    let long = "fn a() {}\n".repeat(50);
    let table = [
        ("x/src/a.rs", "fn a() {}\n".to_owned(), 1),
        ("x/src/a.rs", "// Not a doc.\n".to_owned(), 1),
        ("x/src/a.rs", "//! Short and small.\n".to_owned(), 0),
        ("x/src/a.rs", format!("//! Too short.\n{long}"), 1),
        ("x/src/a.rs", format!("//! One.\n//!\n//! Three.\n{long}"), 0),
        ("x/src/a.rs", format!("{}{long}", "//! Too much.\n".repeat(16)), 1),
        ("x/src/lib.rs", format!("{}{long}", "//! A drawing.\n".repeat(60)), 0),
        ("x/src/lib.rs", format!("{}{long}", "//! A novel.\n".repeat(61)), 1),
        ("x/tests/suite/a.rs", format!("//! A line is enough for tests.\n{long}"), 0),
        ("x/tests/suite/a.rs", long.clone(), 1),
    ];
    for (path, text, found) in table {
        assert_eq!(module_doc(&file(path, &text)).len(), found, "{path}: {text:.40}");
    }
}

#[test]
fn a_long_function_is_found_wherever_it_stands() {
    let most = FUNCTION_LINES_MAX;
    let good = function("fn a()", most);
    assert!(function_length(&file("x/src/a.rs", &good)).is_empty());
    let table = [
        function("fn a()", most + 1),
        format!("impl A {{\n{}}}\n", function("pub async fn a(&self)", most + 1)),
        format!("trait A {{\n{}}}\n", function("fn a(&self)", most + 1)),
        format!("mod inner {{\n{}}}\n", function("fn a()", most + 1)),
        format!("fn outer() {{\n{}}}\n", function("fn a()", most + 1)),
    ];
    for text in table {
        assert!(!function_length(&file("x/src/a.rs", &text)).is_empty(), "{text:.40}");
    }
    let found = function_length(&file("x/src/a.rs", &format!("{good}{}", function("fn b()", most + 5))));
    assert_eq!(lines_of(&found), [most + 1]);
    assert!(found[0].reason.contains("`b` has 75 lines"), "{}", found[0]);
}

#[test]
fn a_test_may_be_longer_and_not_endless() {
    let length = FUNCTION_LINES_MAX + 1;
    for text in [
        format!("#[test]\n{}", function("fn a()", length)),
        format!("#[tokio::test]\n{}", function("async fn a()", length)),
        format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function("fn helper()", length)),
    ] {
        assert!(function_length(&file("x/src/a.rs", &text)).is_empty(), "{text:.40}");
    }
    assert!(function_length(&file("x/tests/suite/a.rs", &function("fn helper()", length))).is_empty());
    assert_eq!(function_length(&file("x/tests/suite/a.rs", &function("fn a()", TEST_LINES_MAX + 1))).len(), 1);
    let after = format!("#[cfg(test)]\nmod tests {{}}\n{}", function("fn a()", length));
    assert_eq!(function_length(&file("x/src/a.rs", &after)).len(), 1, "what stands after the tests is no test");
}

#[test]
fn a_long_file_and_one_that_does_not_parse_are_found() {
    assert!(file_length(&file("a.rs", &"\n".repeat(FILE_LINES_MAX))).is_empty());
    assert_eq!(file_length(&file("a.rs", &"\n".repeat(FILE_LINES_MAX + 1))).len(), 1);
    assert_eq!(lines_of(&function_length(&file("a.rs", "fn a() {}\nfn b( {}\n"))), [2]);
}

#[test]
fn an_impure_name_in_the_engine_is_found() {
    let impure = [
        "use std::time::Instant;",
        "use std::time::{Duration, SystemTime};",
        "use std::{collections::BTreeMap, fs};",
        "use std::time::SystemTime as Clock;",
        "use std::time::*;",
        "use std::collections::HashMap;",
        "use std::time;\nfn a() -> u64 { time::Instant::now().elapsed().as_secs() }",
        "fn a() { let now = std::time::Instant::now(); }",
        "fn a() { std::env::var(\"A\").ok(); }",
        "fn a() { std::thread::yield_now(); }",
        "fn a() { std::process::exit(1); }",
        "fn a(_: std::net::IpAddr) {}",
        "fn a() { println!(\"a\"); }",
        "fn a() -> u8 { std::eprintln!(\"a\"); 1 }",
    ];
    for text in impure {
        assert!(!pure(&file("engine/src/a.rs", text)).is_empty(), "{text}");
    }
    let clean = [
        "use std::time::Duration;",
        "use std::collections::{BTreeMap, VecDeque};",
        "use std::fmt::{self, Write as _};",
        "fn a(env: u8, fs: u8) -> u8 { env + fs }",
        "fn a() -> &'static str { \"println!(std::fs)\" }",
        "struct Instant;",
        "#[cfg(test)]\nmod tests { use std::env; }",
    ];
    for text in clean {
        assert!(pure(&file("engine/src/a.rs", text)).is_empty(), "{text}");
    }
}

#[test]
fn a_module_declared_for_tests_is_held_as_a_test() {
    let declaring = "pub mod b;\n#[cfg(test)]\nmod c;\n#[cfg(not(test))]\nmod d;\n#[cfg(test)]\nmod e { fn f() {} }\n";
    let mut files = vec![
        file("engine/src/lib.rs", "pub mod a;\n#[cfg(test)]\nmod stories;\n"),
        file("engine/src/stories.rs", "fn a() { std::env::var(\"A\").ok(); }"),
        file("engine/src/a.rs", declaring),
        file("engine/src/a/b.rs", ""),
        file("engine/src/a/c.rs", ""),
        file("engine/src/a/d.rs", ""),
        file("engine/src/c.rs", ""),
        file("engine/tests/suite/main.rs", ""),
    ];
    mark_tests(&mut files);
    let tests: Vec<_> = files.iter().filter(|file| file.is_test).map(|file| file.path.as_str()).collect();
    assert_eq!(tests, ["engine/src/stories.rs", "engine/src/a/c.rs", "engine/tests/suite/main.rs"]);
    assert!(pure(&files[1]).is_empty());
}

#[test]
fn a_gap_or_a_double_in_the_migrations_is_found() {
    let check = |names: &[&str]| {
        let files: Vec<_> = names.iter().map(|name| file(name, "")).collect();
        numbering(&files).len()
    };
    assert_eq!(check(&["migrations/sqlite/0001_start.sql", "migrations/sqlite/0002_more.sql"]), 0);
    assert_eq!(check(&["migrations/a/0001_a.sql", "migrations/b/0001_b.sql", "docs/7.sql"]), 0);
    assert_eq!(check(&["migrations/sqlite/0001_start.sql", "migrations/sqlite/0003_more.sql"]), 1);
    assert_eq!(check(&["store/migrations/sqlite/0001_a.sql", "store/migrations/sqlite/0001_b.sql"]), 1);
    assert_eq!(check(&["migrations/sqlite/0000_start.sql"]), 1);
    assert_eq!(check(&["migrations/sqlite/1_start.sql"]), 1);
}
