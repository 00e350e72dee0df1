//! The shape of a Rust file: it opens with what it is for, it fits a reader's head, and so does each of its functions.
//!
//! Also here: the engine's purity as far as its own source shows it. What it may depend on is in `crates`.

use std::ops::RangeInclusive;

use syn::visit::{self, Visit};
use syn::{Attribute, Block, File, ImplItemFn, ItemFn, ItemMod, Signature, TraitItemFn, UseTree};

use crate::Violation;
use crate::files::{SourceFile, is_cfg_test};

/// The most lines of a function.
pub const FUNCTION_LINES_MAX: usize = 70;
/// The most lines of a test: a story may be longer than a step.
pub const TEST_LINES_MAX: usize = 100;
/// The most lines of a file.
pub const FILE_LINES_MAX: usize = 700;
/// A source file longer than this explains itself in `DOC_LINES`.
const DOC_FROM_LINES: usize = 40;
/// How many lines the explanation of a source file has.
const DOC_LINES: RangeInclusive<usize> = 3..=15;
/// The root of a crate may draw it.
const ROOT_DOC_LINES: RangeInclusive<usize> = 3..=60;

/// What the engine may not name, as a path or the beginning of one, and why.
const IMPURE: &[(&str, &str)] = &[
    ("std::time::Instant", "time is an argument"),
    ("std::time::SystemTime", "time is an argument"),
    ("std::fs", "no files"),
    ("std::io", "no I/O"),
    ("std::net", "no network"),
    ("std::env", "no environment"),
    ("std::thread", "no threads"),
    ("std::process", "no processes"),
    ("std::collections::HashMap", "its order is random; use an ordered map"),
    ("std::collections::HashSet", "its order is random; use an ordered set"),
];
/// Macros that write to somewhere.
const WRITERS: &[&str] = &["print", "println", "eprint", "eprintln", concat!("db", "g")];

/// Every file opens with a module doc; one of the product's files of some size has 3 to 15 lines, a crate's root up to 60.
pub fn module_doc(file: &SourceFile) -> Vec<Violation> {
    let lines = file.text.lines().take_while(|line| line.starts_with("//!")).count();
    let is_source = !file.is_test && file.text.lines().count() > DOC_FROM_LINES;
    let is_root = file.path.ends_with("src/lib.rs") || file.path.ends_with("src/main.rs");
    let fitting = if is_root { ROOT_DOC_LINES } else { DOC_LINES };
    let reason = match lines {
        0 => "opens without a `//!` doc: say what it is for and why it is so".to_owned(),
        _ if is_source && !fitting.contains(&lines) => {
            let (least, most) = (fitting.start(), fitting.end());
            format!(
                "its `//!` doc has {lines} lines; {least} to {most} say its job, its place and the decision behind it"
            )
        }
        _ => return Vec::new(),
    };
    vec![Violation::new(&file.path, 1, reason)]
}

/// No file is longer than 700 lines.
pub fn file_length(file: &SourceFile) -> Vec<Violation> {
    match file.text.lines().count() {
        lines if lines > FILE_LINES_MAX => {
            vec![Violation::whole(&file.path, format!("has {lines} lines; at most {FILE_LINES_MAX}"))]
        }
        _ => Vec::new(),
    }
}

/// No function is longer than 70 lines, and no test longer than 100.
pub fn function_length(file: &SourceFile) -> Vec<Violation> {
    parsed(file, |syntax| {
        let mut lengths = Lengths { path: &file.path, test_depth: usize::from(file.is_test), found: Vec::new() };
        lengths.visit_file(syntax);
        lengths.found
    })
}

/// The engine names no clock, no I/O, no environment, no thread and no unordered map, and prints nothing. Its tests may.
pub fn pure(file: &SourceFile) -> Vec<Violation> {
    if file.is_test {
        return Vec::new();
    }
    parsed(file, |syntax| {
        let mut names = Names { path: &file.path, found: Vec::new() };
        names.visit_file(syntax);
        names.found
    })
}

