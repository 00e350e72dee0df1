//! Words that may not stand in the repository: what is unfinished, what is switched off, and places of one machine.
//!
//! The marks are put together from halves, so that this file does not contain what it looks for.

use syn::{Block, Expr, Stmt};

use crate::Violation;
use crate::comments::comment_runs;
use crate::files::SourceFile;

/// Marks of unfinished or switched-off work, and what to do instead.
const UNFINISHED: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "finish it or leave it out"),
    (concat!("FIX", "ME"), "mend it"),
    (concat!("XX", "X"), "say what is meant, or mend it"),
    (concat!("to", "do!("), "write the body"),
    (concat!("unimple", "mented!("), "write the body"),
    (concat!("db", "g!("), "remove the print"),
    (concat!("#[ig", "nore"), "run the test under NEXUS_LONG when it is slow"),
    (concat!("allow(dead", "_code)"), "remove what nobody uses"),
    (concat!("allow(un", "used)"), "remove what nobody uses"),
];

/// Places that exist on one machine only, or outside of the repository.
const PLACES: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/tmp", "/w/"),
    concat!("../sha", "red"),
    concat!("/home", "/"),
    concat!("/Us", "ers/"),
];

/// No file of code or script says that it is unfinished, or switches a check off.
pub fn unfinished(file: &SourceFile) -> Vec<Violation> {
    let prose = [".md", ".txt", ".csv", ".json"].iter().any(|ending| file.path.ends_with(ending));
    let mut found = Vec::new();
    for (number, line) in numbered(file) {
        for (mark, advice) in UNFINISHED.iter().filter(|(mark, _)| !prose && has_word(line, mark)) {
            found.push(Violation::new(&file.path, number, format!("`{mark}`: {advice}")));
        }
    }
    found
}

/// No file names a place that only one machine has.
pub fn places(file: &SourceFile) -> Vec<Violation> {
    let mut found = Vec::new();
    for (number, line) in numbered(file) {
        for place in PLACES.iter().filter(|place| has_place(line, place)) {
            found.push(Violation::new(&file.path, number, format!("`{place}` exists on one machine only")));
        }
    }
    found
}

/// No code is kept in a comment: version control remembers it. A run of comment lines that parses as Rust statements,
/// and that is more than a word, is code.
pub fn commented_out(file: &SourceFile) -> Vec<Violation> {
    let runs = comment_runs(&file.text).into_iter().filter(|run| is_code(&run.text));
    runs.map(|run| Violation::new(&file.path, run.line, "code in a comment: delete it")).collect()
}

fn is_code(text: &str) -> bool {
    let whole_or_lines = std::iter::once(text).chain(text.lines());
    whole_or_lines.filter_map(|part| syn::parse_str::<Block>(&format!("{{{part}}}")).ok()).any(|block| {
        let mut statements = block.stmts.iter();
        statements.any(|statement| match statement {
            Stmt::Local(_) | Stmt::Item(_) | Stmt::Macro(_) => true,
            Stmt::Expr(Expr::Path(_) | Expr::Lit(_), _) => false,
            Stmt::Expr(Expr::Call(_) | Expr::MethodCall(_) | Expr::If(_) | Expr::Match(_), None) => true,
            Stmt::Expr(_, semicolon) => semicolon.is_some(),
        })
    })
}

fn numbered(file: &SourceFile) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(file.text.lines())
}

/// Whether `line` contains `mark` as a word of its own where the mark begins or ends like one.
fn has_word(line: &str, mark: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(mark).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(is_word) && mark.starts_with(is_word);
        let after = line[at + mark.len()..].chars().next().is_some_and(is_word) && mark.ends_with(is_word);
        !before && !after
    })
}

/// A place that begins with a slash must begin there: `/usr/src/x/` does not name `/x/`.
fn has_place(line: &str, place: &str) -> bool {
    let joined = |c: char| c.is_alphanumeric() || "._-~}".contains(c);
    line.match_indices(place)
        .any(|(at, _)| !place.starts_with('/') || !line[..at].chars().next_back().is_some_and(joined))
}
