//! The actors carry. Placeholder.

pub mod ports;
pub mod engine;
