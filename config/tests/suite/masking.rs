//! No secret reaches an output, however it was given.
//!
//! A needle is hidden in every setting that the table calls secret; then everything that can be printed is searched.

use nexus_config::{Environ, SETTINGS};

use crate::{accepted, refused};

const NEEDLE: &str = "n33dle";

#[test]
fn no_secret_is_in_debug_output_or_in_the_effective_values() {
    let value = |name: &str| match name {
        "DATABASE_URL" => format!("postgres://u:{NEEDLE}@h/d"),
        "REDIS_URL" => format!("redis://:{NEEDLE}@h"),
        "ALERT_WEBHOOK_URL" => format!("https://h/{NEEDLE}"),
        _ => format!("{NEEDLE}-0123456789abcdef-0123456789"),
    };
    let secrets = SETTINGS.iter().filter(|setting| setting.kind.is_secret());
    let variables: Vec<_> = secrets.map(|setting| (setting.name, value(setting.name))).collect();
    let variables: Vec<_> = variables.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let config = accepted(&[&[("DB_HOST", "h"), ("DB_NAME", "n"), ("DB_USER", "u")], variables.as_slice()].concat());
    let environ: Environ = variables.iter().copied().collect();
    for printed in [format!("{config:?}"), format!("{config:#?}"), format!("{environ:?}")] {
        assert!(!printed.contains(NEEDLE), "{printed}");
    }
    for (name, _) in variables {
        let shown = config.effective.iter().find(|entry| entry.name == name).unwrap();
        assert_eq!((shown.value.as_deref(), shown.is_secret), (Some("********"), true), "{name}");
    }
}

#[test]
fn no_secret_is_repeated_in_an_error() {
    for setting in SETTINGS.iter().filter(|setting| setting.kind.is_secret()) {
        let found = refused(&[("ENVIRONMENT", "production"), (setting.name, &format!("mysql://{NEEDLE}\n@{NEEDLE}"))]);
        assert!(found.contains(setting.name) && !found.contains(NEEDLE), "{found}");
    }
}

#[test]
fn an_sqlite_url_has_nothing_to_hide() {
    let config = accepted(&[("DATABASE_URL", "sqlite://x.db")]);
    let shown = config.effective.iter().find(|entry| entry.name == "DATABASE_URL").unwrap();
    assert_eq!(shown.value.as_deref(), Some("sqlite://x.db"));
}
