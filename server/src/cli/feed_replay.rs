//! `nexus feed replay`: bars of the past become a live feed, and a report at the end.
//!
//! A client of the HTTP API like any other: `bars` reads a file and believes it only whole, `marks` and `breakout` make of
//! it what a market and a strategy would have shown, `drive` sends that; `stdin` sends a feed of one's own instead. What
//! the engine made of it is told by `report`.

mod bars;
mod breakout;
mod drive;
mod marks;
mod stdin;

use std::io::{self, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use nexus_config::Environ;
use nexus_engine::ids::Symbol;
use nexus_engine::units::Price;

use super::args::ClientArgs;
use super::report::{self, Report, RunFacts};
use super::{BadUse, output, secret};
use drive::{Replay, Session};
use marks::Quoting;

/// The step of prices that marks are pushed in.
const TICK: &str = "0.00001";
/// What the bars are of when nothing is said.
const SYMBOL: &str = "EURUSD";
/// The distance between bid and ask when nothing is said: one pip.
const SPREAD: &str = "0.00010";
/// What the feed is called when nothing is said.
const FEED: &str = "replay";

#[derive(Clone, Debug, Args)]
pub(crate) struct ReplayArgs {
    /// Bars as CSV with the columns time, open, high, low, close, or - for stdin
    #[arg(value_name = "FILE", required_unless_present = "from_stdin", conflicts_with = "from_stdin")]
    file: Option<PathBuf>,
    /// Send marks and signals from stdin instead, one JSON object a line, in the order of their times
    #[arg(long)]
    from_stdin: bool,
    #[command(flatten)]
    how: HowArgs,
    #[command(flatten)]
    market: MarketArgs,
}

/// How bars are replayed.
#[derive(Clone, Debug, Args)]
pub(crate) struct HowArgs {
    /// How many users follow the feed, with equity from 200 to 5,000
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    users: u32,
    /// Bars a second, or max
    #[arg(long, default_value = "max", value_parser = parse_speed, value_name = "N|max")]
    speed: Speed,
    /// Write the report as a page that needs nothing else, too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// What the bars are of, and who sends them.
#[derive(Clone, Debug, Args)]
pub(crate) struct MarketArgs {
    /// What the bars are of
    #[arg(long, default_value = SYMBOL)]
    symbol: Symbol,
    /// The distance between bid and ask
    #[arg(long, default_value = SPREAD, value_name = "PRICE")]
    spread: Price,
    /// The name of the feed
    #[arg(long, default_value = FEED, value_name = "NAME")]
    feed: String,
}

impl MarketArgs {
    /// What holds when nothing is said.
    pub(crate) fn usual() -> Self {
        let said = "the default is one that the command line would take";
        Self { symbol: SYMBOL.parse().expect(said), spread: SPREAD.parse().expect(said), feed: FEED.to_owned() }
    }
}

/// Bars a second; none for as fast as it goes.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Speed(Option<f64>);

fn parse_speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed(None));
    }
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed >= 0.001 => Ok(Speed(Some(speed))),
        _ => Err("is neither max nor a number of bars a second".to_owned()),
    }
}

/// Carries out `nexus feed replay`.
pub(crate) async fn run(args: &ClientArgs, replay: &ReplayArgs, environ: &Environ) -> anyhow::Result<ExitCode> {
    match &replay.file {
        Some(path) => {
            let (name, input) = open(path)?;
            let report = replay_bars(args, environ, &replay.how, &replay.market, &name, input).await?;
            show(args, &replay.how, &report)
        }
        None => {
            let (how, market) = (&replay.how, &replay.market);
            let mut session = Session::open(args, environ, &market.feed, market.symbol.as_str(), how.users).await?;
            let facts = stdin::run(&session, market.symbol.as_str(), &mut io::stdin().lock()).await?;
            show(args, how, &gather(&mut session, &facts).await?)
        }
    }
}

/// Replays the bars that `input` holds and computes the report. Nothing is sent before all of them are read and good.
pub(crate) async fn replay_bars(
    args: &ClientArgs,
    environ: &Environ,
    how: &HowArgs,
    market: &MarketArgs,
    name: &str,
    input: impl io::BufRead,
) -> anyhow::Result<Report> {
    let tick = TICK.parse().map_err(|error| anyhow::anyhow!("the tick {TICK}: {error}"))?;
    let quoting = Quoting::new(market.symbol.clone(), market.spread, tick)?;
    let bars = bars::read(input, name, &quoting)?;
    let mut session = Session::open(args, environ, &market.feed, market.symbol.as_str(), how.users).await?;
    let progress = io::stderr().is_terminal();
    let replay = Replay { source: name.to_owned(), bars: &bars, quoting: &quoting, speed: how.speed.0, progress };
    let facts = drive::run(&session, &replay).await?;
    gather(&mut session, &facts).await
}

async fn gather(session: &mut Session<'_>, facts: &RunFacts) -> anyhow::Result<Report> {
    report::gather(session.admin_again().await?, facts).await
}

/// Prints the report, and writes its page where that is wanted. What does not add up is a failure.
pub(crate) fn show(args: &ClientArgs, how: &HowArgs, report: &Report) -> anyhow::Result<ExitCode> {
    if let Some(path) = &how.html {
        std::fs::write(path, report.to_html()).with_context(|| format!("cannot write {}", path.display()))?;
        output::note(&format!("the report is in {}", path.display()));
    }
    if args.json {
        output::json(&report.to_json())?;
    } else {
        output::text(&report.in_words())?;
    }
    Ok(if report.is_consistent() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn open(path: &Path) -> anyhow::Result<(String, Box<dyn io::BufRead>)> {
    let name = secret::input_name(path);
    if path == Path::new("-") {
        return Ok((name, Box::new(BufReader::new(io::stdin()))));
    }
    let file = std::fs::File::open(path).map_err(|error| BadUse(format!("{name} cannot be read: {error}")))?;
    Ok((name, Box::new(BufReader::new(file))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_max_or_bars_a_second() {
        assert_eq!(parse_speed("max"), Ok(Speed(None)));
        assert_eq!(parse_speed("50"), Ok(Speed(Some(50.0))));
        for wrong in ["", "0", "-1", "fast", "inf", "NaN"] {
            assert!(parse_speed(wrong).is_err(), "{wrong}");
        }
    }
}
