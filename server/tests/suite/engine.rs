//! An engine in a process of its own, on a free port and a temporary data folder, and a way to speak to it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The longest that anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// A password that the rules take.
pub const PASSWORD: &str = "Tr1cky-enough";

/// A running engine.
pub struct Engine {
    process: Child,
    /// Where it can be reached.
    pub base: String,
    /// Speaks to it.
    pub client: Client,
    data: TempDir,
}

impl Engine {
    /// Starts one on an empty folder.
    pub fn start() -> Self {
        Self::start_on(tempfile::tempdir().expect("a folder"), &[])
    }

    /// Starts one on this folder, with these settings beside the usual ones.
    pub fn start_on(data: TempDir, settings: &[(&str, &str)]) -> Self {
        let command = command(data.path(), settings);
        Self::launch(command, data)
    }

    /// Starts one on this folder whose time is that of its marks.
    pub fn simulated_on(data: TempDir, settings: &[(&str, &str)]) -> Self {
        let mut command = command(data.path(), settings);
        command.arg("--sim-clock");
        Self::launch(command, data)
    }

    fn launch(mut command: Command, data: TempDir) -> Self {
        let mut process = command.spawn().expect("started");
        let mut stdout = BufReader::new(process.stdout.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("read");
        let base = line.trim().strip_prefix("listening on ").map(str::to_owned);
        let base = base.unwrap_or_else(|| panic!("it did not start: {}", log(data.path())));
        Self { process, base, client: client(), data }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        log(self.data.path())
    }

    /// Where its files are.
    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// Sends SIGTERM, and waits for the end.
    pub fn terminate(self) -> (ExitStatus, TempDir) {
        self.signal("-TERM");
        self.wait()
    }

    /// Kills it, and gives its folder back.
    pub fn kill(mut self) -> TempDir {
        self.process.kill().expect("killed");
        self.wait().1
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.process.id().to_string()]).status().expect("kill runs");
        assert!(status.success());
    }

    /// Waits for its end.
    pub fn wait(mut self) -> (ExitStatus, TempDir) {
        let began = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("a child") {
                let data = std::mem::replace(&mut self.data, tempfile::tempdir().expect("a folder"));
                return (status, data);
            }
            assert!(began.elapsed() < PATIENCE, "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The password of the first admin.
    pub fn admin_password(&self) -> String {
        fs::read_to_string(self.data_dir().join("admin-password")).expect("kept").trim().to_owned()
    }

    /// Signs somebody in.
    pub async fn login(&self, username: &str, password: &str) -> String {
        let body = json!({"username": username, "password": password});
        let answer = self.call(Method::POST, "/api/v1/auth/login", None, Some(&body)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body["access_token"].as_str().expect("a token").to_owned()
    }

    /// Signs the admin in.
    pub async fn admin(&self) -> String {
        self.login("admin", &self.admin_password()).await
    }

    /// Sends a request and reads the whole answer.
    pub async fn call(&self, method: Method, path: &str, bearer: Option<&str>, body: Option<&Value>) -> Answer {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(bearer) = bearer {
            request = request.bearer_auth(bearer);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        Answer::of(request.send().await.expect("answered")).await
    }

    /// `GET` as somebody.
    pub async fn get(&self, path: &str, bearer: &str) -> Answer {
        self.call(Method::GET, path, Some(bearer), None).await
    }

    /// `POST` as somebody.
    pub async fn post(&self, path: &str, bearer: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, Some(bearer), Some(body)).await
    }

    /// `POST` of a text as somebody.
    pub async fn post_raw(&self, path: &str, bearer: &str, media_type: &str, body: impl Into<reqwest::Body>) -> Answer {
        let request = self.client.post(format!("{}{path}", self.base)).bearer_auth(bearer);
        Answer::of(request.header("content-type", media_type).body(body).send().await.expect("answered")).await
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The command that starts an engine on a folder; its log goes to a file there.
pub fn command(data: &Path, settings: &[(&str, &str)]) -> Command {
    fs::create_dir_all(data).expect("a folder");
    let log = fs::File::options().create(true).append(true).open(data.join("test.log")).expect("a log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_nexus"));
    command
        .arg("serve")
        .env_clear()
        .env("NEXUS_DATA_DIR", data)
        .env("API_PORT", "0")
        .env("BCRYPT_ROUNDS", "4")
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    command
}

/// What an engine on this folder has logged.
pub fn log(data: &Path) -> String {
    fs::read_to_string(data.join("test.log")).unwrap_or_default()
}

fn client() -> Client {
    Client::builder().timeout(PATIENCE).no_proxy().tls_certs_only([]).build().expect("a client")
}

/// An answer, read whole.
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body as JSON; null when it is none.
    pub body: Value,
    /// The body as text.
    pub text: String,
}

impl Answer {
    /// Reads an answer.
    pub async fn of(response: Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.expect("a body");
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { status, headers, body, text }
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("ascii"))
    }

    /// Checks that this is a problem of the form that all problems have.
    pub fn check_problem(&self) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{} {}", self.status, self.text);
        assert_eq!(self.body["status"], self.status.as_u16());
        for field in ["type", "title", "detail"] {
            assert!(self.body[field].is_string(), "{}", self.text);
        }
        assert_eq!(self.headers.contains_key("www-authenticate"), self.status == 401, "{}", self.text);
    }
}

