//! What production refuses to start with.
//!
//! Each refusal is shown beside its control: the same settings are accepted in development, and production accepts them
//! once the one fault is mended.

use nexus_config::{Environment, LogFormat};

use crate::{GOOD_KEY, accepted, refused};

const PRODUCTION: (&str, &str) = ("ENVIRONMENT", "production");

#[test]
fn production_starts_with_a_real_key_and_nothing_else() {
    let config = accepted(&[PRODUCTION, ("SECRET_KEY", GOOD_KEY)]);
    assert_eq!(config.environment, Environment::Production);
    assert_eq!(config.log_format, LogFormat::Json);
    assert!(config.require_admin_mfa && config.unsupported().is_empty());
    assert!(config.warnings[0].contains("admins sign in by password alone"), "{:?}", config.warnings);
    assert_eq!(config.resume_hold_seconds, 60);
}

#[test]
fn production_refuses_what_development_only_warns_about() {
    let table: &[(&[(&str, &str)], &str)] = &[
        (&[], "SECRET_KEY: is required in production; allowed: at least 32 random bytes"),
        (&[("SECRET_KEY", "")], "SECRET_KEY: is required in production"),
        (&[("SECRET_KEY", "short")], "SECRET_KEY (environment): is 5 bytes long"),
        (&[("SECRET_KEY", "change-this-to-something-of-your-own-42")], "looks like a placeholder"),
        (&[("SECRET_KEY", "abababababababababababababababababababab")], "different characters"),
        (
            &[("SECRET_KEY", GOOD_KEY), ("SECRET_KEY_PREVIOUS", "short")],
            "SECRET_KEY_PREVIOUS (environment): is 5 bytes",
        ),
        (&[("SECRET_KEY", GOOD_KEY), ("BCRYPT_ROUNDS", "11")], "BCRYPT_ROUNDS (environment): 11 is too cheap"),
    ];
    for (variables, expected) in table {
        let found = refused(&[&[PRODUCTION], *variables].concat());
        assert!(found.contains(expected), "{variables:?}: {found}");
        accepted(variables);
    }
    assert!(accepted(&[("SECRET_KEY", "short")]).warnings[0].contains("production refuses it"));
}

#[test]
fn production_refuses_the_passwords_of_examples() {
    let database = [("DB_HOST", "h"), ("DB_NAME", "n"), ("DB_USER", "u")];
    let table: &[(&str, &str, &str)] = &[
        ("ADMIN_PASSWORD", "Change-Me-1!", "ADMIN_PASSWORD (environment): looks like a placeholder"),
        ("DB_PASSWORD", "change-me-of-the-database", "DB_PASSWORD (environment): looks like a placeholder"),
        ("DB_PASSWORD", "Postgres", "DB_PASSWORD (environment): is a password that everybody knows"),
        (
            "DATABASE_URL",
            "postgres://u:nexus@h/d",
            "DATABASE_URL (environment): its password is a password that everybody",
        ),
        (
            "DATABASE_URL",
            "postgres://u@h/d?password=my%5Fs%65cret",
            "DATABASE_URL (environment): its password looks like",
        ),
        (
            "REDIS_URL",
            "redis://:your-password@h:6379",
            "REDIS_URL (environment): its password looks like a placeholder",
        ),
    ];
    for (name, value, expected) in table {
        let variables = [&database[..], &[("SECRET_KEY", GOOD_KEY), (name, value)]].concat();
        let found = refused(&[&[PRODUCTION], &variables[..]].concat());
        assert!(found.contains(expected), "{name}={value}: {found}");
        assert!(!found.contains(value) && found.lines().count() == 1, "{found}");
        accepted(&variables);
    }
    for (name, value) in [
        ("ADMIN_PASSWORD", "G1ven-by-hand"),
        ("DB_PASSWORD", "9f8e7d6c5b4a"),
        ("DATABASE_URL", "postgres://postgres@h/postgres"),
        ("DATABASE_URL", "sqlite://./secret/nexus.db"),
        ("REDIS_URL", "redis://redis:6379"),
    ] {
        accepted(&[&database[..], &[PRODUCTION, ("SECRET_KEY", GOOD_KEY), (name, value)]].concat());
    }
    // What is not used harms nobody.
    accepted(&[
        PRODUCTION,
        ("SECRET_KEY", GOOD_KEY),
        ("DATABASE_URL", "postgres://u@h/d"),
        ("DB_PASSWORD", "postgres"),
    ]);
}

#[test]
fn production_warns_about_what_is_open() {
    let config = accepted(&[PRODUCTION, ("SECRET_KEY", GOOD_KEY), ("CORS_ORIGINS", "*"), ("API_DEBUG", "on")]);
    let warned = |part: &str| config.warnings.iter().any(|text| text.contains(part));
    assert!(warned("every web page may call the API") && warned("API_DEBUG is on"), "{:?}", config.warnings);
}

#[test]
fn what_nothing_acts_on_yet_is_warned_about_when_somebody_sets_it() {
    let config =
        accepted(&[("REFRESH_TOKEN_EXPIRE_DAYS", "3"), ("SESSION_TIMEOUT_MINUTES", "5"), ("LOCKOUT_MINUTES", "5")]);
    let names: Vec<_> = config.warnings.iter().map(|text| text.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["REFRESH_TOKEN_EXPIRE_DAYS", "SESSION_TIMEOUT_MINUTES"]);
    assert!(config.unsupported().is_empty());
}

#[test]
fn what_is_not_built_yet_is_said_by_name() {
    let config = accepted(&[
        ("TLS_CERT", "c"),
        ("TLS_KEY", "k"),
        ("REQUIRE_ADMIN_MFA", "true"),
        ("RESUME_APPROVALS", "2"),
        ("ALERT_WEBHOOK_URL", "https://h/x"),
    ]);
    let names: Vec<_> =
        config.unsupported().iter().map(|text| text.split([':', ' ']).next().unwrap().to_owned()).collect();
    assert_eq!(names, ["TLS_CERT", "REQUIRE_ADMIN_MFA", "RESUME_APPROVALS", "ALERT_WEBHOOK_URL"]);
}
