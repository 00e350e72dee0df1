//! Default < profile < file < environment, each value with the place that it came from.
//!
//! The defaults are compared with those of the engine: the table writes them as texts, and the two must not part.

use std::net::IpAddr;
use std::path::PathBuf;

use nexus_config::{ClientConfig, Database, Environ, Environment, LogFormat, LogLevel, Origin, data_dir};
use nexus_engine::limits::Limits;
use nexus_engine::units::Money;
use secrecy::ExposeSecret;

use crate::{GOOD_KEY, accepted, origin, refused, settings_file};

#[test]
fn without_any_word_the_defaults_are_those_of_the_engine() {
    let config = accepted(&[]);
    assert_eq!(config.limits, Limits::default());
    assert_eq!((config.api_host, config.api_port), (IpAddr::from([127, 0, 0, 1]), 8000));
    assert!(matches!(&config.database, Database::Sqlite(path) if path == &PathBuf::from("./data/nexus.db")));
    let symbols: Vec<_> = config.instruments.iter().map(|i| format!("{} {} {}", i.symbol, i.tick, i.lot)).collect();
    assert_eq!(symbols, ["EURUSD 0.00001 1", "GBPUSD 0.00001 1", "BTCUSD 0.01 0.00001", "ETHUSD 0.01 0.0001"]);
    assert!(config.secret_key.is_none() && config.warnings.is_empty() && config.unsupported().is_empty());
    assert_eq!(origin(&config, "API_PORT"), Origin::Default);
}

#[test]
fn the_environment_wins_over_the_file_over_the_profile_over_the_default() {
    let file = settings_file("API_PORT = 9001\nLOG_FORMAT = \"json\"\nMAX_DAILY_LOSS = 20.00\n");
    let config = accepted(&[("NEXUS_CONFIG", &file.path), ("API_PORT", "9002")]);
    let line = |line| Origin::File { path: PathBuf::from(&file.path), line };
    assert_eq!((config.api_port, origin(&config, "API_PORT")), (9002, Origin::Environment));
    assert_eq!((config.log_format, origin(&config, "LOG_FORMAT")), (LogFormat::Json, line(2)));
    assert_eq!((config.limits.max_daily_loss, origin(&config, "MAX_DAILY_LOSS")), (Money::whole(20), line(3)));
    assert_eq!(origin(&config, "RESUME_HOLD_SECONDS"), Origin::Profile(Environment::Development));
    assert_eq!(origin(&config, "LOG_LEVEL"), Origin::Default);
}

#[test]
fn a_number_in_the_file_is_taken_as_it_is_written() {
    let file = settings_file("MAX_DAILY_LOSS = 90071992547.40993\n");
    let found = refused(&[("NEXUS_CONFIG", &file.path)]);
    assert!(found.contains("90071992547.40993 is out of range"), "{found}");
    let file = settings_file("MAX_DAILY_LOSS = 123456789.12345678\n");
    let config = accepted(&[("NEXUS_CONFIG", &file.path)]);
    assert_eq!(config.limits.max_daily_loss.to_string(), "123456789.12345678");
}

#[test]
fn lists_may_be_arrays_and_the_paper_venue_has_its_table() {
    let file = settings_file("CORS_ORIGINS = [\"https://a.example\", \"https://b.example/\"]\n[paper]\nseed = 7\n");
    let config = accepted(&[("NEXUS_CONFIG", &file.path), ("PAPER_SLIPPAGE_PERCENT", "0.5")]);
    assert_eq!(config.cors_origins, ["https://a.example", "https://b.example"]);
    assert_eq!((config.paper.seed, config.paper.slippage_percent.to_string()), (7, "0.5".into()));
    let config =
        accepted(&[("CORS_ORIGINS", "[\"http://localhost:3000\"]"), ("METRICS_ALLOWED_IPS", "10.1.2.3/8, ::1")]);
    assert_eq!(config.cors_origins, ["http://localhost:3000"]);
    let networks: Vec<_> = config.metrics_allowed_ips.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "::1/128"]);
}

