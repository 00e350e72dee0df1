//! Bad samples for the rules about words. Put together from halves, because these rules read this file, too.

use nexus_tidy::comments::{comment_runs, plain_comments};
use nexus_tidy::files::SourceFile;
use nexus_tidy::words::{commented_out, places, unfinished};

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile::new(path, text)
}

#[test]
fn a_mark_of_unfinished_work_is_found() {
    let bad = [
        concat!("// TO", "DO: later"),
        concat!("//! FIX", "ME"),
        concat!("let a = 1; // XX", "X"),
        concat!("    to", "do!()"),
        concat!("    unimple", "mented!(\"a\")"),
        concat!("    db", "g!(a);"),
        concat!("#[ig", "nore = \"slow\"]"),
        concat!("#[allow(dead", "_code)]"),
    ];
    for text in bad {
        let found = unfinished(&file("a.rs", &format!("fn a() {{}}\n{text}\n")));
        assert_eq!(found.iter().map(|it| it.line).collect::<Vec<_>>(), [2], "{text}");
    }
    let scripts = unfinished(&file("scripts/test", concat!("# TO", "DO")));
    assert_eq!(scripts.len(), 1);
    for text in ["// a todo list", "fn methodology() {}", "let xxx = 1;", "#[must_use]", "allow(clippy::x)"] {
        assert!(unfinished(&file("a.rs", text)).is_empty(), "{text}");
    }
}

#[test]
fn a_place_of_one_machine_is_found() {
    for text in [
        concat!("see /wo", "rk/a"),
        concat!("cd /ro", "ot/.cargo"),
        concat!("`/tmp", "/w/a`"),
        concat!("[a](../sha", "red/A.md)"),
        concat!("\"/home", "/ann/a\""),
    ] {
        for path in ["a.rs", "docs/a.md", "scripts/test"] {
            assert_eq!(places(&file(path, text)).len(), 1, "{text}");
        }
    }
    for text in [concat!("https://example.com/wo", "rk/1"), concat!("/usr/ro", "ot/x"), "../store", "/tmp/nexus"] {
        assert!(places(&file("a.md", text)).is_empty(), "{text}");
    }
}

#[test]
fn code_in_a_comment_is_found() {
    let code = [
        "let a = 1;",
        "account.step(now, &input, &context);",
        "return Err(Refusal::DayClosed);",
        "use std::fmt;",
        "println!(\"{a}\");",
        "if a {\n//     b();\n// }",
        "fn a() {\n// }",
        "The old way:\n// let a = compute(1);",
        "a += 1;",
    ];
    for text in code {
        let found = commented_out(&file("a.rs", &format!("fn x() {{}}\n// {text}\n")));
        assert_eq!(found.iter().map(|it| it.line).collect::<Vec<_>>(), [2], "{text}");
    }
    assert_eq!(commented_out(&file("a.rs", "/* let a = 1; */\n")).len(), 1);
}

#[test]
fn prose_and_texts_are_not_code() {
    let prose = [
        "// Zeros at either end carry no value; without them the digits have one length and one place.",
        "// Why: the venue may have it.",
        "// Safe",
        "// `let a = 1;` would not do.",
        "// At most 64 KiB;\n// more is refused.",
        "/// let a = 1;",
        "//! let a = 1;",
        "const A: &str = \"// let a = 1;\";",
        "const A: &str = r#\"\n// let a = \"1\";\n\"#;",
        "const A: char = '\"'; const B: &str = \"// let a = 1;\";",
        "fn a<'a>(b: &'a str) -> &'a str { b } // borrowed",
        "// ── sizes ──",
    ];
    for text in prose {
        assert!(commented_out(&file("a.rs", text)).is_empty(), "{text}");
    }
}

#[test]
fn comments_are_found_where_they_stand() {
    let text =
        "let a = '\\''; // one\n/* two /* nested */ still */ let b = \"/* no */\";\n//// three\n// four\n\n// five";
    let found: Vec<_> = plain_comments(text).into_iter().map(|it| (it.line, it.text)).collect();
    let expected = [(1, "one"), (2, "two /* nested */ still"), (3, "three"), (4, "four"), (6, "five")];
    assert_eq!(found, expected.map(|(line, text)| (line, text.to_owned())));
    assert_eq!(comment_runs("// a\n// b\n\n// c\n").len(), 2);
}
