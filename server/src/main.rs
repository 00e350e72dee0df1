//! The binary `nexus`.

mod auth;
mod http;
mod wire;

fn main() {}
