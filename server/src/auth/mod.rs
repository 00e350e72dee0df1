//! Who is asking, and whether they are who they say.
//!
//! People sign in with a password and get a short-lived token that carries their role; feeds send an API key. Neither
//! needs the database on the way of an emergency stop: a token is judged by its signature and by the hot state alone.

pub mod cache;
pub mod feeds;
pub mod lockout;
pub mod passwords;
pub mod principal;
pub mod secrets;
pub mod tokens;
