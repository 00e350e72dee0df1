//! Metrics in the text format of Prometheus, for those who may see them.
//!
//! What happens is counted where it happens; what is (the trading state, the actors in memory) is read at the moment of a
//! scrape. Latencies are histograms with fixed buckets, so that instances can be added up.

use std::sync::{Arc, OnceLock};

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use nexus_engine::gate::TradingState;

use super::app::App;
use super::peer::{Peer, client_ip, is_in};
use super::problem::Problem;

/// From half a millisecond to ten seconds: below is noise, above is a timeout.
const LATENCY_BUCKETS_S: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// A step of an account is a matter of microseconds.
const STEP_BUCKETS_S: [f64; 7] = [0.000_001, 0.000_002_5, 0.000_005, 0.000_01, 0.000_05, 0.000_1, 0.001];
/// Up to the largest batch.
const BATCH_BUCKETS: [f64; 7] = [1.0, 2.0, 5.0, 10.0, 25.0, 100.0, 250.0];

/// The process's recorder, installed at the first call.
pub fn recorder() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(install).clone()
}

fn install() -> PrometheusHandle {
    let buckets = [
        (Matcher::Suffix("_seconds".to_owned()), &LATENCY_BUCKETS_S[..]),
        (Matcher::Full("nexus_decide_seconds".to_owned()), &STEP_BUCKETS_S),
        (Matcher::Full("nexus_commit_batch_size".to_owned()), &BATCH_BUCKETS),
    ];
    let builder = buckets.into_iter().fold(PrometheusBuilder::new(), |builder, (metric, buckets)| {
        builder.set_buckets_for_metric(metric, buckets).expect("the buckets are not empty")
    });
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("another metrics recorder is installed; this one stays empty");
    }
    describe();
    handle
}

fn describe() {
    metrics::describe_counter!("nexus_http_requests_total", "Requests answered, by method, route and status");
    metrics::describe_histogram!("nexus_http_request_seconds", "Seconds from the end of the headers to the answer");
    metrics::describe_counter!("nexus_logins_total", "Logins, by outcome");
    metrics::describe_counter!("nexus_connections_refused_total", "Connections closed because too many were open");
    metrics::describe_gauge!("nexus_scopes_stopped", "Feeds, symbols, venues and users that are stopped");
    metrics::describe_gauge!("nexus_trading_state", "1 for the trading state in force, 0 for the others");
    metrics::describe_gauge!("nexus_epoch", "The epoch of the trading state");
    metrics::describe_gauge!("nexus_ledger_up", "Whether the ledger answered last");
    metrics::describe_gauge!("nexus_hot_state_up", "Whether the hot state answers");
    metrics::describe_counter!("nexus_hot_errors_total", "Calls of the hot state that failed, by operation");
    metrics::describe_counter!("nexus_snapshots_loaded_total", "Accounts loaded, by where their snapshot came from");
    metrics::describe_gauge!("nexus_serving", "Whether the engine takes signals");
    metrics::describe_gauge!("nexus_venue_up", "Whether calls to a venue are expected to succeed");
    metrics::describe_gauge!("nexus_active_accounts", "Risk actors in memory");
    metrics::describe_counter!("nexus_actor_restarts_total", "Restarts, by kind of actor");
}

/// Shows the metrics
#[utoipa::path(
    get, path = "/api/v1/metrics", tag = "Health",
    responses(
        (status = 200, description = "In the text format of Prometheus", body = String, content_type = "text/plain"),
        (status = 403, description = "Not from this address", body = Problem),
    ),
    security(())
)]
pub async fn scrape(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let client = client_ip(peer, &headers, &app.settings.trusted_proxies);
    if !is_in(client, &app.settings.metrics_allowed_ips) {
        return Err(Problem::forbidden("metrics are not shown to this address"));
    }
    observe(&app);
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.render()))
}

/// What is read off the engine at the moment of a scrape.
fn observe(app: &App) {
    let status = app.engine.status();
    let one = |is: bool| f64::from(u8::from(is));
    for state in [TradingState::Active, TradingState::Reducing, TradingState::Halted] {
        metrics::gauge!("nexus_trading_state", "state" => state.as_str()).set(one(status.gate.state == state));
    }
    // Epochs count a person's acts: far below where a double loses whole numbers.
    metrics::gauge!("nexus_scopes_stopped").set(u32::try_from(status.stopped.len()).map_or(f64::INFINITY, f64::from));
    metrics::gauge!("nexus_epoch").set(u32::try_from(status.gate.epoch).map_or(f64::INFINITY, f64::from));
    metrics::gauge!("nexus_ledger_up").set(one(status.ledger_up));
    metrics::gauge!("nexus_hot_state_up").set(one(status.hot_state_up));
    metrics::gauge!("nexus_serving").set(one(status.serving));
    metrics::gauge!("nexus_active_accounts")
        .set(u32::try_from(status.active_accounts).map_or(f64::INFINITY, f64::from));
    for (venue, is_up) in status.venues {
        metrics::gauge!("nexus_venue_up", "venue" => venue).set(one(is_up));
    }
    for (actor, restarts) in status.restarts {
        metrics::counter!("nexus_actor_restarts_total", "actor" => actor).absolute(restarts);
    }
}
