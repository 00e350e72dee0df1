//! `nexus feed marks`: prices by hand, as a feed would push them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use nexus_config::{ClientConfig, Environ};
use reqwest::Method;
use serde_json::json;
use serde_json::value::RawValue;

use super::args::ClientArgs;
use super::client::{Body, Client};
use super::output::{self, field};
use super::{BadUse, secret};
use crate::clock::wall_now;
use crate::wire::time;

#[derive(Debug, Args)]
pub(crate) struct MarksArgs {
    /// The feed's key
    #[arg(long, env = "NEXUS_FEED_KEY", hide_env_values = true, value_name = "KEY")]
    api_key: Option<String>,
    /// An array of marks as JSON, or one mark a line, or - for stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["symbol", "bid", "ask", "at"])]
    file: Option<PathBuf>,
    /// Whose market, as in EURUSD
    #[arg(long, required_unless_present = "file")]
    symbol: Option<String>,
    /// What a seller gets
    #[arg(long, required_unless_present = "file", value_name = "PRICE")]
    bid: Option<String>,
    /// What a buyer pays
    #[arg(long, required_unless_present = "file", value_name = "PRICE")]
    ask: Option<String>,
    /// When that was seen, as in 2026-11-24T02:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

/// Carries out `nexus feed marks`.
pub(crate) async fn run(args: &ClientArgs, push: &MarksArgs, environ: &Environ) -> anyhow::Result<ExitCode> {
    let key = push.api_key.as_deref().filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| BadUse("a feed's key is needed: --api-key or NEXUS_FEED_KEY".into()))?;
    let marks: Vec<u8> = match &push.file {
        Some(path) => parse(&secret::read_input(path)?, &secret::input_name(path))?,
        None => {
            let at = push.at.clone().unwrap_or_else(|| time::format(wall_now()));
            json!([{"symbol": push.symbol, "bid": push.bid, "ask": push.ask, "at": at}]).to_string().into_bytes()
        }
    };
    let client = Client::new(args, &ClientConfig::read(environ)?)?.with_token(key.into());
    let answer = client.send(Method::POST, "/api/v1/marks", Body::Raw(marks)).await?;
    if args.json {
        output::json(&answer)?;
    } else {
        let lines = ["accepted", "ignored", "unconfirmed"].map(|name| (name, field(&answer, name)));
        output::text(&output::pairs(&lines))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// An array, or objects one after the other, as one array. Numbers keep the digits that were typed.
fn parse(bytes: &[u8], name: &str) -> anyhow::Result<Vec<u8>> {
    let bad = |error: serde_json::Error| BadUse(format!("{name} is not JSON: {error}"));
    let mut marks = Vec::new();
    for value in serde_json::Deserializer::from_slice(bytes).into_iter::<&RawValue>() {
        match value.map_err(bad)?.get() {
            list if list.starts_with('[') => {
                marks.extend(serde_json::from_str::<Vec<&RawValue>>(list).map_err(bad)?.iter().map(|mark| mark.get()))
            }
            mark => marks.push(mark),
        }
    }
    Ok(format!("[{}]", marks.join(",")).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_and_lines_are_the_same() {
        let lines = parse(b"{\"bid\":1.10}\n{\"bid\":\"2\"}\n", "x").expect("lines");
        assert_eq!(lines, parse(b"[{\"bid\":1.10},{\"bid\":\"2\"}]", "x").expect("an array"));
        assert!(parse(b"{", "x").unwrap_err().is::<BadUse>());
    }
}
