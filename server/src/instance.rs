//! The name of this instance: what it owns the accounts under, and what people see of it.
//!
//! It stays the same as long as its data folder does: an instance that was killed and started again is the same one, and
//! takes its accounts up at once instead of waiting until its own lease has run out. Nobody else may come with that name, so
//! a copy of the folder has another one: the name is drawn once and mixed with where the folder lives.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::auth::secrets::kept_secret;
use secrecy::ExposeSecret;

/// Characters of a name: enough for a few instances, short enough to be read out.
const NAME_CHARS: usize = 8;

/// The name of the instance on this folder.
pub fn name(data_dir: &Path) -> io::Result<String> {
    let drawn = kept_secret(&data_dir.join("instance"))?;
    let folder = std::fs::metadata(data_dir)?;
    let mut hash = Sha256::new();
    hash.update(drawn.expose_secret());
    hash.update(folder.dev().to_le_bytes());
    hash.update(folder.ino().to_le_bytes());
    hash.update(hostname());
    Ok(hash.finalize().iter().take(NAME_CHARS / 2).map(|byte| format!("{byte:02x}")).collect())
}

/// Two machines may have the same device and inode numbers.
fn hostname() -> Vec<u8> {
    std::fs::read("/proc/sys/kernel/hostname").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_its_name_and_a_copy_has_another() {
        let (first, copy) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let drawn = name(first.path()).expect("a name");
        assert_eq!(drawn.len(), NAME_CHARS);
        assert_eq!(name(first.path()).expect("the same name"), drawn);
        std::fs::copy(first.path().join("instance"), copy.path().join("instance")).expect("copied");
        assert_ne!(name(copy.path()).expect("a name"), drawn);
    }
}
