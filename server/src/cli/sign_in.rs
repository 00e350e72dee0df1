//! How a command proves who it is: a token, else the admin's password, else the one that a development engine left.
//!
//! The generated password of a development engine is used for an engine on this machine only: it would be of no use
//! elsewhere, and elsewhere has no business reading it.

use anyhow::Context;
use nexus_config::{ClientConfig, Environ};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::client::Client;
use super::output;

/// Where a development engine leaves the password that it made up, in its data folder.
const PASSWORD_FILE: &str = "admin-password";

/// A token for this engine.
pub(crate) async fn token(client: &Client, config: &ClientConfig, environ: &Environ) -> anyhow::Result<SecretString> {
    if client.is_readable_on_the_way() {
        output::note("warning: what is sent to this address can be read on the way; use https or a tunnel");
    }
    if let Some(token) = environ.get("NEXUS_TOKEN").filter(|token| !token.is_empty()) {
        return Ok(token.into());
    }
    let password = match &config.admin_password {
        Some(password) => password.clone(),
        None => left_by_the_engine(client, config)?,
    };
    let body = json!({"username": "admin", "password": password.expose_secret()});
    let answer = client.post("/api/v1/auth/login", &body).await.context("cannot sign in as admin")?;
    answer["access_token"].as_str().map(SecretString::from).context("the engine's answer to the login has no token")
}

fn left_by_the_engine(client: &Client, config: &ClientConfig) -> anyhow::Result<SecretString> {
    const HOW: &str = "cannot sign in: set NEXUS_TOKEN, or ADMIN_PASSWORD (or ADMIN_PASSWORD_FILE)";
    anyhow::ensure!(!config.environment.is_production() && client.is_local(), HOW);
    let path = config.data_dir.join(PASSWORD_FILE);
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("{HOW}; and {} cannot be read", path.display()))?;
    Ok(text.trim_end_matches(['\r', '\n']).into())
}
