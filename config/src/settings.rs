//! The closed table of settings: the one place where a name, its default, its range and its meaning are written.
//!
//! Reading, `nexus config show`, the checks of the file's keys, the warnings about misspelt variables and the generated
//! reference all walk this table. Where development and production differ, the default is in `profiles/*.toml`.

/// What a setting's text may say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number from `min` to `max`.
    Whole {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// A decimal number from `min` to `max`, at most 8 decimal places.
    Decimal {
        /// The smallest.
        min: &'static str,
        /// The largest.
        max: &'static str,
    },
    /// One of these words, in any case.
    Choice(&'static [&'static str]),
    /// An IP address.
    Address,
    /// IP networks, separated by commas.
    Networks,
    /// Web origins, separated by commas.
    Origins,
    /// Trades a day by timeframe.
    Timeframes,
    /// A path.
    Path,
    /// Any text.
    Text,
    /// What names begin with.
    Prefix,
    /// A text that is never shown.
    Secret,
    /// The URL of a database; never shown in full.
    DatabaseUrl,
    /// The URL of a Redis server; never shown.
    RedisUrl,
    /// The URL of a web hook; never shown.
    WebhookUrl,
}

impl Kind {
    /// What is allowed, in words.
    pub fn allowed(self) -> String {
        match self {
            Self::Flag => "true or false".into(),
            Self::Whole { min, max } => format!("a whole number from {min} to {max}"),
            Self::Decimal { min, max } => format!("a decimal number from {min} to {max}"),
            Self::Choice(words) => words.join(", "),
            Self::Address => "an IP address, as in 127.0.0.1 or ::1".into(),
            Self::Networks => "IP addresses or networks separated by commas, as in 10.0.0.0/8,::1".into(),
            Self::Origins => "origins separated by commas, as in https://app.example.com, or * alone".into(),
            Self::Timeframes => "timeframe=count pairs separated by commas, as in 9H=2,3H=1".into(),
            Self::Path => "a path (~ is not expanded)".into(),
            Self::Text => "any text".into(),
            Self::Prefix => "1 to 64 letters, digits, dots, underscores, hyphens and colons".into(),
            Self::Secret => "text without control characters".into(),
            Self::DatabaseUrl => "postgres://user:password@host:port/name or sqlite://path".into(),
            Self::RedisUrl => "redis://host:port or rediss://host:port".into(),
            Self::WebhookUrl => "an http:// or https:// address".into(),
        }
    }

    /// Whether the value is kept out of every output, and may be given as a file.
    pub const fn is_secret(self) -> bool {
        matches!(self, Self::Secret | Self::DatabaseUrl | Self::RedisUrl | Self::WebhookUrl)
    }
}

/// One setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    /// Its name, in the environment and in the file.
    pub name: &'static str,
    /// The heading it stands under in the reference.
    pub section: &'static str,
    /// What holds when nobody says otherwise; `None`: unset, or different by profile.
    pub default: Option<&'static str>,
    /// What may be said.
    pub kind: Kind,
    /// What it means.
    pub doc: &'static str,
}

impl Setting {
    /// The setting of this name.
    pub fn find(name: &str) -> Option<&'static Setting> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }
}

/// Settings that are checked, and that nothing in this build acts on yet. Setting one is warned about.
pub(crate) const NOT_IN_FORCE: &[&str] = &["REFRESH_TOKEN_EXPIRE_DAYS", "SESSION_TIMEOUT_MINUTES"];

const fn row(
    section: &'static str,
    name: &'static str,
    default: Option<&'static str>,
    kind: Kind,
    doc: &'static str,
) -> Setting {
    Setting { name, section, default, kind, doc }
}

const fn whole(min: u64, max: u64) -> Kind {
    Kind::Whole { min, max }
}

const fn decimal(min: &'static str, max: &'static str) -> Kind {
    Kind::Decimal { min, max }
}

