//! Every bad value is refused with the name, the problem and what is allowed; all of them at once.
//!
//! The first tests walk the whole table, so that a row which nobody reads, or a range which nobody checks, is found
//! without a test of its own.

use nexus_config::{Kind, SETTINGS};

use crate::{accepted, read, refused, settings_file};

/// A text that no setting of this kind may have.
fn nonsense(kind: Kind) -> &'static str {
    match kind {
        Kind::Path => "~/nexus",
        Kind::Text | Kind::Secret => "two\nlines",
        Kind::Prefix => "two words",
        Kind::Flag
        | Kind::Whole { .. }
        | Kind::Decimal { .. }
        | Kind::Choice(_)
        | Kind::Address
        | Kind::Networks
        | Kind::Origins
        | Kind::Timeframes
        | Kind::DatabaseUrl
        | Kind::RedisUrl
        | Kind::WebhookUrl => "nonsense",
    }
}

#[test]
fn every_row_of_the_table_is_read_and_refuses_nonsense_by_name() {
    for setting in SETTINGS.iter().filter(|setting| setting.name != "NEXUS_CONFIG") {
        let text = refused(&[(setting.name, nonsense(setting.kind))]);
        let line = text.lines().find(|line| line.starts_with(setting.name)).unwrap_or_default();
        assert!(line.starts_with(&format!("{} (environment): ", setting.name)), "{}: {text}", setting.name);
        assert!(line.ends_with(&format!("; allowed: {}", setting.kind.allowed())), "{}: {text}", setting.name);
    }
}

#[test]
fn every_range_holds_at_both_ends() {
    for setting in SETTINGS {
        let (inside, outside) = match setting.kind {
            Kind::Whole { min, max } => {
                let below = (min > 0).then(|| (min - 1).to_string());
                let above = u128::from(max) + 1;
                (vec![min.to_string(), max.to_string()], Vec::from_iter(below.into_iter().chain([above.to_string()])))
            }
            Kind::Decimal { min, max } => (vec![min.into(), max.into()], vec!["-1".into(), format!("{max}.00000001")]),
            _ => continue,
        };
        for text in inside {
            accepted(&[(setting.name, &text)]);
        }
        for text in outside {
            let found = refused(&[(setting.name, &text)]);
            assert!(found.starts_with(setting.name), "{}={text}: {found}", setting.name);
        }
    }
}

#[test]
fn each_problem_is_said_in_words() {
    let table: &[(&[(&str, &str)], &str)] = &[
        (
            &[("API_PORT", "99999")],
            "API_PORT (environment): 99999 is out of range; allowed: a whole number from 0 to 65535",
        ),
        (&[("API_PORT", "")], "API_PORT (environment): \"\" is not a whole number"),
        (&[("MAX_DAILY_LOSS", "ten")], "\"ten\" is not a decimal number"),
        (&[("MAX_DAILY_LOSS", "9.999999999")], "has more than 8 decimal places"),
        (&[("MAX_DAILY_LOSS", "0")], "MAX_DAILY_LOSS (environment): 0 is out of range"),
        (&[("TIMEFRAME_LIMITS", "9H=2,9H=1")], "9H is named twice"),
        (&[("TIMEFRAME_LIMITS", "180M=1,3H=1")], "3H is named twice"),
        (&[("TIMEFRAME_LIMITS", "9X=2")], "\"9X\" is not a timeframe"),
        (&[("TIMEFRAME_LIMITS", "")], "nothing could be traded"),
        (&[("ADMIN_ALLOWED_IPS", "10.0.0.0/8,ten")], "\"ten\" is not a network"),
        (&[("CORS_ORIGINS", "*,https://a.example")], "* stands beside other origins"),
        (&[("CORS_ORIGINS", "https://a.example/path")], "is not an origin"),
        (&[("TLS_CERT", "cert.pem")], "TLS_CERT (environment): is set without TLS_KEY; allowed: both or none"),
        (&[("TLS_KEY", "key.pem")], "TLS_KEY (environment): is set without TLS_CERT"),
        (&[("DATABASE_URL", "mysql://u:p@h/d")], "does not begin with postgres:// or postgresql://"),
        (&[("DATABASE_URL", "postgres://")], "names no host"),
        (&[("DATABASE_URL", "sqlite::memory:")], "a ledger must not forget"),
        (&[("DATABASE_URL", "sqlite://")], "names no file"),
        (&[("DATABASE_URL", "sqlite:///./data/nexus.db")], "a relative path is sqlite://./path"),
        (&[("DB_NAME", "nexus")], "DB_HOST: is missing beside the other DB_ settings"),
        (&[("DB_HOST", "localhost"), ("DB_NAME", "nexus")], "DB_USER: is missing"),
        (&[("REDIS_URL", "http://localhost")], "does not begin with redis:// or rediss://"),
        (&[("NEXUS_CONFIG", "/does/not/exist.toml")], "/does/not/exist.toml cannot be read"),
    ];
    for (variables, expected) in table {
        let found = refused(variables);
        assert!(found.contains(expected), "{variables:?}: {found}");
    }
}

