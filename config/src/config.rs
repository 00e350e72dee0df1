//! The settings as values, complete and consistent.
//!
//! `Config::read` is the only way to one: it reads every row of the table, holds what settings mean for each other
//! (a certificate needs its key, production needs a real signing key), and returns everything that is wrong at once.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use nexus_engine::instrument::Instrument;
use nexus_engine::limits::Limits;
use nexus_engine::units::{NumberError, Percent};
use secrecy::{ExposeSecret, SecretString};

use crate::error::{ConfigError, ConfigErrors};
use crate::instruments;
use crate::layers::{Environ, Layers, Origin, Value, default_text, gather};
use crate::secrets::{KEY_BYTES_MIN, password_weakness, url_password, weakness};
use crate::settings::{Kind, NOT_IN_FORCE, SETTINGS, Setting};
use crate::values::{self, Environment, LogFormat, LogLevel, Parsed};

/// The cheapest password hash that production accepts.
const BCRYPT_ROUNDS_PRODUCTION_MIN: u32 = 12;

/// Every setting, checked. The fields are named like the variables, in lower case.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which profile holds.
    pub environment: Environment,
    /// Where the ledger, `HALT` and the lock live (`NEXUS_DATA_DIR`).
    pub data_dir: PathBuf,
    /// The least important log line that is written.
    pub log_level: LogLevel,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Where the HTTP server listens.
    pub api_host: IpAddr,
    /// Its port; 0 takes any free one.
    pub api_port: u16,
    /// Lowers the log level to debug.
    pub api_debug: bool,
    /// The certificate chain; set if and only if `tls_key` is.
    pub tls_cert: Option<PathBuf>,
    /// Its private key.
    pub tls_key: Option<PathBuf>,
    /// Proxies whose X-Forwarded-For counts.
    pub trusted_proxies: Vec<IpNet>,
    /// Who may read the metrics.
    pub metrics_allowed_ips: Vec<IpNet>,
    /// Web origins that may call the API; `["*"]` for all.
    pub cors_origins: Vec<String>,
    /// The ledger.
    pub database: Database,
    /// Database connections kept open.
    pub db_pool_size: u32,
    /// Connections beyond that under load.
    pub db_max_overflow: u32,
    /// How long an instance owns the accounts without renewing.
    pub lease_seconds: u64,
    /// The hot state; in the process when unset.
    pub redis_url: Option<SecretString>,
    /// What its keys begin with.
    pub redis_prefix: String,
    /// Signs tokens. Set in production; in development whoever signs makes one up when it is unset.
    pub secret_key: Option<SecretString>,
    /// The key before a rotation.
    pub secret_key_previous: Option<SecretString>,
    /// The first admin's password; generated when unset.
    pub admin_password: Option<SecretString>,
    /// How long an access token lives.
    pub access_token_expire_minutes: u64,
    /// How long a refresh token lives.
    pub refresh_token_expire_days: u64,
    /// A session that idles this long ends.
    pub session_timeout_minutes: u64,
    /// Failed logins until a name is locked.
    pub max_login_attempts: u32,
    /// How long it stays locked.
    pub lockout_minutes: u64,
    /// The cost of a password hash.
    pub bcrypt_rounds: u32,
    /// Whether admins need a second factor.
    pub require_admin_mfa: bool,
    /// Where admins may call from; empty: anywhere.
    pub admin_allowed_ips: Vec<IpNet>,
    /// The ceilings.
    pub limits: Limits,
    /// How long after a stop a resume is refused.
    pub resume_hold_seconds: u64,
    /// How many admins must agree to a resume.
    pub resume_approvals: u32,
    /// Where alerts are posted.
    pub alert_webhook_url: Option<SecretString>,
    /// What can be traded.
    pub instruments: Vec<Instrument>,
    /// How the paper venue behaves.
    pub paper: PaperConfig,
    /// What is allowed, and still worth a word to the operator.
    pub warnings: Vec<String>,
    /// Every setting with its masked value and its origin, in the order of the table.
    pub effective: Vec<Effective>,
    /// The file that names the instruments; `None`: the examples.
    pub instruments_path: Option<PathBuf>,
}

/// Where the ledger lives.
#[derive(Clone, Debug)]
pub enum Database {
    /// In this file.
    Sqlite(PathBuf),
    /// In the PostgreSQL database of this URL.
    Postgres(SecretString),
}

