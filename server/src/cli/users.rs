//! `nexus user`: who trades, and within which limits.
//!
//! Users are named by their names; ids work, too. Limits are assignments (`max_daily_loss=5.00`) to the names that the API
//! uses. Whether a change is allowed is the engine's to say: only the names are checked here.

use std::process::ExitCode;

use anyhow::Context;
use nexus_config::Environ;
use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use super::args::{AddUserArgs, UserArgs, UserCommand};
use super::client::{Body, Client};
use super::output::{self, field};
use super::secret;

/// The limits that may be tightened, as the API names them; amounts are sent as texts, counts as numbers.
const LIMITS: &[&str] = &[
    "max_daily_loss",
    "max_risk_percent",
    "timeframes",
    "duplicate_window_minutes",
    "max_signal_age_seconds",
    "future_tolerance_seconds",
    "max_mark_age_seconds",
    "price_collar_percent",
    "max_open_positions",
    "max_orders_per_minute",
    "max_order_value",
    "max_order_quantity",
    "max_exposure",
    "loss_streak",
    "loss_streak_cooldown_minutes",
    "max_repeated_executions",
    "slippage_allowance_percent",
];

/// A limit and its new value.
pub(crate) type Assignment = (&'static str, Value);

/// Reads `name=value`.
pub(crate) fn parse_assignment(text: &str) -> Result<Assignment, String> {
    let (name, value) = text.split_once('=').ok_or("has no =")?;
    let name = LIMITS.iter().find(|known| **known == name);
    let name = name.copied().ok_or_else(|| format!("is none of the limits: {}", LIMITS.join(", ")))?;
    if name == "timeframes" {
        return Ok((name, parse_timeframes(value)?));
    }
    let is_count = !name.ends_with("percent")
        && !["max_daily_loss", "max_order_value", "max_order_quantity", "max_exposure"].contains(&name);
    let count = if is_count { value.parse::<u32>().ok() } else { None };
    Ok((name, count.map_or_else(|| json!(value), |count| json!(count))))
}

fn parse_timeframes(text: &str) -> Result<Value, String> {
    let mut counts = Map::new();
    for pair in text.split(',') {
        let (name, count) = pair.split_once('=').ok_or("needs pairs, as in 3H=1,6H=1")?;
        let count: u32 = count.trim().parse().map_err(|_| format!("{count:?} is not a count"))?;
        if counts.insert(name.trim().to_owned(), json!(count)).is_some() {
            return Err(format!("names {} twice", name.trim()));
        }
    }
    Ok(counts.into())
}

/// Carries out `nexus user …`.
pub(crate) async fn run(args: &UserArgs, environ: &Environ) -> anyhow::Result<ExitCode> {
    // What can be refused without the engine is refused before it is asked.
    let new_user = match &args.command {
        UserCommand::Add(add) => Some(new_user(add)?),
        _ => None,
    };
    let client = Client::signed_in(&args.client, environ).await?;
    let is_json = args.client.json;
    match &args.command {
        UserCommand::Add(_) => add(&client, new_user.context("a new user")?, is_json).await?,
        UserCommand::List => list(&client, is_json).await?,
        UserCommand::Show { user } => show(&client, user, is_json).await?,
        UserCommand::Disable { user } => switch(&client, user, "disable", is_json).await?,
        UserCommand::Enable { user } => switch(&client, user, "enable", is_json).await?,
        UserCommand::Limits { user, changes } => limits(&client, user, changes, is_json).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A user to be made, and the password when it was made up.
struct NewUser {
    body: Value,
    made_up: Option<String>,
}

fn new_user(args: &AddUserArgs) -> anyhow::Result<NewUser> {
    let (password, made_up) = match &args.password_file {
        Some(path) => (secret::read_password(path)?.expose_secret().to_owned(), None),
        None => {
            let password = secret::make_password();
            (password.clone(), Some(password))
        }
    };
    let mut body = json!({"username": args.username, "password": password, "role": args.role.as_str()});
    for (name, value) in [("equity", &args.equity), ("currency", &args.currency)] {
        if let Some(value) = value {
            body[name] = json!(value);
        }
    }
    Ok(NewUser { body, made_up })
}

async fn add(client: &Client, new: NewUser, is_json: bool) -> anyhow::Result<()> {
    let mut user = client.post("/api/v1/users", &new.body).await?;
    if let Some(password) = new.made_up {
        user["password"] = json!(password);
    }
    if is_json {
        return output::json(&user);
    }
    let mut lines =
        vec![("id", field(&user, "id")), ("username", field(&user, "username")), ("role", field(&user, "role"))];
    if user["password"].is_string() {
        lines.push(("password", format!("{} (shown this once)", field(&user, "password"))));
    }
    output::text(&output::pairs(&lines))
}

async fn list(client: &Client, is_json: bool) -> anyhow::Result<()> {
    let users = client.all("/api/v1/users").await?;
    if is_json {
        return output::json(&json!({"items": users}));
    }
    const COLUMNS: [&str; 6] = ["username", "role", "trading_enabled", "equity", "currency", "id"];
    let rows: Vec<[String; 6]> = users.iter().map(|user| COLUMNS.map(|name| field(user, name))).collect();
    output::text(&output::table(["USERNAME", "ROLE", "TRADING", "EQUITY", "CURRENCY", "ID"], &rows))
}

async fn show(client: &Client, user: &str, is_json: bool) -> anyhow::Result<()> {
    let id = client.id_of("user", user).await?;
    let user = client.get(&format!("/api/v1/users/{id}")).await?;
    let risk = client.get(&format!("/api/v1/users/{id}/risk-status")).await?;
    if is_json {
        return output::json(&json!({"user": user, "risk_status": risk}));
    }
    output::text(&in_words(&user, &risk))
}

fn in_words(user: &Value, risk: &Value) -> String {
    let loss = &risk["daily_loss"];
    let count = |name: &str| risk[name].as_array().map_or(0, Vec::len).to_string();
    let timeframe =
        |(name, value): (&String, &Value)| format!("{name} {} of {}", field(value, "used"), field(value, "limit"));
    let timeframes = risk["timeframes"].as_object().map(|all| all.iter().map(timeframe).collect::<Vec<_>>().join(", "));
    output::pairs(&[
        ("username", field(user, "username")),
        ("id", field(user, "id")),
        ("role", field(user, "role")),
        ("trading enabled", field(risk, "trading_enabled")),
        ("trading state", field(risk, "trading_state")),
        ("equity", format!("{} {}", field(risk, "equity"), field(user, "currency")).trim().to_owned()),
        ("day", field(risk, "day")),
        ("daily loss cap", field(loss, "cap")),
        ("  realized", field(loss, "realized")),
        ("  open", field(loss, "open")),
        ("  reserved", field(loss, "reserved")),
        ("  remaining", field(loss, "remaining")),
        (
            "risk per trade",
            format!(
                "{} % ({})",
                field(&risk["risk_per_trade"], "max_percent"),
                field(&risk["risk_per_trade"], "max_amount")
            ),
        ),
        ("timeframes", timeframes.unwrap_or_default()),
        ("open positions", count("open_positions")),
        ("open orders", count("open_orders")),
    ])
}

async fn switch(client: &Client, user: &str, verb: &str, is_json: bool) -> anyhow::Result<()> {
    let id = client.id_of("user", user).await?;
    let answer = client.send(Method::POST, &format!("/api/v1/users/{id}/{verb}"), Body::Empty).await?;
    let enabled = verb == "enable";
    if is_json {
        let shown = if answer.is_null() { json!({"id": id, "trading_enabled": enabled}) } else { answer };
        return output::json(&shown);
    }
    output::text(&format!("{user}: trading {verb}d"))
}

async fn limits(client: &Client, user: &str, changes: &[Assignment], is_json: bool) -> anyhow::Result<()> {
    let id = client.id_of("user", user).await?;
    let answer = if changes.is_empty() {
        client.get(&format!("/api/v1/users/{id}")).await?
    } else {
        let body: Value =
            changes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect::<Map<_, _>>().into();
        client.send(Method::PATCH, &format!("/api/v1/users/{id}/limits"), Body::Json(&body)).await?
    };
    // The answer is the user, or the limits themselves.
    let limits = if answer["limits"].is_object() { &answer["limits"] } else { &answer };
    if is_json {
        return output::json(limits);
    }
    let lines: Vec<(&str, String)> = LIMITS.iter().map(|name| (*name, field(limits, name))).collect();
    output::text(&output::pairs(&lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_read_or_refused_in_words() {
        let table = [
            ("max_daily_loss=5.00", json!("5.00")),
            ("max_daily_loss=5", json!("5")),
            ("max_open_positions=3", json!(3)),
            ("max_open_positions=many", json!("many")),
            ("duplicate_window_minutes=90", json!(90)),
            ("timeframes=3H=1, 6H=2", json!({"3H": 1, "6H": 2})),
        ];
        for (text, expected) in table {
            assert_eq!(parse_assignment(text).map(|(_, value)| value), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("max_daily_loss", "has no ="),
            ("colour=red", "is none of the limits"),
            ("timeframes=3H", "needs pairs"),
            ("timeframes=3H=x", "is not a count"),
            ("timeframes=3H=1,3H=2", "names 3H twice"),
        ] {
            let found = parse_assignment(text).unwrap_err();
            assert!(found.contains(expected), "{text}: {found}");
        }
    }

    #[test]
    fn a_user_is_shown_with_the_risk_of_the_day() {
        let user = json!({"id": "u-1", "username": "ann", "role": "user", "currency": "USD"});
        let risk = json!({
            "trading_enabled": true, "trading_state": "active", "day": "2026-11-24", "equity": "500.00",
            "daily_loss": {"cap": "9.99", "realized": "0.00", "open": "0.00", "reserved": "4.80", "remaining": "5.19"},
            "risk_per_trade": {"max_percent": "1.0", "max_amount": "5.00"},
            "timeframes": {"3H": {"used": 1, "limit": 1}}, "open_positions": [], "open_orders": [{}],
        });
        let text = in_words(&user, &risk);
        for line in
            ["equity           500.00 USD", "  remaining      5.19", "timeframes       3H 1 of 1", "open orders      1"]
        {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
