//! Log lines: to stderr, so that stdout stays free for answers.
//!
//! Libraries are held at `info` or above even when our own lines go deeper: their inner life is not what an operator
//! looks for, and some of it repeats what was sent.

use std::io::IsTerminal;

use nexus_config::{Config, LogFormat, LogLevel};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Begins to write log lines as the configuration says, panics included.
pub fn start(config: &Config) -> anyhow::Result<()> {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(filter(config.log_level, config.api_debug))?)
        .with_span_events(FmtSpan::NONE)
        .with_writer(std::io::stderr);
    let started = match config.log_format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Pretty => lines.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot begin logging: {error}"))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("a panic without words");
        tracing::error!(place, "panic: {text}");
    }));
    Ok(())
}

fn filter(level: LogLevel, is_debug: bool) -> String {
    let level = if is_debug { level.max(LogLevel::Debug) } else { level };
    let ours = level.as_str();
    let theirs = level.min(LogLevel::Info).as_str();
    format!("{theirs},nexus={ours},nexus_actors={ours},nexus_store={ours},nexus_venues={ours}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_quieter_than_we_are() {
        let table = [
            (LogLevel::Error, false, "error,nexus=error"),
            (LogLevel::Info, false, "info,nexus=info"),
            (LogLevel::Trace, false, "info,nexus=trace"),
            (LogLevel::Info, true, "info,nexus=debug"),
            (LogLevel::Trace, true, "info,nexus=trace"),
        ];
        for (level, is_debug, expected) in table {
            let found = filter(level, is_debug);
            assert!(found.starts_with(expected), "{found}");
            EnvFilter::try_new(found).expect("a filter");
        }
    }
}