/// How the paper venue behaves; all zero: it takes every order and fills it at the market.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PaperConfig {
    /// Chooses the same faults in every run.
    pub seed: u64,
    /// How long it takes to answer.
    pub latency_ms: u64,
    /// How much worse than the market fills are.
    pub slippage_percent: Percent,
    /// Orders that are filled in parts.
    pub partial_fill_percent: Percent,
    /// Orders that are rejected.
    pub reject_percent: Percent,
    /// Orders that are taken, but whose answer is lost.
    pub lost_reply_percent: Percent,
    /// Orders that never arrive.
    pub lost_request_percent: Percent,
}

/// One setting as it is in force, fit for printing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effective {
    /// Its name.
    pub name: &'static str,
    /// Its value, masked when secret; `None` when unset.
    pub value: Option<String>,
    /// Where it came from.
    pub origin: Origin,
    /// Whether the value is masked.
    pub is_secret: bool,
}

impl Config {
    /// Reads the settings of this process.
    pub fn load() -> Result<Config, ConfigErrors> {
        Self::read(&Environ::of_process())
    }

    /// Reads the settings from these variables, and from the file that they name.
    pub fn read(environ: &Environ) -> Result<Config, ConfigErrors> {
        let mut reader = Reader::new(gather(environ));
        let config = reader.config();
        if reader.layers.errors.is_empty() { Ok(config) } else { Err(ConfigErrors(reader.layers.errors)) }
    }

    /// What is set here and not yet part of this build: serving on without it would be a lie.
    pub fn unsupported(&self) -> Vec<String> {
        let is_mfa_asked = self.require_admin_mfa && self.is_named("REQUIRE_ADMIN_MFA");
        let asked = [
            (self.tls_cert.is_some(), "TLS_CERT: serving TLS"),
            (is_mfa_asked, "REQUIRE_ADMIN_MFA: a second factor"),
            (self.resume_approvals > 1, "RESUME_APPROVALS: a resume by more than one admin"),
            (self.alert_webhook_url.is_some(), "ALERT_WEBHOOK_URL: posting alerts"),
        ];
        asked
            .iter()
            .filter(|(is_asked, _)| *is_asked)
            .map(|(_, what)| format!("{what} is not in this build yet"))
            .collect()
    }

    /// Whether somebody set this, beyond what the build brings.
    fn is_named(&self, name: &str) -> bool {
        let entry = self.effective.iter().find(|entry| entry.name == name);
        entry.is_some_and(|entry| !matches!(entry.origin, Origin::Default | Origin::Profile(_)))
    }
}

/// Turns texts into values, and keeps what is wrong.
pub(crate) struct Reader {
    pub(crate) layers: Layers,
}

impl Reader {
    pub(crate) fn new(layers: Layers) -> Self {
        Self { layers }
    }

    fn config(&mut self) -> Config {
        let environment = self.read("ENVIRONMENT", values::environment);
        let data_dir = self.read("NEXUS_DATA_DIR", values::path);
        let instruments_path = self.layers.instruments_path.take();
        let mut config = Config {
            database: self.database(&data_dir),
            environment,
            data_dir,
            log_level: self.read("LOG_LEVEL", values::log_level),
            log_format: self.read("LOG_FORMAT", values::log_format),
            api_host: self.read("API_HOST", values::address),
            api_port: self.read("API_PORT", values::whole),
            api_debug: self.read("API_DEBUG", values::flag),
            tls_cert: self.optional("TLS_CERT", values::path),
            tls_key: self.optional("TLS_KEY", values::path),
            trusted_proxies: self.read("TRUSTED_PROXIES", values::networks),
            metrics_allowed_ips: self.read("METRICS_ALLOWED_IPS", values::networks),
            cors_origins: self.read("CORS_ORIGINS", values::origins),
            db_pool_size: self.read("DB_POOL_SIZE", values::whole),
            db_max_overflow: self.read("DB_MAX_OVERFLOW", values::whole),
            lease_seconds: self.read("LEASE_SECONDS", values::whole),
            redis_url: self.secret("REDIS_URL", |text, _| values::url(text, &["redis", "rediss"])),
            redis_prefix: self.read("NEXUS_REDIS_PREFIX", values::prefix),
            secret_key: self.secret("SECRET_KEY", values::text),
            secret_key_previous: self.secret("SECRET_KEY_PREVIOUS", values::text),
            admin_password: self.secret("ADMIN_PASSWORD", values::text),
            access_token_expire_minutes: self.read("ACCESS_TOKEN_EXPIRE_MINUTES", values::whole),
            refresh_token_expire_days: self.read("REFRESH_TOKEN_EXPIRE_DAYS", values::whole),
            session_timeout_minutes: self.read("SESSION_TIMEOUT_MINUTES", values::whole),
            max_login_attempts: self.read("MAX_LOGIN_ATTEMPTS", values::whole),
            lockout_minutes: self.read("LOCKOUT_MINUTES", values::whole),
            bcrypt_rounds: self.read("BCRYPT_ROUNDS", values::whole),
            require_admin_mfa: self.read("REQUIRE_ADMIN_MFA", values::flag),
            admin_allowed_ips: self.read("ADMIN_ALLOWED_IPS", values::networks),
            limits: self.limits(),
            resume_hold_seconds: self.read("RESUME_HOLD_SECONDS", values::whole),
            resume_approvals: self.read("RESUME_APPROVALS", values::whole),
            alert_webhook_url: self.secret("ALERT_WEBHOOK_URL", |text, _| values::url(text, &["https", "http"])),
            instruments: self.instruments(instruments_path.as_ref()),
            paper: self.paper(),
            warnings: std::mem::take(&mut self.layers.warnings),
            effective: self.effective(),
            instruments_path,
        };
        self.check_together(&mut config);
        config
    }

