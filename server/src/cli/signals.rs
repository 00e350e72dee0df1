//! `nexus signal send` and `nexus signal check`: a signal by hand, as a feed would send it or ask about it.
//!
//! The command is done when the signal is decided; that a decision is a rejection is an answer, not a failure.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use nexus_config::{ClientConfig, Environ};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::args::{ClientArgs, SendArgs, SignalArgs, SignalCommand, SignalFields};
use super::client::{Body, Client};
use super::output::{self, cell, field};
use super::{BadUse, secret};

/// Carries out `nexus signal …`.
pub(crate) async fn run(args: &SignalArgs, environ: &Environ) -> anyhow::Result<ExitCode> {
    match &args.command {
        SignalCommand::Send(signal) => post(&args.client, signal, environ, "/api/v1/signals", in_words).await,
        SignalCommand::Check(signal) => {
            post(&args.client, signal, environ, "/api/v1/signals?dry_run=true", what_if_in_words).await
        }
    }
}

async fn post(
    args: &ClientArgs,
    send: &SendArgs,
    environ: &Environ,
    path: &str,
    in_words: impl Fn(&Value) -> String,
) -> anyhow::Result<ExitCode> {
    let key = send.api_key.as_deref().filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| BadUse("a feed's key is needed: --api-key or NEXUS_FEED_KEY".into()))?;
    let body = match &send.file {
        Some(path) => read_signals(path)?,
        None => {
            let new_id = || uuid::Uuid::now_v7().to_string();
            serde_json::to_vec(&from_fields(&send.fields, new_id)?).context("a signal as JSON")?
        }
    };
    let client = Client::new(args, &ClientConfig::read(environ)?)?.with_token(key.into());
    let answer = client.send(Method::POST, path, Body::Raw(body)).await?;
    if args.json {
        output::json(&answer)?;
    } else {
        output::text(&in_words(&answer))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The file as it is; that it is JSON is checked here, where the error can name the line.
fn read_signals(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = secret::read_input(path)?;
    serde_json::from_slice::<&serde_json::value::RawValue>(&bytes)
        .map_err(|error| BadUse(format!("{} is not JSON: {error}", secret::input_name(path))))?;
    Ok(bytes)
}

/// Numbers stay texts: what the operator typed is what arrives.
fn from_fields(fields: &SignalFields, new_id: impl Fn() -> String) -> Result<Value, BadUse> {
    let required = [
        ("symbol", &fields.symbol),
        ("side", &fields.side),
        ("timeframe", &fields.timeframe),
        ("stop_loss", &fields.stop_loss),
        ("take_profit", &fields.take_profit),
    ];
    let flag = |name: &str| format!("--{}", name.replace('_', "-"));
    let missing: Vec<String> = required.iter().filter(|(_, v)| v.is_none()).map(|(name, _)| flag(name)).collect();
    if !missing.is_empty() {
        return Err(BadUse(format!("a signal needs {} (or --file)", missing.join(", "))));
    }
    let optional = [
        ("order_type", &fields.order_type),
        ("entry_price", &fields.entry_price),
        ("issued_at", &fields.issued_at),
        ("user_id", &fields.user_id),
    ];
    let protection = [
        ("breakeven_at_r", fields.breakeven_at_r.clone().map(Value::from)),
        ("trail_distance", fields.trail_distance.clone().map(Value::from)),
        ("trail_after_r", fields.trail_after_r.clone().map(Value::from)),
        ("max_hold_minutes", fields.max_hold_minutes.map(Value::from)),
    ];
    let protection: Map<String, Value> =
        protection.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    let mut signal = json!({"id": fields.id.clone().unwrap_or_else(new_id)});
    for (name, value) in required.into_iter().chain(optional) {
        if let Some(value) = value {
            signal[name] = json!(value);
        }
    }
    if !protection.is_empty() {
        signal["protection"] = protection.into();
    }
    Ok(signal)
}

fn in_words(answer: &Value) -> String {
    if let Some(answers) = answer.as_array().or_else(|| answer["items"].as_array()) {
        let rows: Vec<[String; 4]> = answers
            .iter()
            .map(|one| [field(one, "signal_id"), field(one, "accepted"), field(one, "rejected"), reasons(one)])
            .collect();
        return output::table(["SIGNAL", "ACCEPTED", "REJECTED", "REASONS"], &rows);
    }
    let repeat = if answer["duplicate"] == json!(true) { " (decided before)" } else { "" };
    let mut lines = vec![
        ("signal", format!("{}{repeat}", field(answer, "signal_id"))),
        ("accepted", field(answer, "accepted")),
        ("rejected", field(answer, "rejected")),
    ];
    if answer["pending"].is_u64() {
        lines.push(("pending", field(answer, "pending")));
    }
    let mut text = output::pairs(&lines);
    let decisions = answer["decisions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !decisions.is_empty() {
        let row = |one: &Value| {
            [field(one, "user_id"), field(one, "verdict"), field(one, "quantity"), field(one, "risk"), reasons(one)]
        };
        let rows: Vec<[String; 5]> = decisions.iter().map(row).collect();
        text.push_str("\n\n");
        text.push_str(&output::table(["USER", "VERDICT", "QUANTITY", "RISK", "REASONS"], &rows));
    }
    text
}

fn what_if_in_words(answer: &Value) -> String {
    let answers = answer.as_array().map_or(std::slice::from_ref(answer), Vec::as_slice);
    let decisions = answers.iter().flat_map(|one| one["decisions"].as_array().into_iter().flatten());
    let row = |one: &Value| {
        let left = |name| field(&one["left"], name);
        [
            field(one, "user_id"),
            field(one, "verdict"),
            field(one, "quantity"),
            field(one, "risk"),
            reasons(one),
            left("daily_loss"),
            left("timeframe_trades"),
            left("open_positions"),
            left("exposure"),
        ]
    };
    let heading = [
        "USER",
        "VERDICT",
        "QUANTITY",
        "RISK",
        "REASONS",
        "LOSS LEFT",
        "TRADES LEFT",
        "POSITIONS LEFT",
        "EXPOSURE LEFT",
    ];
    let rows: Vec<[String; 9]> = decisions.map(row).collect();
    format!("Nothing was decided. Afterwards there would be left:\n\n{}", output::table(heading, &rows))
}

/// The reasons of one answer; of a signal that was refused in a list, what was wrong with it.
fn reasons(answer: &Value) -> String {
    if answer["reasons"].is_null() { field(answer, "detail") } else { cell(&answer["reasons"]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> SignalFields {
        let text = |s: &str| Some(s.to_owned());
        SignalFields {
            symbol: text("EURUSD"),
            side: text("buy"),
            timeframe: text("3H"),
            stop_loss: text("1.08300"),
            take_profit: text("1.08900"),
            ..SignalFields::default()
        }
    }

    #[test]
    fn a_signal_says_only_what_was_said() {
        let expected = json!({"id": "new", "symbol": "EURUSD", "side": "buy", "timeframe": "3H",
            "stop_loss": "1.08300", "take_profit": "1.08900"});
        assert_eq!(from_fields(&fields(), || "new".into()).unwrap(), expected);
        let more = SignalFields {
            id: Some("opt-1".into()),
            trail_distance: Some("0.0010".into()),
            max_hold_minutes: Some(540),
            ..fields()
        };
        let signal = from_fields(&more, || "new".into()).unwrap();
        assert_eq!(signal["id"], "opt-1");
        assert_eq!(signal["protection"], json!({"trail_distance": "0.0010", "max_hold_minutes": 540}));
    }

    #[test]
    fn a_what_if_is_told_with_what_would_be_left() {
        let answer = json!({"dry_run": true, "decisions": [{"user_id": "u1", "verdict": "accepted", "quantity": "2400",
            "risk": "4.80", "left": {"daily_loss": "5.19", "timeframe_trades": 0, "open_positions": 4, "exposure": "9.00"}}]});
        let text = what_if_in_words(&answer);
        let cells: Vec<&str> = text.lines().last().expect("a row").split_whitespace().collect();
        assert_eq!(cells, ["u1", "accepted", "2400", "4.80", "5.19", "0", "4", "9.00"]);
        assert!(text.starts_with("Nothing was decided."));
    }

    #[test]
    fn what_is_missing_is_named_by_its_flag() {
        let few = SignalFields { symbol: None, stop_loss: None, ..fields() };
        let error = from_fields(&few, String::new).unwrap_err();
        assert_eq!(error.to_string(), "a signal needs --symbol, --stop-loss (or --file)");
    }

    #[test]
    fn an_answer_is_told_with_its_decisions() {
        let answer = json!({"signal_id": "s", "duplicate": true, "decided": 2, "accepted": 1, "rejected": 1,
            "reasons": {"daily_loss_cap": 1}, "decisions": [
                {"user_id": "u1", "verdict": "accepted", "quantity": "2400", "risk": "4.80"},
                {"user_id": "u2", "verdict": "rejected", "reasons": ["daily_loss_cap"]}]});
        let expected = "\
signal    s (decided before)
accepted  1
rejected  1

USER  VERDICT   QUANTITY  RISK  REASONS
u1    accepted  2400      4.80
u2    rejected                  daily_loss_cap";
        assert_eq!(in_words(&answer), expected);
    }
}