const GENERAL: &str = "General";
const SERVER: &str = "Server";
const STORAGE: &str = "Storage";
const SIGN_IN: &str = "Sign-in";
const LIMITS: &str = "Limits (the ceilings; the API can only tighten below them)";
const STOPPING: &str = "Stopping and alerts";
const PAPER: &str = "Paper venue (in the file also as keys of a [paper] table, in lower case without PAPER_)";

const MINUTES_IN_A_MONTH: u64 = 31 * 24 * 60;
/// Far above any account, far below what the integers behind amounts can hold.
const AMOUNT_MAX: &str = "1000000000";

/// Every setting, in the order in which people read them.
pub static SETTINGS: &[Setting] = &[
    row(
        GENERAL,
        "ENVIRONMENT",
        Some("development"),
        Kind::Choice(&["development", "production"]),
        "Which profile applies. Production refuses to start with a missing or weak SECRET_KEY, the passwords of an example, or cheap password hashes.",
    ),
    row(GENERAL, "NEXUS_CONFIG", None, Kind::Path, "A TOML file with settings. Can only be set in the environment."),
    row(
        GENERAL,
        "NEXUS_DATA_DIR",
        Some("./data"),
        Kind::Path,
        "The folder of the ledger, the `HALT` file and the lock. One engine per folder.",
    ),
    row(
        GENERAL,
        "LOG_LEVEL",
        Some("info"),
        Kind::Choice(&["error", "warn", "info", "debug", "trace", "warning", "critical"]),
        "The least severe log line that is written. `warning` means `warn`, `critical` means `error`.",
    ),
    row(GENERAL, "LOG_FORMAT", None, Kind::Choice(&["json", "pretty"]), "How log lines on stderr look."),
    row(SERVER, "API_HOST", Some("127.0.0.1"), Kind::Address, "The address the HTTP server listens on."),
    row(SERVER, "API_PORT", Some("8000"), whole(0, 65_535), "The port it listens on. 0 takes any free one."),
    row(SERVER, "API_DEBUG", Some("false"), Kind::Flag, "Lowers LOG_LEVEL to debug."),
    row(SERVER, "TLS_CERT", None, Kind::Path, "The certificate chain (PEM). Set together with TLS_KEY."),
    row(SERVER, "TLS_KEY", None, Kind::Path, "The private key (PEM). Set together with TLS_CERT."),
    row(
        SERVER,
        "TRUSTED_PROXIES",
        Some(""),
        Kind::Networks,
        "Proxies whose X-Forwarded-For is believed. Empty: none is.",
    ),
    row(
        SERVER,
        "METRICS_ALLOWED_IPS",
        Some("127.0.0.0/8,::1/128"),
        Kind::Networks,
        "Who may read the metrics. Empty: nobody.",
    ),
    row(SERVER, "CORS_ORIGINS", Some(""), Kind::Origins, "Web pages of these origins may call the API. Empty: none."),
    row(
        STORAGE,
        "DATABASE_URL",
        None,
        Kind::DatabaseUrl,
        "Where the ledger is. Unset, and without DB_HOST: SQLite in NEXUS_DATA_DIR.",
    ),
    row(STORAGE, "DB_HOST", None, Kind::Text, "The PostgreSQL host, instead of DATABASE_URL."),
    row(STORAGE, "DB_PORT", Some("5432"), whole(1, 65_535), "The PostgreSQL port."),
    row(STORAGE, "DB_NAME", None, Kind::Text, "The name of the database. Required with DB_HOST."),
    row(STORAGE, "DB_USER", None, Kind::Text, "The database user. Required with DB_HOST."),
    row(STORAGE, "DB_PASSWORD", None, Kind::Secret, "The database user's password."),
    row(STORAGE, "DB_POOL_SIZE", Some("10"), whole(1, 1_000), "Database connections kept open."),
    row(STORAGE, "DB_MAX_OVERFLOW", Some("20"), whole(0, 1_000), "Connections opened beyond DB_POOL_SIZE under load."),
    row(
        STORAGE,
        "LEASE_SECONDS",
        Some("5"),
        whole(2, 300),
        "How long an instance owns the accounts of a PostgreSQL ledger without renewing; another one takes over afterwards.",
    ),
    row(
        STORAGE,
        "REDIS_URL",
        None,
        Kind::RedisUrl,
        "Where the hot state (fast copies of what the ledger holds) is. Unset: in memory.",
    ),
    row(
        STORAGE,
        "NEXUS_REDIS_PREFIX",
        Some("nexus"),
        Kind::Prefix,
        "What every key and channel in Redis begins with; the id of the ledger follows.",
    ),
    row(
        SIGN_IN,
        "SECRET_KEY",
        None,
        Kind::Secret,
        "Signs tokens and peppers passwords. At least 32 random bytes, required in production \
         (`openssl rand -hex 32`); in development one is made up when it is unset.",
    ),
    row(SIGN_IN, "SECRET_KEY_PREVIOUS", None, Kind::Secret, "The key before a rotation, still accepted."),
    row(
        SIGN_IN,
        "ADMIN_PASSWORD",
        None,
        Kind::Secret,
        "The password of the user `admin`, who is made on the first start. Unset: generated then and shown once. Commands \
         sign in with it, too.",
    ),
    row(SIGN_IN, "ACCESS_TOKEN_EXPIRE_MINUTES", Some("15"), whole(1, 1_440), "How long an access token lives."),
    row(SIGN_IN, "REFRESH_TOKEN_EXPIRE_DAYS", Some("7"), whole(1, 365), "How long a refresh token lives."),
    row(
        SIGN_IN,
        "SESSION_TIMEOUT_MINUTES",
        Some("30"),
        whole(1, 10_080),
        "How long a session may be idle before it ends.",
    ),
    row(SIGN_IN, "MAX_LOGIN_ATTEMPTS", Some("5"), whole(1, 1_000), "Failed logins after which a name is locked."),
    row(SIGN_IN, "LOCKOUT_MINUTES", Some("15"), whole(1, 10_080), "How long a locked name stays locked."),
    row(SIGN_IN, "BCRYPT_ROUNDS", Some("12"), whole(4, 20), "The cost of a password hash. At least 12 in production."),
    row(SIGN_IN, "REQUIRE_ADMIN_MFA", None, Kind::Flag, "Whether admins need a second factor."),
    row(SIGN_IN, "ADMIN_ALLOWED_IPS", Some(""), Kind::Networks, "Where admins may call from. Empty: anywhere."),
    row(
        LIMITS,
        "MAX_DAILY_LOSS",
        Some("9.99"),
        decimal("0.01", AMOUNT_MAX),
        "The most that a user may lose in a UTC day: realised loss, risk of open positions and risk of accepted entries, \
         together, in the currency of the account.",
    ),
    row(
        LIMITS,
        "MAX_RISK_PERCENT",
        Some("1.0"),
        decimal("0.0001", "100"),
        "The most that one trade may risk, in percent of equity.",
    ),
    row(
        LIMITS,
        "TIMEFRAME_LIMITS",
        Some("9H=2,6H=2,3H=1"),
        Kind::Timeframes,
        "Trades a user may enter in a UTC day, by timeframe. A timeframe that is not listed may not be traded.",
    ),
    row(
        LIMITS,
        "DUPLICATE_WINDOW_MINUTES",
        Some("60"),
        whole(0, MINUTES_IN_A_MONTH),
        "For how long after an acceptance the same symbol, side and timeframe is refused.",
    ),
    row(LIMITS, "MAX_SIGNAL_AGE_SECONDS", Some("120"), whole(1, 86_400), "The oldest signal that is acted on."),
    row(
        LIMITS,
        "FUTURE_TOLERANCE_SECONDS",
        Some("5"),
        whole(0, 3_600),
        "How far ahead of our clock the time of a signal or a price may be.",
    ),
    row(
        LIMITS,
        "MAX_MARK_AGE_SECONDS",
        Some("60"),
        whole(1, 86_400),
        "The oldest market price that an entry is decided on.",
    ),
    row(
        LIMITS,
        "PRICE_COLLAR_PERCENT",
        Some("2.0"),
        decimal("0.0001", "100"),
        "How far an entry price may be from the market, in percent.",
    ),
    row(
        LIMITS,
        "MAX_OPEN_POSITIONS",
        Some("5"),
        whole(1, 10_000),
        "Positions that one user may have open or being opened.",
    ),
    row(
        LIMITS,
        "MAX_ORDERS_PER_MINUTE",
        Some("60"),
        whole(1, 100_000),
        "Entries of one user accepted within any 60 seconds.",
    ),
    row(
        LIMITS,
        "MAX_ORDER_VALUE",
        Some("100000"),
        decimal("0.01", AMOUNT_MAX),
        "The most that one order may be worth, in the currency of the account.",
    ),
    row(
        LIMITS,
        "MAX_ORDER_QUANTITY",
        Some("1000000"),
        decimal("0.00000001", AMOUNT_MAX),
        "The most units in one order.",
    ),
    row(
        LIMITS,
        "MAX_EXPOSURE",
        Some("250000"),
        decimal("0.01", AMOUNT_MAX),
        "The most that all positions and working entries of a user may be worth together.",
    ),
    row(
        LIMITS,
        "LOSS_STREAK",
        Some("5"),
        whole(1, 1_000),
        "So many losing trades in a row start a cool-down, in which entries are refused.",
    ),
    row(
        LIMITS,
        "LOSS_STREAK_COOLDOWN_MINUTES",
        Some("60"),
        whole(0, MINUTES_IN_A_MONTH),
        "How long a cool-down lasts.",
    ),
    row(
        LIMITS,
        "MAX_REPEATED_EXECUTIONS",
        Some("10"),
        whole(1, 10_000),
        "Entries of the same symbol, side and quantity accepted within an hour.",
    ),
    row(
        LIMITS,
        "SLIPPAGE_ALLOWANCE_PERCENT",
        Some("0.02"),
        decimal("0", "100"),
        "What a fill may slip, in percent of its price. Counted in every worst-case loss.",
    ),
    row(STOPPING, "RESUME_HOLD_SECONDS", None, whole(0, 86_400), "For how long after a stop a resume is refused."),
    row(STOPPING, "RESUME_APPROVALS", Some("1"), whole(1, 5), "How many admins must agree to a resume."),
    row(STOPPING, "ALERT_WEBHOOK_URL", None, Kind::WebhookUrl, "Where alerts are posted."),
    row(
        PAPER,
        "PAPER_SEED",
        Some("0"),
        whole(0, u64::MAX),
        "The seed of all chance: the same seed gives the same faults in every run.",
    ),
    row(PAPER, "PAPER_LATENCY_MS", Some("0"), whole(0, 60_000), "How long the venue takes to answer."),
    row(
        PAPER,
        "PAPER_SLIPPAGE_PERCENT",
        Some("0"),
        decimal("0", "100"),
        "How much worse than the market an order fills, in percent of the price.",
    ),
    row(
        PAPER,
        "PAPER_PARTIAL_FILL_PERCENT",
        Some("0"),
        decimal("0", "100"),
        "The percentage of orders that are filled in parts.",
    ),
    row(PAPER, "PAPER_REJECT_PERCENT", Some("0"), decimal("0", "100"), "The percentage of orders that are rejected."),
    row(
        PAPER,
        "PAPER_LOST_REPLY_PERCENT",
        Some("0"),
        decimal("0", "100"),
        "The percentage of orders that are taken while the answer is lost.",
    ),
    row(
        PAPER,
        "PAPER_LOST_REQUEST_PERCENT",
        Some("0"),
        decimal("0", "100"),
        "The percentage of orders that never arrive.",
    ),
];