    fn limits(&mut self) -> Limits {
        Limits {
            version: Limits::default().version,
            max_daily_loss: self.decimal("MAX_DAILY_LOSS"),
            max_risk_percent: self.decimal("MAX_RISK_PERCENT"),
            timeframes: self.read("TIMEFRAME_LIMITS", values::timeframes),
            duplicate_window: self.duration("DUPLICATE_WINDOW_MINUTES", 60),
            max_signal_age: self.duration("MAX_SIGNAL_AGE_SECONDS", 1),
            future_tolerance: self.duration("FUTURE_TOLERANCE_SECONDS", 1),
            max_mark_age: self.duration("MAX_MARK_AGE_SECONDS", 1),
            price_collar_percent: self.decimal("PRICE_COLLAR_PERCENT"),
            max_open_positions: self.read("MAX_OPEN_POSITIONS", values::whole),
            max_orders_per_minute: self.read("MAX_ORDERS_PER_MINUTE", values::whole),
            max_order_value: self.decimal("MAX_ORDER_VALUE"),
            max_order_quantity: self.decimal("MAX_ORDER_QUANTITY"),
            max_exposure: self.decimal("MAX_EXPOSURE"),
            loss_streak: self.read("LOSS_STREAK", values::whole),
            loss_streak_cooldown: self.duration("LOSS_STREAK_COOLDOWN_MINUTES", 60),
            max_repeated_executions: self.read("MAX_REPEATED_EXECUTIONS", values::whole),
            slippage_allowance_percent: self.decimal("SLIPPAGE_ALLOWANCE_PERCENT"),
        }
    }

    fn paper(&mut self) -> PaperConfig {
        PaperConfig {
            seed: self.read("PAPER_SEED", values::whole),
            latency_ms: self.read("PAPER_LATENCY_MS", values::whole),
            slippage_percent: self.decimal("PAPER_SLIPPAGE_PERCENT"),
            partial_fill_percent: self.decimal("PAPER_PARTIAL_FILL_PERCENT"),
            reject_percent: self.decimal("PAPER_REJECT_PERCENT"),
            lost_reply_percent: self.decimal("PAPER_LOST_REPLY_PERCENT"),
            lost_request_percent: self.decimal("PAPER_LOST_REQUEST_PERCENT"),
        }
    }

    fn instruments(&mut self, path: Option<&PathBuf>) -> Vec<Instrument> {
        let source = path.map_or("instruments.toml".into(), |path| path.display().to_string());
        let instruments = instruments::read(&self.layers.instruments, &source, &mut self.layers.errors);
        if self.layers.instruments.is_empty() {
            self.layers.errors.push(ConfigError {
                name: "instruments".into(),
                place: source,
                problem: "is empty, so nothing could be traded".into(),
                allowed: "at least one [[instruments]] table".into(),
            });
        }
        instruments
    }

