//! `nexus demo`: the main job on real data in one go.
//!
//! An engine on a temporary data folder and a simulated clock, the bundled bars replayed through its HTTP API by the same
//! client that a person would use, the closing report. Then it goes on serving, for whoever wants to look around. Of the
//! environment it takes where to listen and how much to log, and nothing else: it must look the same everywhere.

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use nexus_config::{Config, Environ};
use secrecy::ExposeSecret;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use super::args::ClientArgs;
use super::feed_replay::{self, HowArgs, MarketArgs};
use super::{SHUTDOWN_MAX, logging, output};
use crate::compose::{self, Options, Running};

/// 5,000 real hourly bars of EUR/USD, as packaged with the PyPI project `backtesting`.
const BARS: &[u8] = include_bytes!("../../../benches/data/eurusd-1h.csv");
/// How the bars are called in the report.
const BARS_NAME: &str = "benches/data/eurusd-1h.csv";

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    how: HowArgs,
    /// Print one JSON object instead of text for people
    #[arg(long)]
    json: bool,
    /// End after the report instead of serving on
    #[arg(long)]
    exit: bool,
}

/// Carries out `nexus demo`.
pub(crate) fn run(args: &DemoArgs, environ: &Environ) -> anyhow::Result<ExitCode> {
    let data = tempfile::Builder::new().prefix("nexus-demo-").tempdir().context("a temporary data folder")?;
    let settings = settings(&data, environ)?;
    let config = Config::read(&settings)?;
    logging::start(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let shown = runtime.block_on(demonstrate(args, &config, &settings));
    // A blocking call that hangs must not keep the process from ending.
    runtime.shutdown_timeout(SHUTDOWN_MAX);
    shown
}

/// The settings of the demonstration's engine and of its client.
fn settings(data: &TempDir, environ: &Environ) -> anyhow::Result<Environ> {
    let folder = data.path().to_str().context("the temporary folder's name is not UTF-8")?;
    let port = environ.get("API_PORT").map_or_else(usual_port, str::to_owned);
    let taken = |name: &'static str, default: &'static str| (name, environ.get(name).unwrap_or(default).to_owned());
    Ok([
        ("NEXUS_DATA_DIR", folder.to_owned()),
        ("API_PORT", port),
        taken("API_HOST", "127.0.0.1"),
        taken("LOG_LEVEL", "warn"),
        // Nobody signs in as the users of the demonstration: their passwords are made up and forgotten.
        ("BCRYPT_ROUNDS", "4".to_owned()),
    ]
    .into_iter()
    .collect())
}

/// The usual port, or any other when that is taken: an engine may be running already.
fn usual_port() -> String {
    let is_free = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 8000))).is_ok();
    if is_free { "8000" } else { "0" }.to_owned()
}

async fn demonstrate(args: &DemoArgs, config: &Config, settings: &Environ) -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be waited for")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be waited for")?;
    let options = Options { sim_clock: true, probe: None };
    let running = compose::start(config, options).await?;
    let shown = tokio::select! {
        shown = replay_and_serve(args, &running, settings) => shown,
        _ = interrupt.recv() => Ok(ExitCode::SUCCESS),
        _ = terminate.recv() => Ok(ExitCode::SUCCESS),
    };
    running.stop().await?;
    shown
}

async fn replay_and_serve(args: &DemoArgs, running: &Running, settings: &Environ) -> anyhow::Result<ExitCode> {
    let url = format!("http://{}", running.addr);
    output::note(&format!("an engine on a simulated clock serves at {url} and keeps nothing; replaying {BARS_NAME}"));
    let client = ClientArgs { url: Some(url.clone()), json: args.json };
    let market = MarketArgs::usual();
    let report = feed_replay::replay_bars(&client, settings, &args.how, &market, BARS_NAME, BARS).await?;
    let code = feed_replay::show(&client, &args.how, &report)?;
    if args.exit || code != ExitCode::SUCCESS {
        return Ok(code);
    }
    let password = running.first_password.as_ref().map(ExposeSecret::expose_secret).unwrap_or_default();
    output::note(&format!("look around at {url}/docs as admin with the password {password}; ctrl-C ends it"));
    std::future::pending().await
}
