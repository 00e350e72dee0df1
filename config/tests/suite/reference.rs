//! The written reference is the generated one. `UPDATE_REFERENCE=1 cargo test -p nexus-config` writes it anew.

use std::path::Path;

#[test]
fn the_reference_is_in_step_with_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/CONFIGURATION.md");
    let generated = nexus_config::reference();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == generated, "docs/CONFIGURATION.md is out of date: run this test with UPDATE_REFERENCE=1");
}
