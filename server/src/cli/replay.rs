//! `nexus replay`: every user's history decided again from the ledger, and compared with what the ledger holds.
//!
//! A local command: it reads the ledger that the settings name and needs no engine, nor does it mind one. It says the first
//! difference of each user; a ledger that nobody has touched has none. What others have written and a turn has told of is no
//! difference, but it is shown.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nexus_config::{Config, Database, Environ};
use nexus_engine::ids::UserId;
use nexus_store::{Correction, Difference, LedgerReplay, ReplayError};
use secrecy::ExposeSecret;
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

/// Whose: an id, and a name when it is that of a user.
struct Whose {
    user: String,
    username: Option<String>,
}

/// What was found.
#[derive(Default)]
struct Findings {
    users: u64,
    turns: u64,
    decisions: u64,
    /// Of each user that has been corrected: how often, and the first time.
    corrections: Vec<(Whose, u64, Correction)>,
    differences: Vec<(Whose, Difference)>,
}

/// Carries out `nexus replay`.
pub(crate) async fn run(args: &RedecideArgs, environ: &Environ) -> anyhow::Result<ExitCode> {
    let config = Config::read(environ)?;
    let mut ledger = match &config.database {
        Database::Sqlite(path) => {
            LedgerReplay::of_sqlite(path).with_context(|| format!("{} cannot be read", path.display()))?
        }
        Database::Postgres(url) => LedgerReplay::of_postgres(url.expose_secret()).await?,
    };
    let (progress, began) = (progress_bar(), Instant::now());
    let mut findings = Findings::default();
    match &args.user {
        Some(wanted) => {
            let user = ledger.user(wanted).await?;
            let user = user.with_context(|| format!("there is no user {wanted:?} in the ledger"))?;
            findings.take(&mut ledger, user, &progress).await?;
        }
        None => findings.take_all(&mut ledger, &progress).await?,
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
    async fn take_all(&mut self, ledger: &mut LedgerReplay, progress: &ProgressBar) -> Result<(), ReplayError> {
        let mut last = None;
        loop {
            let users = ledger.users(last).await?;
            let Some((newest, _)) = users.last() else { break };
            last = Some(*newest);
            for user in users {
                self.take(ledger, user, progress).await?;
            }
        }
        if let Some((user, difference)) = ledger.stranger().await? {
            self.differences.push((Whose { user, username: None }, difference));
        }
        Ok(())
    }

    async fn take(
        &mut self,
        ledger: &mut LedgerReplay,
        (user, name): (UserId, String),
        progress: &ProgressBar,
    ) -> Result<(), ReplayError> {
        let whose = || Whose { user: user.to_string(), username: Some(name.clone()) };
        let replay = ledger.replay(user, &mut || progress.inc(1)).await?;
        self.users += 1;
        self.turns += replay.turns;
        self.decisions += replay.decisions;
        self.corrections.extend(replay.correction.map(|first| (whose(), replay.corrections, first)));
        self.differences.extend(replay.difference.map(|difference| (whose(), difference)));
        Ok(())
    }

    fn to_json(&self) -> Value {
        let correction = |(whose, times, first): &(Whose, u64, Correction)| {
            json!({"user": whose.user, "username": whose.username, "times": times, "version": first.version,
                "what": first.what})
        };
        let difference = |(whose, found): &(Whose, Difference)| {
            json!({"user": whose.user, "username": whose.username, "version": found.version, "what": found.what,
                "expected": found.expected, "found": found.found})
        };
        let corrections: Vec<Value> = self.corrections.iter().map(correction).collect();
        let differences: Vec<Value> = self.differences.iter().map(difference).collect();
        json!({"users": self.users, "turns": self.turns, "decisions": self.decisions, "corrections": corrections,
            "differences": differences})
    }

    fn in_words(&self, seconds: f64) -> String {
        let mut text = format!(
            "{} users, {} turns and {} decisions taken again in {seconds:.1} s",
            self.users, self.turns, self.decisions
        );
        if self.differences.is_empty() {
            text.push_str(": no differences");
        } else {
            text.push_str("; the first difference of each user:");
        }
        for (whose, found) in &self.differences {
            let (is, was) = (shortened(&found.found), shortened(&found.expected));
            text += &format!(
                "\nuser {}, turn {}: {} is {is} in the ledger, {was} when decided again",
                whose.name(),
                found.version,
                found.what
            );
        }
        for (whose, times, first) in &self.corrections {
            let often = if *times == 1 { String::new() } else { format!(", the first of {times} times") };
            text += &format!(
                "\nuser {}, turn {}: corrected by what somebody else had written{often}: {}",
                whose.name(),
                first.version,
                first.what
            );
        }
        text
    }
}

impl Whose {
    fn name(&self) -> &str {
        self.username.as_ref().unwrap_or(&self.user)
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
        let whose = || Whose { user: "u-1".into(), username: Some("ann".into()) };
        let mut findings = Findings {
            users: 1,
            turns: 7,
            decisions: 2,
            differences: vec![(whose(), difference)],
            ..Findings::default()
        };
        let expected = "1 users, 7 turns and 2 decisions taken again in 0.5 s; the first difference of each user:\n\
            user ann, turn 7: decisions d-1: quantity_e8 is 9999 in the ledger, 2164 when decided again";
        assert_eq!(findings.in_words(0.5), expected);
        assert_eq!(findings.to_json()["differences"][0]["found"], "9999");
        assert!(Findings::default().in_words(0.0).ends_with("no differences"));
        let correction = Correction { version: 5, what: "3H trades 0 to 1".into() };
        findings.differences.clear();
        findings.corrections.push((whose(), 2, correction));
        let expected = "1 users, 7 turns and 2 decisions taken again in 0.5 s: no differences\n\
            user ann, turn 5: corrected by what somebody else had written, the first of 2 times: 3H trades 0 to 1";
        assert_eq!(findings.in_words(0.5), expected);
        assert_eq!(findings.to_json()["corrections"][0]["times"], 2);
    }
}
