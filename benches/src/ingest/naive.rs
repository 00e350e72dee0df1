//! The yardstick for the whole: a plain handler on axum and sqlx, as one would write it first.
//!
//! It decides nothing and reads nothing. For each signal it writes, in one transaction with one statement a table over a pool
//! of 32 connections, the rows that the engine writes for it, into the same tables with the same indexes and the texts that an
//! engine wrote. Two routes: one writes the rows of the turn that decides, which is what the answer stands for; the other one
//! also those of the turn that follows when an accepted entry is filled.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
use sqlx::{Connection as _, Row as _};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::signals::PATH;

/// Where the rows of the turns that follow are written, too.
pub const WHOLE_PATH: &str = "/whole/signals";
const POOL: u32 = 32;

/// What an engine wrote for one signal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    signal: String,
    subscribers: String,
    mark: Option<String>,
    /// The turn that decided it, and those that followed.
    turns: Vec<SampleTurn>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SampleTurn {
    input: String,
    context: String,
    events: String,
}

impl Sample {
    /// What the engine wrote into this database for the only signal that this user ever had.
    pub async fn taken(url: &str, user: Uuid) -> Result<Sample> {
        let mut ledger = PgConnection::connect(url).await?;
        let sql = "SELECT s.signal, s.subscribers, s.mark FROM decisions d JOIN signals s ON s.id = d.signal_id
                    WHERE d.user_id = $1";
        let row = sqlx::query(sql).bind(user).fetch_one(&mut ledger).await?;
        let sql = "SELECT input, context, events FROM events WHERE user_id = $1 ORDER BY version";
        let turns = sqlx::query(sql).bind(user).fetch_all(&mut ledger).await?;
        ensure!(!turns.is_empty(), "a signal without a turn");
        let turn = |row: &sqlx::postgres::PgRow| {
            anyhow::Ok(SampleTurn {
                input: row.try_get("input")?,
                context: row.try_get("context")?,
                events: row.try_get("events")?,
            })
        };
        Ok(Sample {
            signal: row.try_get("signal")?,
            subscribers: row.try_get("subscribers")?,
            mark: row.try_get("mark")?,
            turns: turns.iter().map(turn).collect::<Result<_>>()?,
        })
    }
}

/// What an accepted and a refused signal leave behind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Samples {
    /// When it is accepted.
    pub accepted: Sample,
    /// When it is refused.
    pub refused: Sample,
}

#[derive(Deserialize)]
struct Body {
    id: String,
    symbol: String,
    side: String,
    timeframe: String,
    user_id: Uuid,
}

struct Handler {
    pool: PgPool,
    samples: Samples,
}

/// Serves on a free port until the process ends.
pub async fn serve() -> Result<()> {
    let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let samples = serde_json::from_str(&std::fs::read_to_string(variable("SAMPLES")?)?)?;
    let options = PgPoolOptions::new().max_connections(POOL).min_connections(POOL).test_before_acquire(false);
    // The ledger's own trigger admits what others write, at the price of more statements; a plain handler has none.
    let options = options.after_connect(|connection, _| {
        Box::pin(async move {
            sqlx::query("SET nexus.admission = 'commit'").execute(connection).await?;
            Ok(())
        })
    });
    let pool = options.connect(&variable("DATABASE_URL")?).await?;
    let month = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y_%m").to_string();
    sqlx::query("SELECT make_events_partition($1)").bind(month).execute(&pool).await?;
    let decided = |State(handler): State<Arc<Handler>>, body: Json<Body>| answer(handler, body, false);
    let whole = |State(handler): State<Arc<Handler>>, body: Json<Body>| answer(handler, body, true);
    let router = Router::new().route(PATH, post(decided)).route(WHOLE_PATH, post(whole));
    let router = router.with_state(Arc::new(Handler { pool, samples }));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = hyper_util::service::TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new();
            if let Err(error) = connection.serve_connection(hyper_util::rt::TokioIo::new(stream), service).await {
                eprintln!("a connection broke off: {error}");
            }
        });
    }
}

