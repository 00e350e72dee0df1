//! The files that the rules look at: everything in the workspace that a person wrote.
//!
//! The folder is walked rather than asked of git, so that the rules also hold in an unpacked archive. What is built,
//! fetched or recorded at run time is left out by the name of its folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Folders that no person writes in. (In a linked worktree `.git` is a file.)
const SKIPPED: &[&str] = &["target", ".git", "data", "node_modules", "vendor"];
/// Files without these endings are looked at only when they have no ending at all (scripts).
const TEXTS: &[&str] =
    &["rs", "md", "toml", "sql", "sh", "yml", "yaml", "json", "html", "js", "css", "txt", "csv", "service", "conf"];

/// A text file of the workspace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceFile {
    /// From the root of the workspace, with forward slashes.
    pub path: String,
    /// What it says.
    pub text: String,
    /// Whether it is only there for tests: below `tests/`, or declared as a module under `#[cfg(test)]`.
    pub is_test: bool,
}

impl SourceFile {
    /// A file of the product, unless it lies below `tests/`.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let path = path.into();
        let is_test = path.split('/').any(|part| part == "tests");
        Self { path, text: text.into(), is_test }
    }

    /// Whether it is Rust.
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// The root of the workspace that this crate stands in.
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every text file below `root`, sorted by path. Files that are not UTF-8 are nobody's prose and are left out.
pub fn text_files(root: &Path) -> io::Result<Vec<SourceFile>> {
    let mut found = Vec::new();
    walk(root, "", &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    mark_tests(&mut found);
    Ok(found)
}

/// Marks files that some other file declares as a module under `#[cfg(test)]`.
pub fn mark_tests(files: &mut [SourceFile]) {
    let declared: BTreeSet<String> =
        files.iter().filter(|file| file.is_rust()).flat_map(declared_test_modules).collect();
    for file in files.iter_mut().filter(|file| declared.contains(&file.path)) {
        file.is_test = true;
    }
}

/// Where the modules lie that a file declares under `#[cfg(test)]`. A file that does not parse declares none; other rules
/// say so.
fn declared_test_modules(file: &SourceFile) -> Vec<String> {
    // Parsing every file once more would take most of the suite's time.
    let declares = |line: &str| line.ends_with(';') && line.split(' ').any(|word| word == "mod");
    if !file.text.contains("cfg(test)") || !file.text.lines().any(declares) {
        return Vec::new();
    }
    let items = syn::parse_file(&file.text).map(|syntax| syntax.items).unwrap_or_default();
    let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
    let below = match name {
        "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
        _ => file.path.trim_end_matches(".rs").to_owned(),
    };
    let declared = items.into_iter().filter_map(|item| match item {
        syn::Item::Mod(module) if module.content.is_none() && module.attrs.iter().any(is_cfg_test) => {
            Some(module.ident.to_string())
        }
        _ => None,
    });
    declared.flat_map(|name| [format!("{below}/{name}.rs"), format!("{below}/{name}/mod.rs")]).collect()
}

/// Whether an attribute is `#[cfg(test)]`.
pub(crate) fn is_cfg_test(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
}

fn walk(folder: &Path, prefix: &str, found: &mut Vec<SourceFile>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        let kind = entry.file_type()?;
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        if kind.is_dir() {
            walk(&entry.path(), &path, found)?;
        } else if kind.is_file() && is_text(&name) {
            match fs::read_to_string(entry.path()) {
                Ok(text) => found.push(SourceFile::new(path, text)),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn is_text(name: &str) -> bool {
    match name.trim_start_matches('.').rsplit_once('.') {
        Some((_, ending)) => TEXTS.contains(&ending),
        None => true,
    }
}
