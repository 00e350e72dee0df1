//! `nexus migrate`: brings the ledger's schema up to date without starting an engine.
//!
//! An engine does the same when it starts. This is for those who deploy in two steps, or whose engine may not create tables:
//! then it is run once under a user who may. Two at once wait for each other; a schema that is newer than this program, or was
//! changed by hand, is left as it is.

use std::process::ExitCode;

use clap::Args;
use nexus_config::{Config, Database, Environ};
use nexus_store::Migrated;
use serde_json::json;

use super::output;
use crate::compose::open_ledger;

#[derive(Debug, Args)]
pub(crate) struct MigrateArgs {
    /// Print one JSON object instead of text for people
    #[arg(long)]
    json: bool,
}

/// Carries out `nexus migrate`.
pub(crate) async fn run(args: &MigrateArgs, environ: &Environ) -> anyhow::Result<ExitCode> {
    let config = Config::read(environ)?;
    let kind = match &config.database {
        Database::Sqlite(_) => "SQLite",
        Database::Postgres(_) => "PostgreSQL",
    };
    let Migrated { from, to } = open_ledger(&config, None).await?.migrated;
    if args.json {
        output::json(&json!({"ledger": kind.to_lowercase(), "from": from, "to": to}))?;
    } else {
        output::text(&in_words(kind, from, to))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn in_words(kind: &str, from: i64, to: i64) -> String {
    match from {
        0 => format!("the {kind} ledger was made, at version {to} of the schema"),
        from if from == to => format!("the {kind} ledger is at version {to} of the schema: nothing to do"),
        from => format!("the {kind} ledger was brought from version {from} of the schema to {to}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_said() {
        assert_eq!(in_words("SQLite", 0, 2), "the SQLite ledger was made, at version 2 of the schema");
        assert_eq!(in_words("SQLite", 2, 2), "the SQLite ledger is at version 2 of the schema: nothing to do");
        assert_eq!(in_words("SQLite", 1, 2), "the SQLite ledger was brought from version 1 of the schema to 2");
    }
}
