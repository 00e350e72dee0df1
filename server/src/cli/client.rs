//! A connection to a running engine: JSON over HTTP, with the engine's refusals as errors.
//!
//! Every wait has a bound, redirects are not followed (one would carry the token to somebody else), and an engine on this
//! machine is never asked through a proxy.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use nexus_config::{ClientConfig, Environ};
use reqwest::{Method, Url, header};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::BadUse;
use super::args::ClientArgs;
use super::problem::Problem;
use super::sign_in;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longer than the engine's own bound on an answer (10 s for decisions), so that its word is heard.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Items asked for at once when a whole list is wanted.
const PAGE_SIZE: u32 = 500;

/// A way to ask an engine.
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<SecretString>,
}

/// A body on its way to the engine.
pub(crate) enum Body<'a> {
    /// None at all.
    Empty,
    /// As a value.
    Json(&'a Value),
    /// As it was read from a file.
    Raw(Vec<u8>),
}

impl Client {
    /// Finds the engine; does not ask it anything yet.
    pub(crate) fn new(args: &ClientArgs, config: &ClientConfig) -> anyhow::Result<Self> {
        Self::with_timeout(args, config, ANSWER_TIMEOUT)
    }

    /// The same with another bound on each answer.
    pub(crate) fn with_timeout(args: &ClientArgs, config: &ClientConfig, within: Duration) -> anyhow::Result<Self> {
        let url = args.url.clone().unwrap_or_else(|| config.url());
        let base = parse_base(&url)?;
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(within))
            .timeout(within)
            .redirect(reqwest::redirect::Policy::none());
        if is_local(&base) {
            builder = builder.no_proxy();
        }
        if base.scheme() == "http" {
            // Without TLS no certificates are needed, and none have to be installed.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().context("cannot make an HTTP client")?;
        Ok(Self { http, base, token: None })
    }

    /// Finds the engine and signs in to it.
    pub(crate) async fn signed_in(args: &ClientArgs, environ: &Environ) -> anyhow::Result<Self> {
        let config = ClientConfig::read(environ)?;
        let mut client = Self::new(args, &config)?;
        client.token = Some(sign_in::token(&client, &config, environ).await?);
        Ok(client)
    }

    /// The same engine, spoken to with this token.
    #[must_use]
    pub(crate) fn with_token(mut self, token: SecretString) -> Self {
        self.token = Some(token);
        self
    }

    /// Whether the engine runs on this machine.
    pub(crate) fn is_local(&self) -> bool {
        is_local(&self.base)
    }

    /// Whether what is sent can be read on the way.
    pub(crate) fn is_readable_on_the_way(&self) -> bool {
        self.base.scheme() == "http" && !self.is_local()
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::GET, path, Body::Empty).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::POST, path, Body::Json(body)).await
    }

    /// Every item of a paged list; the path may bring a query of its own.
    pub(crate) async fn all(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let joint = if path.contains('?') { '&' } else { '?' };
        let mut query = format!("limit={PAGE_SIZE}");
        loop {
            let mut page = self.get(&format!("{path}{joint}{query}")).await?;
            let found = page["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
            let is_last = found.is_empty();
            items.extend(found);
            match page["next"].as_str() {
                Some(next) if !is_last => query = format!("limit={PAGE_SIZE}&after={}", encoded(next)),
                _ => return Ok(items),
            }
        }
    }

    /// Asks, and reads the answer; no content is null.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Body<'_>) -> anyhow::Result<Value> {
        let url = self.base.join(path).with_context(|| format!("{path} is not a path"))?;
        let mut request = self.http.request(method, url).header(header::ACCEPT, "application/json");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        request = match body {
            Body::Empty => request,
            Body::Json(value) => request.json(value),
            Body::Raw(bytes) => request.header(header::CONTENT_TYPE, "application/json").body(bytes),
        };
        let unreachable = || format!("no answer from {} (is the engine running there?)", self.base);
        let response = request.send().await.with_context(unreachable)?;
        let status = response.status();
        let header = response.headers().get(header::RETRY_AFTER);
        let retry_after = header.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let bytes = response.bytes().await.with_context(|| format!("{} broke off its answer", self.base))?;
        if !status.is_success() {
            return Err(Problem::read(status, retry_after, &bytes).into());
        }
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).with_context(|| format!("{} did not answer in JSON", self.base))
    }

    /// The id behind a name or an id, from the list of all things of this kind.
    pub(crate) async fn id_of(&self, kind: &str, name: &str) -> anyhow::Result<String> {
        let (path, key) = if kind == "user" { ("/api/v1/users", "username") } else { ("/api/v1/feeds", "name") };
        let items = self.all(path).await?;
        // A name may look like an id: the thing itself decides.
        let named = |key: &str| items.iter().find(|item| item[key] == json!(name));
        let found = named(key).or_else(|| named("id")).and_then(|item| item["id"].as_str());
        found.map(encoded).with_context(|| format!("there is no {kind} {name:?}"))
    }
}

fn parse_base(url: &str) -> anyhow::Result<Url> {
    let bad = |why: &str| BadUse(format!("--url {url:?} {why}; allowed: an address as in http://127.0.0.1:8000"));
    let mut base = Url::parse(url).map_err(|error| bad(&format!("cannot be read: {error}")))?;
    if !["http", "https"].contains(&base.scheme()) || base.host_str().is_none() {
        return Err(bad("is neither http nor https").into());
    }
    if !base.username().is_empty() || base.password().is_some() {
        return Err(bad("holds a password").into());
    }
    base.set_path("/");
    base.set_query(None);
    base.set_fragment(None);
    Ok(base)
}

fn is_local(base: &Url) -> bool {
    let host = base.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A text as it may stand in a path or a query.
fn encoded(text: &str) -> String {
    reqwest::Url::parse_with_params("http://h/", [("q", text)])
        .ok()
        .and_then(|url| Some(url.query()?.strip_prefix("q=")?.replace('+', "%20")))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_origin() {
        assert_eq!(parse_base("http://127.0.0.1:9/x?y#z").unwrap().as_str(), "http://127.0.0.1:9/");
        for wrong in ["127.0.0.1:8000", "ftp://h", "http://", "http://u:p@h", "unix:/x"] {
            assert!(parse_base(wrong).unwrap_err().is::<BadUse>(), "{wrong}");
        }
    }

    #[test]
    fn this_machine_is_known_by_its_names() {
        for (url, expected) in [
            ("http://127.0.0.1:1", true),
            ("http://127.9.9.9", true),
            ("http://localhost", true),
            ("http://[::1]:8000", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example", false),
        ] {
            assert_eq!(is_local(&parse_base(url).unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn a_cursor_travels_unharmed() {
        assert_eq!(encoded("a b+c/=&?"), "a%20b%2Bc%2F%3D%26%3F");
    }
}
