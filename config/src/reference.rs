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

In development every setting has a default that works: nothing needs to be set to try Nexus. Some settings are checked
already, while the part that would act on them [is not in this build yet](#not-in-this-build-yet).

`nexus config show` prints the values in force and where each came from, with secrets masked. `nexus config check`
exits with 0 when the settings are good; otherwise it reports everything that is wrong at once and exits with 2.
";

const NOT_YET: &str = "
## Not in this build yet

`nexus serve` refuses to start when it is asked for what it would have to ignore: `TLS_CERT`,
`REQUIRE_ADMIN_MFA` (the production profile's own `true` is only warned about),
`RESUME_APPROVALS` above 1, `ALERT_WEBHOOK_URL`. It starts with a warning when one of these is set, which nothing acts on:
IDLE.
";

const CLOSING: &str = "
## Instruments

What can be traded: EURUSD, GBPUSD, BTCUSD and ETHUSD, as examples, until the file names instruments of its own; those
then replace all of the examples. `enabled` is true and `venue` is `paper` when they are left out; everything else is
required.

```toml
[[instruments]]
symbol = \"EURUSD\"
tick = 0.00001       # the smallest step of its price
lot = 1              # the smallest step of its quantity
fee_percent = 0.002  # what each fill costs, in percent of its value
quote = \"USD\"        # the currency of its price; only accounts in it may trade
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