async fn answer(
    handler: Arc<Handler>,
    Json(body): Json<Body>,
    whole: bool,
) -> Result<Json<Value>, (StatusCode, String)> {
    let (signal, decision) = (Uuid::new_v4(), Uuid::new_v4());
    let accepted = body.id.ends_with('a');
    let sample = if accepted { &handler.samples.accepted } else { &handler.samples.refused };
    let written = write(&handler.pool, sample, &body, (signal, decision), accepted, whole).await;
    written.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    let decisions = if accepted {
        json!({"user_id": body.user_id, "verdict": "accepted", "decision_id": decision,
               "client_order_id": format!("{}-e", decision.simple()), "quantity": "4000", "risk": "10.00"})
    } else {
        json!({"user_id": body.user_id, "verdict": "rejected", "decision_id": decision, "reasons": ["stale_signal"]})
    };
    let reasons = if accepted { json!({}) } else { json!({"stale_signal": 1}) };
    Ok(Json(json!({
        "signal_id": signal, "duplicate": false, "decided": 1, "accepted": i32::from(accepted),
        "rejected": i32::from(!accepted), "reasons": reasons, "decisions": [decisions],
    })))
}

async fn write(
    pool: &PgPool,
    sample: &Sample,
    body: &Body,
    (signal, decision): (Uuid, Uuid),
    accepted: bool,
    whole: bool,
) -> Result<(), sqlx::Error> {
    let now = jiff::Timestamp::now().as_microsecond();
    let mut transaction = pool.begin().await?;
    insert_signal(&mut transaction, sample, body, signal, now).await?;
    insert_decision(&mut transaction, body, (signal, decision), accepted, now).await?;
    let sql =
        "UPDATE accounts SET version = version + $2, reserved_e8 = reserved_e8 + $3, open_business = $4, now_us = $5,
                      day = CURRENT_DATE WHERE user_id = $1 RETURNING version";
    let turns = if whole { &sample.turns[..] } else { &sample.turns[..1] };
    let written = i64::try_from(turns.len()).unwrap_or(i64::MAX);
    let row = sqlx::query(sql).bind(body.user_id).bind(written).bind(i64::from(accepted)).bind(accepted).bind(now);
    let version: i64 = row.fetch_one(&mut *transaction).await?.try_get("version")?;
    insert_events(&mut transaction, body.user_id, turns, version, now).await?;
    if accepted {
        let sql = "INSERT INTO daily_counts AS k VALUES ($1, CURRENT_DATE, $2, 1)
                   ON CONFLICT (user_id, day, timeframe) DO UPDATE SET used = k.used + 1";
        sqlx::query(sql).bind(body.user_id).bind(&body.timeframe).execute(&mut *transaction).await?;
        let sql = "INSERT INTO duplicate_window AS w VALUES ($1, $2, $3, $4, $5, 0)
                   ON CONFLICT (user_id, symbol, side, timeframe) DO UPDATE SET last_accepted_us = excluded.last_accepted_us";
        let window = sqlx::query(sql).bind(body.user_id).bind(&body.symbol).bind(&body.side);
        window.bind(&body.timeframe).bind(now).execute(&mut *transaction).await?;
        if whole {
            insert_trade(&mut transaction, body, decision, now).await?;
        }
    }
    transaction.commit().await
}

async fn insert_signal(
    to: &mut PgConnection,
    sample: &Sample,
    body: &Body,
    id: Uuid,
    now: i64,
) -> Result<(), sqlx::Error> {
    let sql = "INSERT INTO signals (id, feed_id, key, symbol, side, timeframe, kind, entry_price_e8, stop_loss_e8,
                                    take_profit_e8, issued_at_us, received_at_us, undecided, signal, subscribers, mark)
               VALUES ($1, $2, $3, $4, $5, $6, 'market', 108500000, 108300000, 108900000, $7, $7, 0, $8, $9, $10)";
    let insert = sqlx::query(sql).bind(id).bind(Uuid::from_u128(0xfeed)).bind(&body.id).bind(&body.symbol);
    let insert = insert.bind(&body.side).bind(&body.timeframe).bind(now).bind(&sample.signal);
    insert.bind(&sample.subscribers).bind(&sample.mark).execute(to).await.map(drop)
}