#[test]
fn a_secret_may_be_a_file_but_not_two_answers() {
    let file = settings_file("");
    let secret = file.dir.path().join("key");
    std::fs::write(&secret, format!("{GOOD_KEY}\r\n")).unwrap();
    let secret = secret.display().to_string();
    let config = accepted(&[("SECRET_KEY_FILE", &secret)]);
    assert_eq!(config.secret_key.as_ref().map(ExposeSecret::expose_secret), Some(GOOD_KEY));
    assert_eq!(origin(&config, "SECRET_KEY"), Origin::SecretFile(PathBuf::from(&secret)));

    let found = refused(&[("SECRET_KEY_FILE", &secret), ("SECRET_KEY", GOOD_KEY)]);
    assert!(found.contains("SECRET_KEY (environment): is set beside SECRET_KEY_FILE"), "{found}");
    assert!(!found.contains(GOOD_KEY));
    // An empty one is no answer.
    accepted(&[("SECRET_KEY_FILE", &secret), ("SECRET_KEY", "")]);
    accepted(&[("SECRET_KEY_FILE", ""), ("SECRET_KEY", GOOD_KEY)]);

    let found = refused(&[("SECRET_KEY_FILE", "/does/not/exist")]);
    assert!(found.contains("SECRET_KEY_FILE (environment): /does/not/exist cannot be read"), "{found}");
    let found = refused(&[("SECRET_KEY_FILE", &file.path)]);
    assert!(found.contains("is empty"), "{found}");
}

#[test]
fn a_secret_of_the_environment_replaces_the_one_of_the_file_in_either_form() {
    let file = settings_file("ADMIN_PASSWORD = \"from the file\"\n");
    let secret = file.dir.path().join("password");
    std::fs::write(&secret, "from its own file\n").unwrap();
    let secret = secret.display().to_string();
    let variables = [("NEXUS_CONFIG", file.path.as_str()), ("ADMIN_PASSWORD_FILE", &secret)];
    let config = accepted(&variables);
    assert_eq!(config.admin_password.unwrap().expose_secret(), "from its own file");
    let config = accepted(&[("NEXUS_CONFIG", &file.path), ("ADMIN_PASSWORD", "")]);
    assert!(config.admin_password.is_none());
}

#[test]
fn the_database_is_one_of_two() {
    let postgres = |variables: &[(&str, &str)]| match accepted(variables).database {
        Database::Postgres(url) => url.expose_secret().to_owned(),
        Database::Sqlite(path) => format!("sqlite {}", path.display()),
    };
    assert_eq!(postgres(&[("DATABASE_URL", "sqlite://x/y.db?mode=rwc")]), "sqlite x/y.db");
    assert_eq!(postgres(&[("DATABASE_URL", "sqlite:///var/n.db")]), "sqlite /var/n.db");
    assert_eq!(postgres(&[("DATABASE_URL", "postgresql://u:p@h/d")]), "postgresql://u:p@h/d");
    let parts = [("DB_HOST", "db"), ("DB_NAME", "nexus"), ("DB_USER", "a b"), ("DB_PASSWORD", "p@ss/w:rd")];
    assert_eq!(postgres(&parts), "postgres://a%20b:p%40ss%2Fw%3Ard@db:5432/nexus");
    let config = accepted(&[("DB_HOST", "db"), ("DB_NAME", "n"), ("DB_USER", "u"), ("DATABASE_URL", "sqlite://a")]);
    assert!(matches!(config.database, Database::Sqlite(_)));
    assert_eq!(config.warnings, ["DB_HOST is ignored because DATABASE_URL is set"]);
}

#[test]
fn log_levels_are_understood_in_several_tongues() {
    for (text, expected) in [("WARNING", LogLevel::Warn), ("Debug", LogLevel::Debug), ("CRITICAL", LogLevel::Error)] {
        assert_eq!(accepted(&[("LOG_LEVEL", text)]).log_level, expected);
    }
}

#[test]
fn a_misspelt_variable_is_warned_about_and_a_foreign_one_is_not() {
    let config = accepted(&[("SECRETKEY", GOOD_KEY), ("PATH", "/bin"), ("MAX_DAILY_LOSSES", "1"), ("HOME", "/")]);
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert!(config.warnings[0].contains("MAX_DAILY_LOSSES") && config.warnings[0].contains("MAX_DAILY_LOSS?"));
    assert!(config.warnings[1].contains("SECRETKEY") && !config.warnings[1].contains(GOOD_KEY));
}

#[test]
fn a_client_is_not_stopped_by_settings_it_does_not_use() {
    let environ: Environ =
        [("MAX_DAILY_LOSS", "x"), ("ENVIRONMENT", "production"), ("API_HOST", "::")].into_iter().collect();
    assert_eq!(ClientConfig::read(&environ).unwrap().url(), "http://[::1]:8000");
    let environ: Environ = [("API_PORT", "x")].into_iter().collect();
    assert!(ClientConfig::read(&environ).unwrap_err().to_string().starts_with("API_PORT"));
    let environ: Environ =
        [("NEXUS_DATA_DIR", "/srv/nexus"), ("NEXUS_CONFIG", "/does/not/exist")].into_iter().collect();
    assert_eq!(data_dir(&environ).unwrap(), PathBuf::from("/srv/nexus"));
}
