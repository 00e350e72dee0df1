//! The wire: what Nexus reads and writes as JSON, and nothing else.
//!
//! A request body is decoded once into one of these types. What is malformed (not JSON, a wrong type, an unknown or
//! repeated field) is refused as a whole; what is well-formed but wrong in a field is refused with the field's name.
//! Numbers keep their digits as typed until the engine has taken them exactly: none passes through floating point.
//! Bodies that are sent hold texts, formatted by the engine's own `Display`.

pub mod account;
pub mod admin;
pub mod decimal;
pub mod feeds;
pub mod fields;
pub mod health;
pub mod json;
pub mod limits;
pub mod lists;
pub mod login;
pub mod marks;
pub mod objects;
pub mod signals;
pub mod time;
pub mod users;
pub mod what_if;