#[test]
fn everything_that_is_wrong_is_reported_at_once() {
    let file =
        settings_file("MAX_DAILY_LOS = 5\nAPI_HOST = 7\n[paper]\nlatency = 1\n[[instruments]]\nsymbol = \"eur\"\n");
    let errors = read(&[("NEXUS_CONFIG", &file.path), ("API_PORT", "x"), ("LOG_LEVEL", "loud")]).unwrap_err();
    let mut names: Vec<_> = errors.0.iter().map(|error| error.name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "API_HOST",
        "API_PORT",
        "LOG_LEVEL",
        "MAX_DAILY_LOS",
        "instruments.eur.fee_percent",
        "instruments.eur.lot",
        "instruments.eur.quote",
        "instruments.eur.symbol",
        "instruments.eur.tick",
        "paper.latency",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_file_says_where_it_is_wrong() {
    let table = [
        ("API_PORT = 1\nMAX_DAILY_LOS = 5\n", "nexus.toml:2): is not a setting; allowed: did you mean MAX_DAILY_LOSS?"),
        ("api_port = 1\n", "did you mean API_PORT?"),
        ("[paper]\nslipage_percent = 1\n", "did you mean PAPER_SLIPPAGE_PERCENT?"),
        ("\n\nAPI_PORT = \"x\"\n", "nexus.toml:3): \"x\" is not a whole number"),
        ("API_PORT = 1\nAPI_PORT = 2\n", "nexus.toml:2): cannot be read as TOML"),
        ("PAPER_SEED = 1\n[paper]\nseed = 2\n", "PAPER_SEED"),
        ("API_PORT = { a = 1 }\n", "is a table"),
        ("NEXUS_CONFIG = \"other.toml\"\n", "names a file inside the file"),
        ("instruments = 1\n", "is not a list of tables"),
        ("instruments = []\n", "is empty, so nothing could be traded"),
    ];
    for (text, expected) in table {
        let file = settings_file(text);
        let found = refused(&[("NEXUS_CONFIG", &file.path)]);
        assert!(found.contains(expected), "{text}: {found}");
    }
}

#[test]
fn instruments_are_judged_field_by_field() {
    let good = "symbol='X'\ntick=0.01\nlot=1\nfee_percent=0\nquote='USD'\n";
    let table = [
        (good.replace("tick=0.01", "tick=0"), "instruments.X.tick", "0 is out of range"),
        (good.replace("lot=1", "lot=-1"), "instruments.X.lot", "must not be negative"),
        (good.replace("fee_percent=0", "fee_percent=11"), "instruments.X.fee_percent", "out of range"),
        (good.replace("USD", "usd"), "instruments.X.quote", "is not a currency code"),
        (format!("{good}venue='binance'"), "instruments.X.venue", "is not a venue of this build; allowed: paper"),
        (format!("{good}colour='red'"), "instruments.X.colour", "is not a field of an instrument"),
        (format!("{good}enabled='maybe'"), "instruments.X.enabled", "is neither true nor false"),
        (format!("{good}[[instruments]]\n{good}"), "instruments.X.symbol", "X is named twice"),
    ];
    for (text, name, problem) in table {
        let file = settings_file(&format!("[[instruments]]\n{text}"));
        let found = refused(&[("NEXUS_CONFIG", &file.path)]);
        assert!(found.starts_with(name) && found.contains(problem), "{text}: {found}");
    }
    let file = settings_file(&format!("[[instruments]]\n{good}"));
    let config = accepted(&[("NEXUS_CONFIG", &file.path)]);
    assert_eq!(config.instruments.len(), 1);
    assert!(config.instruments[0].enabled);
}
