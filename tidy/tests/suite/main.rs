//! Shows every rule the house, and every rule a small bad sample that it must find.
//!
//! The samples stand beside the rules' names in the modules; here is only the house.

mod crates;
mod source;
mod words;

use nexus_tidy::files::{SourceFile, text_files, workspace_root};
use nexus_tidy::{Violation, crates as rooms, migrations, source as shape, words as wording};

/// Fails with every violation on a line of its own.
fn hold(violations: &[Violation]) {
    let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} violations:\n{}\n", lines.len(), lines.join("\n"));
}

fn house() -> Vec<SourceFile> {
    text_files(&workspace_root()).expect("the workspace can be read")
}

fn each_rust_file(rule: fn(&SourceFile) -> Vec<Violation>) -> Vec<Violation> {
    let files = house();
    assert!(files.iter().any(|file| file.path == "engine/src/account.rs"), "the walk misses the engine");
    files.iter().filter(|file| file.is_rust()).flat_map(rule).collect()
}

#[test]
fn dependencies_point_one_way() {
    let packages = rooms::packages(&workspace_root()).unwrap();
    hold(&rooms::direction(&packages));
}

#[test]
fn each_room_knows_only_its_part_of_the_world() {
    let packages = rooms::packages(&workspace_root()).unwrap();
    hold(&rooms::knowledge(&packages));
}

#[test]
fn the_engine_is_built_from_nothing_impure() {
    let tree = rooms::tree(&workspace_root(), Some("nexus-engine")).unwrap();
    assert!(tree.contains("serde"), "cargo tree shows nothing: {tree}");
    hold(&rooms::engine_purity(&tree));
}

#[test]
fn the_engine_names_nothing_impure() {
    let files = house();
    let engine: Vec<_> = files.iter().filter(|it| it.is_rust() && it.path.starts_with("engine/src/")).collect();
    assert!(!engine.is_empty());
    hold(&engine.into_iter().flat_map(shape::pure).collect::<Vec<_>>());
}

#[test]
fn heavy_crates_are_built_once() {
    let tree = rooms::tree(&workspace_root(), None).unwrap();
    assert!(tree.contains("tokio v"), "cargo tree shows nothing: {tree}");
    hold(&rooms::duplicates(&tree));
}

#[test]
fn crates_inherit_lints_and_edition() {
    let files = house();
    let manifests: Vec<_> = files.iter().filter(|file| file.path.ends_with("Cargo.toml")).collect();
    assert!(manifests.len() > 5, "the walk misses manifests");
    hold(&manifests.into_iter().flat_map(rooms::inherits).collect::<Vec<_>>());
}

#[test]
fn files_open_with_what_they_are_for() {
    hold(&each_rust_file(shape::module_doc));
}

#[test]
fn functions_fit_a_readers_head() {
    hold(&each_rust_file(shape::function_length));
}

#[test]
fn files_fit_a_readers_head() {
    hold(&each_rust_file(shape::file_length));
}

#[test]
fn nothing_is_left_unfinished() {
    hold(&house().iter().flat_map(wording::unfinished).collect::<Vec<_>>());
}

#[test]
fn no_code_is_kept_in_comments() {
    hold(&each_rust_file(wording::commented_out));
}

#[test]
fn no_file_names_a_place_of_one_machine() {
    hold(&house().iter().flat_map(wording::places).collect::<Vec<_>>());
}

#[test]
fn migrations_are_numbered_without_gaps() {
    hold(&migrations::numbering(&house()));
}
