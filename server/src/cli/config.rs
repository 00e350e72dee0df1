//! `nexus config`: the settings in force and where each came from, or everything that is wrong with them.
//!
//! A faulty configuration is bad use (2), so that a deployment can be checked before it is rolled out; warnings are words
//! on stderr and change no exit code.

use std::process::ExitCode;

use nexus_config::{Config, ConfigErrors, Environ};
use serde_json::{Value, json};

use super::args::ConfigCommand;
use super::output;

/// Carries out `nexus config …`.
pub(crate) fn run(command: &ConfigCommand, environ: &Environ) -> anyhow::Result<ExitCode> {
    let config = Config::read(environ);
    match (command, config) {
        (ConfigCommand::Show(args), Ok(config)) => show(&config, args.json)?,
        (ConfigCommand::Check(args), Ok(config)) => say_valid(&config, args.json)?,
        (ConfigCommand::Show(args) | ConfigCommand::Check(args), Err(errors)) => {
            if args.json {
                output::json(&faults(&errors))?;
                return Ok(ExitCode::from(2));
            }
            return Err(errors.into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(config: &Config, is_json: bool) -> anyhow::Result<()> {
    if is_json {
        return output::json(&as_json(config));
    }
    warn(config);
    let rows: Vec<[String; 3]> = config
        .effective
        .iter()
        .map(|entry| {
            let value = entry.value.clone().unwrap_or_else(|| "(unset)".into());
            [entry.name.to_owned(), value, entry.origin.to_string()]
        })
        .collect();
    output::text(&output::table(["NAME", "VALUE", "FROM"], &rows))?;
    let rows: Vec<[String; 7]> = config
        .instruments
        .iter()
        .map(|i| {
            let enabled = if i.enabled { "yes" } else { "no" };
            let (tick, lot, fee) = (i.tick.to_string(), i.lot.to_string(), i.fee_percent.to_string());
            [i.symbol.to_string(), tick, lot, fee, i.quote.to_string(), i.venue.to_string(), enabled.to_owned()]
        })
        .collect();
    let heading = ["INSTRUMENT", "TICK", "LOT", "FEE %", "QUOTE", "VENUE", "ENABLED"];
    output::text(&format!("\n{}", output::table(heading, &rows)))
}

fn say_valid(config: &Config, is_json: bool) -> anyhow::Result<()> {
    let unsupported = config.unsupported();
    if is_json {
        let (warnings, environment) = (&config.warnings, config.environment.as_str());
        let answer =
            json!({"valid": true, "environment": environment, "warnings": warnings, "unsupported": unsupported});
        return output::json(&answer);
    }
    warn(config);
    output::text(&format!("the configuration is valid ({})", config.environment.as_str()))
}

fn warn(config: &Config) {
    for text in &config.warnings {
        output::note(&format!("warning: {text}"));
    }
    for text in config.unsupported() {
        output::note(&format!("warning: {text}; nexus serve will refuse it"));
    }
}

fn as_json(config: &Config) -> Value {
    let entry = |entry: &nexus_config::Effective| {
        json!({
            "name": entry.name,
            "value": entry.value,
            "origin": entry.origin.to_string(),
            "secret": entry.is_secret,
        })
    };
    json!({
        "environment": config.environment.as_str(),
        "settings": config.effective.iter().map(entry).collect::<Vec<_>>(),
        "instruments": config.instruments,
        "instruments_origin": config.instruments_path.as_ref().map_or("default".into(), |path| path.display().to_string()),
        "warnings": config.warnings,
        "unsupported": config.unsupported(),
    })
}

fn faults(errors: &ConfigErrors) -> Value {
    let fault = |error: &nexus_config::ConfigError| json!({"name": error.name, "origin": error.place, "problem": error.problem, "allowed": error.allowed});
    json!({"valid": false, "errors": errors.0.iter().map(fault).collect::<Vec<_>>()})
}
