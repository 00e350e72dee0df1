//! `nexus status` for people, `nexus healthcheck` for whatever restarts containers.
//!
//! Neither signs in. A halted engine is ready: restarting it would not help, and would look like one more failure to
//! whoever has just stopped it.

use std::process::ExitCode;
use std::time::Duration;

use nexus_config::{ClientConfig, Environ};
use serde_json::{Value, json};

use super::args::ClientArgs;
use super::client::Client;
use super::output::{self, field};

/// A probe that hangs is a probe that failed; Docker's default gives it 30 s, an operator's patience less.
const HEALTHCHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// Shows the state of a running engine. Needs no sign-in.
pub(crate) async fn status(args: &ClientArgs, environ: &Environ) -> anyhow::Result<ExitCode> {
    let client = Client::new(args, &ClientConfig::read(environ)?)?;
    let answer = client.get("/status").await?;
    if args.json {
        output::json(&answer)?;
    } else {
        output::text(&in_words(&answer))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks whether the engine is ready.
pub(crate) async fn healthcheck(args: &ClientArgs, environ: &Environ) -> anyhow::Result<ExitCode> {
    let client = Client::with_timeout(args, &ClientConfig::read(environ)?, HEALTHCHECK_TIMEOUT)?;
    let answer = client.get("/health/ready").await;
    if args.json {
        let (ready, detail) = match &answer {
            Ok(body) => (true, body.clone()),
            Err(error) => (false, json!(format!("{error:#}"))),
        };
        output::json(&json!({"ready": ready, "detail": detail}))?;
        return Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let status = field(&answer?, "status");
    output::text(&format!("ready{}", if status.is_empty() { status } else { format!(" ({status})") }))?;
    Ok(ExitCode::SUCCESS)
}

fn in_words(answer: &Value) -> String {
    let engine = &answer["risk_engine"];
    let mut lines = vec![(
        "state",
        format!("{} (epoch {}, since {})", field(engine, "state"), field(engine, "epoch"), field(engine, "since")),
    )];
    if engine["reason"].is_string() {
        lines.push(("reason", field(engine, "reason")));
    }
    // Whose, is not for everybody who may ask for the status.
    if let Some(scopes @ 1..) = engine["scopes_stopped"].as_u64() {
        lines.push(("stopped", format!("{scopes} by themselves (feeds, symbols, venues or users; GET /admin/stops)")));
    }
    lines.push(("environment", field(answer, "environment")));
    lines.push(("uptime", answer["uptime_s"].as_u64().map(duration).unwrap_or_default()));
    for (label, name) in
        [("ledger", "ledger"), ("hot state", "hot_state"), ("venues", "venues"), ("accounts", "accounts")]
    {
        lines.push((label, field(answer, name)));
    }
    output::pairs(&lines)
}

/// A duration with its two largest units.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_in_words() {
        let answer = json!({
            "environment": "development", "uptime_s": 3_720, "instance": "i",
            "risk_engine": {
                "state": "halted", "scopes_stopped": 2, "epoch": 4, "since": "2026-11-24T02:00:00Z", "reason": "drill"
            },
            "ledger": "up", "hot_state": "up", "venues": {"paper": "up"}, "accounts": 2,
        });
        let expected = "\
state        halted (epoch 4, since 2026-11-24T02:00:00Z)
reason       drill
stopped      2 by themselves (feeds, symbols, venues or users; GET /admin/stops)
environment  development
uptime       1 h 2 min
ledger       up
hot state    up
venues       paper=up
accounts     2";
        assert_eq!(in_words(&answer), expected);
        let mut answer = answer;
        answer["risk_engine"]["scopes_stopped"] = json!(0);
        assert!(!in_words(&answer).contains("stopped"));
    }

    #[test]
    fn durations_have_two_units() {
        for (seconds, expected) in [(5, "5 s"), (61, "1 min 1 s"), (3_600, "1 h 0 min"), (90_000, "1 d 1 h")] {
            assert_eq!(duration(seconds), expected);
        }
    }
}
