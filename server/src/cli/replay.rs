//! `nexus replay`: every user's history decided again from the ledger, and compared with what the ledger holds.
//!
//! A local command: it reads the ledger that the settings name and needs no engine, nor does it mind one. It says the first
//! difference of each user; a ledger that nobody has touched has none.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nexus_config::{Config, Database, Environ};
use nexus_engine::ids::UserId;
use nexus_store::{Difference, SqliteReplay};
use serde_json::{Value, json};

use super::output;

/// The longest value of a difference that is shown to a person, in characters.
const VALUE_CHARS_SHOWN_MAX: usize = 200;

#[derive(Debug, Args)]
pub(crate) struct RedecideArgs {
    /// Only this user, by name or id
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Print one JSON object instead of text for people
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Default)]
struct Findings {
    users: usize,
    turns: u64,
    decisions: u64,
    differences: Vec<(UserId, String, Difference)>,
}

/// Carries out `nexus replay`.
pub(crate) fn run(args: &RedecideArgs, environ: &Environ) -> anyhow::Result<ExitCode> {
    let config = Config::read(environ)?;
    let Database::Sqlite(path) = &config.database else {
        anyhow::bail!("a PostgreSQL ledger is not in this build yet");
    };
    let mut ledger = SqliteReplay::open(path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    let mut users = ledger.users()?;
    if let Some(wanted) = &args.user {
        users.retain(|(id, name)| name == wanted || id.to_string() == *wanted);
        anyhow::ensure!(!users.is_empty(), "there is no user {wanted:?} in {}", path.display());
    }
    let (progress, began) = (progress_bar(), Instant::now());
    let mut findings = Findings { users: users.len(), ..Findings::default() };
    for (user, name) in users {
        let replay = ledger.user(user, || progress.inc(1))?;
        findings.turns += replay.turns;
        findings.decisions += replay.decisions;
        findings.differences.extend(replay.difference.map(|difference| (user, name, difference)));
    }
    progress.finish_and_clear();
    if args.json {
        output::json(&findings.to_json())?;
    } else {
        output::text(&findings.in_words(began.elapsed().as_secs_f64()))?;
    }
    Ok(if findings.differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Findings {
    fn to_json(&self) -> Value {
        let difference = |(user, name, found): &(UserId, String, Difference)| {
            json!({"user": user.to_string(), "username": name, "version": found.version, "what": found.what,
                "expected": found.expected, "found": found.found})
        };
        let differences: Vec<Value> = self.differences.iter().map(difference).collect();
        json!({"users": self.users, "turns": self.turns, "decisions": self.decisions, "differences": differences})
    }

    fn in_words(&self, seconds: f64) -> String {
        let head = format!(
            "{} users, {} turns and {} decisions taken again in {seconds:.1} s",
            self.users, self.turns, self.decisions
        );
        if self.differences.is_empty() {
            return format!("{head}: no differences");
        }
        let line = |(_, name, found): &(UserId, String, Difference)| {
            let (is, was) = (shortened(&found.found), shortened(&found.expected));
            format!(
                "user {name}, turn {}: {} is {is} in the ledger, {was} when decided again",
                found.version, found.what
            )
        };
        let lines: Vec<String> = self.differences.iter().map(line).collect();
        format!("{head}; the first difference of each user:\n{}", lines.join("\n"))
    }
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(VALUE_CHARS_SHOWN_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Drawn on stderr, and only when that is a terminal.
fn progress_bar() -> ProgressBar {
    let target = if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let progress = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} turns  {per_sec}") {
        progress.set_style(style);
    }
    progress
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_in_a_line() {
        let difference = Difference {
            version: 7,
            what: "decisions d-1: quantity_e8".into(),
            expected: "2164".into(),
            found: "9999".into(),
        };
        let user = UserId(uuid::Uuid::nil());
        let findings =
            Findings { users: 1, turns: 7, decisions: 2, differences: vec![(user, "ann".into(), difference)] };
        let expected = "1 users, 7 turns and 2 decisions taken again in 0.5 s; the first difference of each user:\n\
            user ann, turn 7: decisions d-1: quantity_e8 is 9999 in the ledger, 2164 when decided again";
        assert_eq!(findings.in_words(0.5), expected);
        assert_eq!(findings.to_json()["differences"][0]["found"], "9999");
        assert!(Findings::default().in_words(0.0).ends_with("no differences"));
    }
}
