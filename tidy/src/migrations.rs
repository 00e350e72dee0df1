//! Migrations are append-only: numbered `0001_name.sql`, `0002_name.sql`, … without a gap or a double.
//!
//! A database that has run number 7 must be able to trust that 1 to 7 are what they were; a gap or a double is how a
//! renumbered or a forgotten migration shows.

use std::collections::BTreeMap;

use crate::Violation;
use crate::files::SourceFile;

/// Every folder of numbered migrations counts 1, 2, 3, …
pub fn numbering(files: &[SourceFile]) -> Vec<Violation> {
    let mut folders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.path.ends_with(".sql")) {
        if let Some((folder, name)) = file.path.rsplit_once('/')
            && folder.split('/').any(|part| part == "migrations")
        {
            folders.entry(folder).or_default().push(name);
        }
    }
    folders.into_iter().flat_map(|(folder, names)| count(folder, names)).collect()
}

fn count(folder: &str, mut names: Vec<&str>) -> Vec<Violation> {
    names.sort_unstable();
    let mut found = Vec::new();
    for (expected, name) in (1_usize..).zip(names) {
        let number = name.split_once('_').map_or("", |(number, _)| number);
        if number != format!("{expected:04}") {
            let reason = format!("is number {expected} of its folder and should begin with `{expected:04}_`");
            found.push(Violation::whole(&format!("{folder}/{name}"), reason));
        }
    }
    found
}