    fn database(&mut self, data_dir: &std::path::Path) -> Database {
        let embedded = || Database::Sqlite(data_dir.join("nexus.db"));
        let parts = self.database_parts();
        let Some(url) = self.secret("DATABASE_URL", |text, _| database_url(text)) else {
            let is_refused = self.layers.values.contains_key("DATABASE_URL");
            return parts.filter(|_| !is_refused).map_or_else(embedded, Database::Postgres);
        };
        if parts.is_some() {
            self.layers.warnings.push("DB_HOST is ignored because DATABASE_URL is set".into());
        }
        match sqlite_path(url.expose_secret()) {
            Some(path) => Database::Sqlite(path.into()),
            None => Database::Postgres(url),
        }
    }

    /// The URL that the `DB_…` settings stand for. Half of them would silently mean another database.
    fn database_parts(&mut self) -> Option<SecretString> {
        let host = self.optional("DB_HOST", values::text);
        let port: u16 = self.read("DB_PORT", values::whole);
        let name = self.optional("DB_NAME", values::text);
        let user = self.optional("DB_USER", values::text);
        let password = self.secret("DB_PASSWORD", values::text);
        let is_any_set = host.is_some() || name.is_some() || user.is_some() || password.is_some();
        if !is_any_set || (host.is_none() && self.layers.values.contains_key("DATABASE_URL")) {
            return None;
        }
        for (part, is_set) in [("DB_HOST", host.is_some()), ("DB_NAME", name.is_some()), ("DB_USER", user.is_some())] {
            if !is_set {
                self.fail(part, "is missing beside the other DB_ settings", "set it, or use DATABASE_URL");
            }
        }
        let host = host.map(|host| if host.contains(':') { format!("[{host}]") } else { host })?;
        let password = password.map(|p| format!(":{}", percent_encoded(p.expose_secret()))).unwrap_or_default();
        let (user, name) = (percent_encoded(&user?), percent_encoded(&name?));
        Some(SecretString::from(format!("postgres://{user}{password}@{host}:{port}/{name}")))
    }

    fn effective(&self) -> Vec<Effective> {
        let entry = |setting: &Setting| {
            let value = self.layers.values.get(setting.name);
            Effective {
                name: setting.name,
                value: value.map(|value| shown(setting.kind, &value.text)),
                origin: value.map_or(Origin::Default, |value| value.origin.clone()),
                is_secret: setting.kind.is_secret(),
            }
        };
        SETTINGS.iter().map(entry).collect()
    }

    /// What settings mean for each other.
    fn check_together(&mut self, config: &mut Config) {
        let is_production = config.environment.is_production();
        for (name, other, is_alone) in [
            ("TLS_CERT", "TLS_KEY", config.tls_cert.is_some() && config.tls_key.is_none()),
            ("TLS_KEY", "TLS_CERT", config.tls_key.is_some() && config.tls_cert.is_none()),
        ] {
            if is_alone {
                self.fail(name, &format!("is set without {other}"), "both or none");
            }
        }
        if is_production && config.bcrypt_rounds < BCRYPT_ROUNDS_PRODUCTION_MIN {
            let problem = format!("{} is too cheap for production", config.bcrypt_rounds);
            self.fail("BCRYPT_ROUNDS", &problem, &format!("at least {BCRYPT_ROUNDS_PRODUCTION_MIN} in production"));
        }
        let allowed = format!("at least {KEY_BYTES_MIN} random bytes, as from `openssl rand -hex 32`");
        if is_production && !self.layers.values.contains_key("SECRET_KEY") {
            self.fail("SECRET_KEY", "is required in production", &allowed);
        }
        for (name, key) in [("SECRET_KEY", &config.secret_key), ("SECRET_KEY_PREVIOUS", &config.secret_key_previous)] {
            match key.as_ref().and_then(|key| weakness(key.expose_secret())) {
                Some(problem) if is_production => self.fail(name, &problem, &allowed),
                Some(problem) => config.warnings.push(format!("{name} {problem}; production refuses it")),
                None => {}
            }
        }
        if is_production {
            self.refuse_known_passwords();
        }
        if is_production && config.cors_origins.iter().any(|origin| origin == "*") {
            config.warnings.push("CORS_ORIGINS is * in production: every web page may call the API".into());
        }
        if config.require_admin_mfa && !config.is_named("REQUIRE_ADMIN_MFA") {
            let text = "REQUIRE_ADMIN_MFA is on in this profile, but a second factor is not in this build yet: \
                        admins sign in by password alone";
            config.warnings.push(text.into());
        }
        let idle = NOT_IN_FORCE.iter().filter(|name| config.is_named(name));
        let idle: Vec<_> =
            idle.map(|name| format!("{name} is set, but nothing in this build acts on it yet")).collect();
        config.warnings.extend(idle);
        if is_production && config.api_debug {
            config.warnings.push("API_DEBUG is on in production".into());
        }
    }