/// An engine with two users and two feeds; the first user follows the first feed, and EURUSD has a fresh mark.
pub struct World {
    /// The engine.
    pub engine: Engine,
    /// The admin's token.
    pub admin: String,
    /// The first user.
    pub ann: Member,
    /// The second user.
    pub bob: Member,
    /// The key of the feed that ann follows.
    pub feed: String,
    /// The key of the feed that nobody follows.
    pub other_feed: String,
}

/// A user who is signed in.
pub struct Member {
    /// The id.
    pub id: String,
    /// The token.
    pub token: String,
}

impl World {
    /// Makes one.
    pub async fn new() -> Self {
        Self::on(Engine::start()).await
    }

    /// Makes one of an empty engine.
    pub async fn on(engine: Engine) -> Self {
        let admin = engine.admin().await;
        let ann = member(&engine, &admin, "ann").await;
        let bob = member(&engine, &admin, "bob").await;
        let feed = feed(&engine, &admin, "breakout").await;
        let other_feed = self::feed(&engine, &admin, "other").await;
        let subscription = format!("/api/v1/feeds/breakout/subscribers/{}", ann.id);
        let answer = engine.call(Method::PUT, &subscription, Some(&admin), Some(&json!({}))).await;
        assert_eq!(answer.status, 204);
        let world = Self { engine, admin, ann, bob, feed, other_feed };
        world.push_mark("EURUSD", "1.08495", "1.08505").await;
        world
    }

    /// Pushes a mark of EURUSD that was seen at this time.
    pub async fn push_mark_at(&self, bid: &str, ask: &str, at: &str) -> Answer {
        let mark = json!([{"symbol": "EURUSD", "bid": bid, "ask": ask, "at": at}]);
        self.engine.post("/api/v1/marks", &self.feed, &mark).await
    }

    /// Pushes a mark that was seen now.
    pub async fn push_mark(&self, symbol: &str, bid: &str, ask: &str) {
        let mark = json!([{"symbol": symbol, "bid": bid, "ask": ask, "at": jiff::Timestamp::now().to_string()}]);
        let answer = self.engine.post("/api/v1/marks", &self.feed, &mark).await;
        assert_eq!((answer.status.as_u16(), &answer.body["accepted"]), (200, &json!(1)), "{}", answer.text);
    }

    /// What must not change when a request is refused: everything that a user sees, and who there is.
    pub async fn state(&self) -> Vec<Value> {
        let mut state = Vec::new();
        let user = format!("/api/v1/users/{}", self.ann.id);
        let parts = ["risk-status", "decisions", "orders", "positions", "fills"];
        let paths = parts.iter().map(|part| format!("{user}/{part}"));
        for path in paths.chain(["/api/v1/users".to_owned(), "/api/v1/feeds".to_owned(), "/health".to_owned()]) {
            state.push(self.engine.get(&path, &self.admin).await.body);
        }
        state
    }
}

pub async fn member(engine: &Engine, admin: &str, username: &str) -> Member {
    let body = json!({
        "username": username, "password": PASSWORD, "role": "user", "equity": "500.00", "currency": "USD"
    });
    let answer = engine.post("/api/v1/users", admin, &body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let id = answer.body["id"].as_str().expect("an id").to_owned();
    Member { id, token: engine.login(username, PASSWORD).await }
}

pub async fn feed(engine: &Engine, admin: &str, name: &str) -> String {
    let answer = engine.post("/api/v1/feeds", admin, &json!({"name": name})).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.body["api_key"].as_str().expect("a key").to_owned()
}

/// A signal that the engine accepts.
pub fn signal(id: &str) -> Value {
    json!({
        "id": id, "symbol": "EURUSD", "side": "buy", "timeframe": "3H", "entry_price": "1.08500",
        "stop_loss": "1.08300", "take_profit": "1.08900"
    })
}

/// Asks again until `is_so`, or fails.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