fn parsed(file: &SourceFile, rule: impl FnOnce(&File) -> Vec<Violation>) -> Vec<Violation> {
    match syn::parse_file(&file.text) {
        Ok(syntax) => rule(&syntax),
        Err(error) => {
            vec![Violation::new(&file.path, error.span().start().line, format!("cannot be parsed: {error}"))]
        }
    }
}

struct Lengths<'a> {
    path: &'a str,
    /// Above zero inside of test code.
    test_depth: usize,
    found: Vec<Violation>,
}

impl Lengths<'_> {
    fn measure(&mut self, attributes: &[Attribute], signature: &Signature, body: &Block) {
        let first = signature.fn_token.span.start().line;
        let lines = body.brace_token.span.close().end().line - first + 1;
        let is_test = self.test_depth > 0 || attributes.iter().any(is_test);
        let most = if is_test { TEST_LINES_MAX } else { FUNCTION_LINES_MAX };
        if lines > most {
            let reason = format!("`{}` has {lines} lines; at most {most}", signature.ident);
            self.found.push(Violation::new(self.path, first, reason));
        }
    }
}

impl<'ast> Visit<'ast> for Lengths<'_> {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        let inside = usize::from(module.attrs.iter().any(is_cfg_test));
        self.test_depth += inside;
        visit::visit_item_mod(self, module);
        self.test_depth -= inside;
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.measure(&function.attrs, &function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.measure(&function.attrs, &function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(body) = &function.default {
            self.measure(&function.attrs, &function.sig, body);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

/// `#[test]`, `#[tokio::test]` and the like.
fn is_test(attribute: &Attribute) -> bool {
    attribute.path().segments.last().is_some_and(|segment| segment.ident == "test")
}

struct Names<'a> {
    path: &'a str,
    found: Vec<Violation>,
}

impl Names<'_> {
    fn judge(&mut self, name: &str, line: usize) {
        for (banned, why) in IMPURE {
            // `use std::time;` and then `time::Instant` is seen by its ending.
            let short = banned.split_once("::").map_or(*banned, |(_, short)| short);
            let ends_so = short.contains("::") && (name == short || name.starts_with(&format!("{short}::")));
            if name == *banned || name.starts_with(&format!("{banned}::")) || ends_so {
                self.found.push(Violation::new(self.path, line, format!("`{name}` in the engine: {why}")));
            }
        }
    }

    fn judge_use(&mut self, tree: &UseTree, prefix: &str) {
        let join = |name: &dyn std::fmt::Display| {
            if prefix.is_empty() { name.to_string() } else { format!("{prefix}::{name}") }
        };
        match tree {
            UseTree::Path(path) => self.judge_use(&path.tree, &join(&path.ident)),
            UseTree::Name(name) => self.judge(&join(&name.ident), name.ident.span().start().line),
            UseTree::Rename(name) => self.judge(&join(&name.ident), name.ident.span().start().line),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.judge_use(item, prefix)),
            // `std::time::*` would bring everything in: judged as if each name stood there.
            UseTree::Glob(glob) => {
                for (banned, why) in IMPURE.iter().filter(|(banned, _)| banned.starts_with(&format!("{prefix}::"))) {
                    let reason = format!("`{prefix}::*` brings `{banned}` into the engine: {why}");
                    self.found.push(Violation::new(self.path, glob.star_token.span.start().line, reason));
                }
            }
        }
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !module.attrs.iter().any(is_cfg_test) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.judge_use(&item.tree, "");
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let line = path.segments.first().map_or(0, |segment| segment.ident.span().start().line);
        self.judge(&names.join("::"), line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if let Some(name) = call.path.segments.last().map(|segment| &segment.ident)
            && WRITERS.iter().any(|writer| name == writer)
        {
            let line = name.span().start().line;
            self.found.push(Violation::new(self.path, line, format!("`{name}!` in the engine: it writes nothing")));
        }
        visit::visit_macro(self, call);
    }
}