async fn insert_decision(
    to: &mut PgConnection,
    body: &Body,
    (signal, decision): (Uuid, Uuid),
    accepted: bool,
    now: i64,
) -> Result<(), sqlx::Error> {
    if !accepted {
        let sql = "INSERT INTO decisions (id, signal_id, user_id, at_us, verdict, reasons)
                   VALUES ($1, $2, $3, $4, 'rejected', '[\"stale_signal\"]')";
        let insert = sqlx::query(sql).bind(decision).bind(signal).bind(body.user_id).bind(now);
        return insert.execute(to).await.map(drop);
    }
    let sql = "INSERT INTO decisions (id, signal_id, user_id, at_us, verdict, symbol, side, timeframe, kind, quantity_e8,
                                      sized_at_e8, stop_loss_e8, take_profit_e8, risk_e8, used_before_e8, cap_e8, risk_max_e8,
                                      count_before, count_limit, equity_e8, expires_at_us, venue)
               VALUES ($1, $2, $3, $4, 'accepted', $5, $6, $7, 'market', 400000000000, 108500000, 108300000, 108900000,
                       1000000000, 0, 10000000000000000, 1000000000, 0, 10000, 100000000000000, $4, 'paper')";
    let insert = sqlx::query(sql).bind(decision).bind(signal).bind(body.user_id).bind(now).bind(&body.symbol);
    insert.bind(&body.side).bind(&body.timeframe).execute(to).await.map(drop)
}

async fn insert_events(
    to: &mut PgConnection,
    user: Uuid,
    turns: &[SampleTurn],
    version: i64,
    now: i64,
) -> Result<(), sqlx::Error> {
    let text = |read: fn(&SampleTurn) -> &String| turns.iter().map(read).collect::<Vec<_>>();
    let first = version - i64::try_from(turns.len()).unwrap_or(0);
    let sql = "INSERT INTO events (user_id, version, now_us, input, context, events)
               SELECT $1, $2 + t.place, $3, t.input, t.context, t.events
                 FROM unnest($4::text[], $5::text[], $6::text[]) WITH ORDINALITY AS t (input, context, events, place)";
    let insert = sqlx::query(sql).bind(user).bind(first).bind(now).bind(text(|turn| &turn.input));
    insert.bind(text(|turn| &turn.context)).bind(text(|turn| &turn.events)).execute(to).await.map(drop)
}

async fn insert_trade(to: &mut PgConnection, body: &Body, decision: Uuid, now: i64) -> Result<(), sqlx::Error> {
    let order = format!("{}-e", decision.simple());
    let sql = "INSERT INTO orders (client_order_id, decision_id, user_id, purpose, symbol, side, kind, quantity_e8, filled_e8,
                                   value_e8, fees_e8, status, unknown, cancel_requested, venue, created_at_us)
               VALUES ($1, $2, $3, 'entry', $4, $5, 'market', 400000000000, 400000000000, 434020000000, 8680400, 'filled',
                       false, false, 'paper', $6)";
    let insert = sqlx::query(sql).bind(&order).bind(decision).bind(body.user_id).bind(&body.symbol).bind(&body.side);
    insert.bind(now).execute(&mut *to).await?;
    let sql =
        "INSERT INTO fills (venue, execution_id, client_order_id, user_id, symbol, side, quantity_e8, price_e8, fee_e8,
                                  at_us, realized_e8)
               VALUES ('paper', $1, $2, $3, $4, $5, 400000000000, 108505000, 8680400, $6, -8680400)";
    let insert = sqlx::query(sql).bind(format!("{order}-1")).bind(&order).bind(body.user_id).bind(&body.symbol);
    insert.bind(&body.side).bind(now).execute(&mut *to).await?;
    let sql = "INSERT INTO positions (decision_id, user_id, symbol, side, quantity_e8, entry_price_e8, stop_loss_e8,
                                      take_profit_e8, realized_e8, opened_at_us)
               VALUES ($1, $2, $3, $4, 400000000000, 108505000, 108300000, 108900000, -8680400, $5)";
    let insert = sqlx::query(sql).bind(decision).bind(body.user_id).bind(&body.symbol).bind(&body.side).bind(now);
    insert.execute(&mut *to).await?;
    let sql = "INSERT INTO daily_risk AS r VALUES ($1, CURRENT_DATE, -8680400)
               ON CONFLICT (user_id, day) DO UPDATE SET realized_e8 = r.realized_e8 + excluded.realized_e8";
    sqlx::query(sql).bind(body.user_id).execute(to).await.map(drop)
}
