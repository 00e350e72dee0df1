//! The fast projection, one file a place.
//!
//! It is never the only memory (promise P8): whatever is lost here is read again from the ledger, and whatever is old
//! here is refused there by its version.

mod keys;
mod kept;
pub mod memory;
pub mod redis;

pub use keys::{KEYS, KeyKind};
