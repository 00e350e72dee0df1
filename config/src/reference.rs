//! The reference of settings, generated from the table.
//!
//! `docs/CONFIGURATION.md` is this text, and a test holds them equal: what is written about a setting cannot drift from
//! what is read.

use crate::layers::default_text;
use crate::settings::{NOT_IN_FORCE, SETTINGS, Setting};
use crate::values::Environment;

const OPENING: &str = "\
# Settings

This page is generated from the table of settings in `config/src/settings.rs`.

Each setting has one name, in the environment and in the TOML file that `NEXUS_CONFIG` names. The environment wins over
the file, the file over the profile (`ENVIRONMENT`), the profile over the default. Names in the file that are not
listed here are errors; variables that are not listed here are ignored, with a warning when they look like a misspelt
one. Every secret can also be given as the path of a file in `NAME_FILE` (a trailing newline is dropped); giving both is
an error. An empty value unsets a setting that may be unset. Relative paths are relative to the working directory.

`nexus config show` prints the values in force and where each came from, with secrets masked. `nexus config check`
reports everything that is wrong at once and exits with 2, or with 0.
";

const NOT_YET: &str = "
## Not in this build yet

`nexus serve` refuses to start with what it would have to ignore: PostgreSQL (`DATABASE_URL`, `DB_HOST`), `REDIS_URL`,
`TLS_CERT`, `REQUIRE_ADMIN_MFA` when somebody sets it, `RESUME_APPROVALS` above 1, `ALERT_WEBHOOK_URL`. It warns about
settings that nothing acts on: IDLE.
";

const CLOSING: &str = "
## Instruments

The file may replace the example instruments (EURUSD, GBPUSD, BTCUSD, ETHUSD) by its own. `enabled` is true and `venue`
is `paper` unless it says otherwise; everything else is required.

```toml
[[instruments]]
symbol = \"EURUSD\"
tick = 0.00001       # the smallest step of its price
lot = 1              # the smallest step of its quantity
fee_percent = 0.002  # of the value of each fill
quote = \"USD\"
enabled = true
venue = \"paper\"
```
";

/// The reference, as Markdown.
pub fn reference() -> String {
    let mut text = OPENING.to_owned();
    let mut section = "";
    for setting in SETTINGS {
        if setting.section != section {
            section = setting.section;
            text.push_str(&format!("\n## {section}\n\n| name | default | allowed | meaning |\n|---|---|---|---|\n"));
        }
        let secret = if setting.kind.is_secret() { " (secret)" } else { "" };
        let (name, doc, allowed) = (setting.name, setting.doc, setting.kind.allowed());
        text.push_str(&format!("| `{name}`{secret} | {} | {allowed} | {doc} |\n", default(setting)));
    }
    let idle: Vec<String> = NOT_IN_FORCE.iter().map(|name| format!("`{name}`")).collect();
    text.push_str(&NOT_YET.replace("IDLE", &idle.join(", ")));
    text.push_str(CLOSING);
    text
}

fn default(setting: &Setting) -> String {
    let of = |environment| match default_text(setting, environment).map(|value| value.text) {
        None => "unset".to_owned(),
        Some(text) if text.is_empty() => "empty".to_owned(),
        Some(text) => format!("`{text}`"),
    };
    let (development, production) = (of(Environment::Development), of(Environment::Production));
    if development == production { development } else { format!("{development}; in production {production}") }
}