    /// The passwords of an example, or of an image as it is shipped, are everybody's. None at all is another matter: a
    /// server may know who connects by other means.
    fn refuse_known_passwords(&mut self) {
        let text = |name: &str| self.layers.values.get(name).map(|value| value.text.as_str());
        let in_force = match text("DATABASE_URL") {
            Some(url) => ("DATABASE_URL", "its password ", url_password(url)),
            None => ("DB_PASSWORD", "", text("DB_PASSWORD").map(ToOwned::to_owned)),
        };
        let passwords = [
            ("ADMIN_PASSWORD", "", text("ADMIN_PASSWORD").map(ToOwned::to_owned)),
            in_force,
            ("REDIS_URL", "its password ", text("REDIS_URL").and_then(url_password)),
        ];
        for (name, whose, password) in passwords {
            if let Some(problem) = password.and_then(|password| password_weakness(&password)) {
                self.fail(name, &format!("{whose}{problem}"), "a password of its own, as from `openssl rand -hex 24`");
            }
        }
    }

    fn fail(&mut self, name: &str, problem: &str, allowed: &str) {
        let place = self.layers.values.get(name).map(|value| value.origin.to_string()).unwrap_or_default();
        let (name, problem, allowed) = (name.to_owned(), problem.to_owned(), allowed.to_owned());
        self.layers.errors.push(ConfigError { name, place, problem, allowed });
    }

    /// The value of a setting that always has one. What is refused is reported, and the default read in its place so
    /// that reading goes on.
    pub(crate) fn read<T>(&mut self, name: &str, parse: impl Fn(&str, Kind) -> Parsed<T>) -> T {
        let setting = Setting::find(name).expect("only rows of the table are read");
        if let Some(value) = self.layers.values.get(name) {
            match parse(&value.text, setting.kind) {
                Ok(value) => return value,
                Err(problem) => self.fail(name, &problem, &setting.kind.allowed()),
            }
        }
        let Value { text, .. } = default_text(setting, self.layers.environment).expect("the row has a default");
        parse(&text, setting.kind).expect("the default is valid")
    }

    pub(crate) fn optional<T>(&mut self, name: &str, parse: impl Fn(&str, Kind) -> Parsed<T>) -> Option<T> {
        let setting = Setting::find(name).expect("only rows of the table are read");
        match parse(&self.layers.values.get(name)?.text, setting.kind) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.fail(name, &problem, &setting.kind.allowed());
                None
            }
        }
    }

    pub(crate) fn secret(&mut self, name: &str, parse: impl Fn(&str, Kind) -> Parsed<String>) -> Option<SecretString> {
        self.optional(name, parse).map(SecretString::from)
    }

    fn decimal<T: std::str::FromStr<Err = NumberError> + PartialOrd>(&mut self, name: &str) -> T {
        self.read(name, values::decimal)
    }

    fn duration(&mut self, name: &str, unit_seconds: u64) -> Duration {
        Duration::from_secs(self.read::<u64>(name, values::whole) * unit_seconds)
    }
}

/// What may be seen of a value. An SQLite URL holds no password.
fn shown(kind: Kind, text: &str) -> String {
    let is_open = !kind.is_secret() || (kind == Kind::DatabaseUrl && text.starts_with("sqlite:"));
    if is_open { text.to_owned() } else { "********".to_owned() }
}

/// A URL of one of the two databases. No part of it is repeated in the error.
fn database_url(text: &str) -> Parsed<String> {
    if !text.starts_with("sqlite:") {
        return values::url(text, &["postgres", "postgresql"]);
    }
    match sqlite_path(text) {
        None | Some("") => Err("names no file".into()),
        Some(path) if path.contains(":memory:") => Err("is in memory; a ledger must not forget".into()),
        Some(path) if path.contains(['?', '#']) => Err("has parameters".into()),
        Some(path) if path.starts_with("/./") => Err("begins with /./; a relative path is sqlite://./path".into()),
        Some(path) => values::text(path, Kind::Path).map(|_| text.to_owned()),
    }
}

fn sqlite_path(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("sqlite:")?;
    let path = rest.strip_prefix("//").unwrap_or(rest);
    Some(path.strip_suffix("?mode=rwc").unwrap_or(path))
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
