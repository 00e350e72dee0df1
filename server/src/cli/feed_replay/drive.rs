//! The replay itself: a feed and its users made when absent, then bar after bar through the HTTP API.
//!
//! Everything is sent in order, and nothing before the answer to what came before. Whatever is interrupted is resumed by
//! repeating it: marks that are not newer are ignored, signals that were decided are answered as before. So an engine that
//! is killed is waited for and asked again, and a client that was killed begins at the beginning.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nexus_config::{ClientConfig, Environ};
use nexus_engine::units::Money;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::bars::Bars;
use super::breakout::Strategy;
use super::marks::{self, Quoting};
use crate::cli::args::ClientArgs;
use crate::cli::client::{Body, Client};
use crate::cli::problem::Problem;
use crate::cli::report::{RunFacts, RunUser};
use crate::cli::{output, secret};

/// How long an engine that does not answer is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// The wait before the first repetition; doubled each time …
const AGAIN_AFTER_MIN: Duration = Duration::from_millis(50);
/// … up to this.
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(2);
/// What the poorest user begins with, and the richest.
const EQUITY: (i64, i64) = (200, 5_000);

/// The engine, spoken to as admin and as a feed.
pub(super) struct Session<'a> {
    args: &'a ClientArgs,
    environ: &'a Environ,
    admin: Client,
    feed: Client,
    pub(super) feed_id: String,
    pub(super) users: Vec<RunUser>,
}

impl<'a> Session<'a> {
    /// Signs in, and makes the feed and its users when they are absent.
    pub(super) async fn open(
        args: &'a ClientArgs,
        environ: &'a Environ,
        feed: &str,
        symbol: &str,
        users: u32,
    ) -> anyhow::Result<Self> {
        let admin = Client::signed_in(args, environ).await?;
        let status = admin.get("/status").await?;
        if status["clock"] != json!("simulated") {
            bail!(
                "this engine trades by the wall clock, where old marks are nothing: start it with `nexus serve --sim-clock`"
            );
        }
        let (feed_id, key) = feed_of_name(&admin, feed, symbol).await?;
        let feed = Client::new(args, &ClientConfig::read(environ)?)?.with_token(key.into());
        let users = followers(&admin, &feed_id, users).await?;
        Ok(Self { args, environ, admin, feed, feed_id, users })
    }

    /// Pushes marks and waits until all that they cause is at rest.
    pub(super) async fn push_marks(&self, marks: &str) -> anyhow::Result<()> {
        self.patiently("/api/v1/marks", marks).await.map(drop)
    }

    /// Sends a signal and waits until every decision is durable.
    pub(super) async fn send_signal(&self, signal: &str) -> anyhow::Result<()> {
        loop {
            let answer = self.patiently("/api/v1/signals", signal).await?;
            if answer["pending"].is_null() {
                return Ok(());
            }
            tokio::time::sleep(AGAIN_AFTER_MIN).await;
        }
    }

    /// Asks until there is an answer, as long as another attempt can help.
    async fn patiently(&self, path: &str, body: &str) -> anyhow::Result<Value> {
        let (began, mut wait) = (Instant::now(), AGAIN_AFTER_MIN);
        loop {
            let error = match self.feed.send(Method::POST, path, Body::Raw(body.into())).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let least = match error.downcast_ref::<Problem>() {
                Some(problem) if problem.status == StatusCode::UNAUTHORIZED => {
                    return Err(error.context("the feed's key is no longer valid: does another client replay?"));
                }
                Some(problem) if !is_passing(problem.status) => return Err(error),
                Some(problem) => problem.retry_after().unwrap_or_default(),
                None => Duration::ZERO,
            };
            if began.elapsed() + wait.max(least) > PATIENCE {
                return Err(error.context(format!("given up after {} s", PATIENCE.as_secs())));
            }
            tokio::time::sleep(wait.max(least)).await;
            wait = (wait * 2).min(AGAIN_AFTER_MAX);
        }
    }

    /// A client that is signed in as admin now: a long run outlives its first token.
    pub(super) async fn admin_again(&mut self) -> anyhow::Result<&Client> {
        self.admin = Client::signed_in(self.args, self.environ).await?;
        Ok(&self.admin)
    }
}

/// Whether the same request may succeed a little later.
fn is_passing(status: StatusCode) -> bool {
    [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE, StatusCode::BAD_GATEWAY].contains(&status)
}

/// The feed's id and a key for it. The key of a feed that exists is not known to anybody: it is replaced.
async fn feed_of_name(admin: &Client, name: &str, symbol: &str) -> anyhow::Result<(String, String)> {
    let feeds = admin.all("/api/v1/feeds").await?;
    let found = feeds.iter().find(|feed| feed["name"] == json!(name)).and_then(|feed| feed["id"].as_str());
    let made = match found {
        Some(id) => {
            output::note(&format!("the feed {name} is there: its key is replaced"));
            admin.send(Method::POST, &format!("/api/v1/feeds/{id}/rotate-secret"), Body::Empty).await?
        }
        None => admin.post("/api/v1/feeds", &json!({"name": name, "symbols": [symbol]})).await?,
    };
    let text = |field: &str| made[field].as_str().map(str::to_owned).context("the engine shows no key of the feed");
    let id = found.map_or_else(|| text("id"), |id| Ok(id.to_owned()))?;
    Ok((id, text("api_key")?))
}

