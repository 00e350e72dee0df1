//! One's own feed from stdin: lines of JSON, each a mark or a signal, sent in the order in which they come.
//!
//! A line with a `bid` is a mark, one with a `stop_loss` a signal. Nothing is made of them here: what the engine refuses
//! is named by the number of its line, and nothing after it is sent.

use std::io::BufRead;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::drive::Session;
use crate::cli::report::RunFacts;
use crate::wire::time;

/// The longest line, in bytes: the engine takes no longer body either.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// Sends everything that `input` holds.
pub(super) async fn run(session: &Session<'_>, symbol: &str, input: &mut impl BufRead) -> anyhow::Result<RunFacts> {
    let mut facts = RunFacts {
        source: "stdin".to_owned(),
        symbol: symbol.to_owned(),
        feed_id: session.feed_id.clone(),
        users: session.users.clone(),
        bars: 0,
        marks: 0,
        signals: 0,
        first: None,
        last: None,
        elapsed: Duration::ZERO,
    };
    let began = Instant::now();
    for number in 1_u64.. {
        let mut line = Vec::new();
        let read = std::io::Read::take(&mut *input, LINE_BYTES_MAX).read_until(b'\n', &mut line);
        if read.context("cannot read stdin")? == 0 {
            break;
        }
        if !line.trim_ascii().is_empty() {
            send(session, &line, &mut facts).await.with_context(|| format!("line {number}"))?;
        }
    }
    facts.elapsed = began.elapsed();
    Ok(facts)
}

/// A line, as far as it must be known to be sent where it belongs.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    bid: Option<&'a RawValue>,
    #[serde(borrow)]
    stop_loss: Option<&'a RawValue>,
    at: Option<String>,
}

async fn send(session: &Session<'_>, line: &[u8], facts: &mut RunFacts) -> anyhow::Result<()> {
    let text = std::str::from_utf8(line).context("is not UTF-8")?.trim();
    let kind: Line<'_> = serde_json::from_str(text).context("is neither a mark nor a signal")?;
    if kind.bid.is_some() {
        session.push_marks(&format!("[{text}]")).await?;
        let at = kind.at.as_deref().and_then(|at| time::parse(at).ok());
        facts.marks += 1;
        facts.first = facts.first.or(at);
        facts.last = at.or(facts.last);
        return Ok(());
    }
    anyhow::ensure!(kind.stop_loss.is_some(), "is neither a mark (with a bid) nor a signal (with a stop_loss)");
    session.send_signal(text).await?;
    facts.signals += 1;
    Ok(())
}
