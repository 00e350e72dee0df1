//! A feed and its administrator as they would behave against a server that may die at any moment.
//!
//! They repeat what was not answered, under the same ids, until it is: the guarantee under test is that such repeating
//! is safe, so the test does nothing cleverer than that.

use std::sync::LazyLock;
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

/// The example password of the first administrator.
pub const ADMIN_PASSWORD: &str = "Example-Admin-1!";

/// What one request came to.
pub enum Reply {
    /// The server answered.
    Answered(StatusCode, Value),
    /// It was not there, or died before it answered.
    Gone,
}

/// A connection to one running engine.
pub struct Api {
    http: Client,
    url: String,
}

impl Api {
    pub fn new(url: &str) -> Api {
        // Making a client reads the machine's certificates, which takes longer than all that this test does with it.
        static HTTP: LazyLock<Client> = LazyLock::new(|| {
            Client::builder().timeout(Duration::from_secs(20)).pool_max_idle_per_host(0).build().unwrap()
        });
        Api { http: HTTP.clone(), url: url.to_owned() }
    }

    pub async fn call(&self, method: Method, path: &str, token: Option<&str>, body: Option<&Value>) -> Reply {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let Ok(response) = request.send().await else { return Reply::Gone };
        let status = response.status();
        match response.bytes().await {
            Ok(bytes) if bytes.is_empty() => Reply::Answered(status, Value::Null),
            Ok(bytes) => Reply::Answered(status, serde_json::from_slice(&bytes).unwrap()),
            Err(_) => Reply::Gone,
        }
    }

    /// A call that has to succeed on a living engine.
    pub async fn must(&self, method: Method, path: &str, token: &str, body: Option<&Value>) -> Value {
        match self.call(method, path, Some(token), body).await {
            Reply::Answered(status, value) if status.is_success() => value,
            Reply::Answered(status, value) => panic!("{path}: {status} {value}"),
            Reply::Gone => panic!("{path}: no answer"),
        }
    }

    pub async fn login(&self) -> Option<String> {
        let body = json!({"username": "admin", "password": ADMIN_PASSWORD});
        match self.call(Method::POST, "/api/v1/auth/login", None, Some(&body)).await {
            Reply::Answered(StatusCode::OK, value) => Some(value["access_token"].as_str().unwrap().to_owned()),
            Reply::Answered(status, value) => panic!("login: {status} {value}"),
            Reply::Gone => None,
        }
    }
}

/// Now, as the API writes it.
pub fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let days = i32::try_from(since.as_secs() / 86_400).unwrap();
    let second = since.as_secs() % 86_400;
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{}T{hour:02}:{minute:02}:{:02}.{:06}Z", nexus_engine::ids::Day(days), second % 60, since.subsec_micros())
}