/// The users of the replay, made and subscribed where that is needed. Nobody signs in as them: their passwords are not kept.
async fn followers(admin: &Client, feed_id: &str, count: u32) -> anyhow::Result<Vec<RunUser>> {
    let known = admin.all("/api/v1/users").await?;
    let mut users = Vec::new();
    for n in 0..count {
        let username = format!("replay-{:02}", n + 1);
        let starting_equity = equity_of(n, count);
        let found = known.iter().find(|user| user["username"] == json!(username));
        let user = match found {
            Some(user) => user.clone(),
            None => {
                let body = json!({"username": username, "password": secret::make_password(), "role": "user",
                    "equity": starting_equity.to_string(), "currency": "USD"});
                admin.post("/api/v1/users", &body).await?
            }
        };
        let id = user["id"].as_str().context("the engine shows no id of a user")?.to_owned();
        let path = format!("/api/v1/feeds/{feed_id}/subscribers/{id}");
        admin.send(Method::PUT, &path, Body::Json(&json!({}))).await?;
        users.push(RunUser { id, username, starting_equity });
    }
    Ok(users)
}

/// What user `n` of `count` begins with: evenly from the poorest to the richest, in cents.
fn equity_of(n: u32, count: u32) -> Money {
    let (from, to) = (Money::whole(EQUITY.0), Money::whole(EQUITY.1));
    let cent = Money::whole(1).steps() / 100;
    let steps = to.minus(from).steps() / i64::from(count.saturating_sub(1).max(1)) * i64::from(n);
    Money::from_steps(from.steps() + steps / cent * cent)
}

/// What is replayed, and how.
pub(super) struct Replay<'a> {
    pub(super) source: String,
    pub(super) bars: &'a Bars,
    pub(super) quoting: &'a Quoting,
    /// Bars a second; none for as fast as it goes.
    pub(super) speed: Option<f64>,
    /// Whether somebody may be looking.
    pub(super) progress: bool,
}

/// Sends every bar and every signal that it gives.
pub(super) async fn run(session: &Session<'_>, replay: &Replay<'_>) -> anyhow::Result<RunFacts> {
    let Bars { bars, spacing } = replay.bars;
    let symbol = replay.quoting.symbol.as_str();
    let mut strategy = Strategy::new(replay.quoting, *spacing);
    let mut facts = RunFacts {
        source: replay.source.clone(),
        symbol: symbol.to_owned(),
        feed_id: session.feed_id.clone(),
        users: session.users.clone(),
        bars: bars.len(),
        marks: 0,
        signals: 0,
        first: None,
        last: None,
        elapsed: Duration::ZERO,
    };
    let progress = progress_bar(bars.len(), replay.progress);
    let began = Instant::now();
    for (n, bar) in (0_u32..).zip(bars) {
        if let Some(due) = due(replay.speed, n) {
            tokio::time::sleep_until((began + due).into()).await;
        }
        let marks = replay.quoting.marks(bar, *spacing);
        session
            .push_marks(&marks::to_json(&marks).to_string())
            .await
            .with_context(|| format!("the bar of line {}", bar.line))?;
        facts.marks += marks.len() as u64;
        facts.first = facts.first.or(Some(marks[0].at));
        facts.last = Some(marks[3].at);
        for signal in strategy.close(bar) {
            let signal = signal.to_json(symbol).to_string();
            session.send_signal(&signal).await.with_context(|| format!("the bar of line {}", bar.line))?;
            facts.signals += 1;
        }
        progress.set_message(format!("{} signals", facts.signals));
        progress.inc(1);
    }
    progress.finish_and_clear();
    facts.elapsed = began.elapsed();
    Ok(facts)
}

/// When bar `n` is due at this speed, by a schedule: a bar that took long does not delay all others.
fn due(bars_per_second: Option<f64>, n: u32) -> Option<Duration> {
    bars_per_second.map(|speed| Duration::from_secs_f64(f64::from(n) / speed))
}

fn progress_bar(bars: usize, is_wanted: bool) -> ProgressBar {
    // Drawn on stderr, and only when that is a terminal.
    let target = if is_wanted { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let progress = ProgressBar::with_draw_target(Some(bars as u64), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos}/{len} bars  {per_sec}  {msg}  {eta} left") {
        progress.set_style(style);
    }
    progress
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equity_is_spread_evenly() {
        let all: Vec<String> = (0..10).map(|n| equity_of(n, 10).to_string()).collect();
        assert_eq!((all[0].as_str(), all[1].as_str(), all[9].as_str()), ("200.00", "733.33", "4999.99"));
        assert_eq!(equity_of(0, 1).to_string(), "200.00");
        assert_eq!(equity_of(1, 2).to_string(), "5000.00");
    }

    #[test]
    fn bars_are_due_by_a_schedule() {
        assert_eq!(due(Some(50.0), 100), Some(Duration::from_secs(2)));
        assert_eq!(due(None, 100), None);
    }

    #[test]
    fn what_may_pass_is_asked_again() {
        for (status, expected) in [(503, true), (429, true), (409, false), (422, false), (403, false)] {
            assert_eq!(is_passing(StatusCode::from_u16(status).expect("a status")), expected, "{status}");
        }
    }
}
