//! What every handler has at hand: the engine, the directory, who asks, and the bounds of the HTTP side.
//!
//! One value shared by all connections. Bounds are here and not in the settings, because each is chosen against the
//! others (a body may take less time than a drain), and the operator should not have to know that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use metrics_exporter_prometheus::PrometheusHandle;
use nexus_actors::engine::Engine;
use nexus_actors::ports::{Clock, Ledger};
use nexus_engine::limits::Limits;
use nexus_store::directory::Directory;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::log::Measurements;
use super::problem::Problem;
use crate::auth::lockout::Lockout;
use crate::auth::passwords::Passwords;
use crate::auth::principal::Authenticator;
use crate::clock::NewIds;

/// Everything that a handler needs; shared by all connections.
pub struct App {
    /// The running engine.
    pub engine: Engine,
    /// Users, feeds and the record.
    pub directory: Arc<dyn Directory>,
    /// The durable record, to find stored signals.
    pub ledger: Arc<dyn Ledger>,
    /// What time it is for trading.
    pub clock: Arc<dyn Clock>,
    /// How new users and feeds get their ids.
    pub new_ids: NewIds,
    /// Finds out who asks.
    pub auth: Authenticator,
    /// Counts failed logins.
    pub lockout: Lockout,
    /// Hashes and compares passwords.
    pub passwords: Passwords,
    /// Names and bounds.
    pub settings: HttpSettings,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// How requests went.
    pub measurements: Measurements,
    /// When this process began to serve.
    pub started: Instant,
    /// A name drawn at start-up.
    pub instance: String,
    /// Cancelled when the server stops taking new work.
    pub stopping: CancellationToken,
    /// Held while a user's limits are read, changed and written: two changes at once must not undo each other.
    pub limits_lock: Mutex<()>,
}

/// Names and bounds of the HTTP side.
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// `development` or `production`.
    pub environment: &'static str,
    /// Above these nobody's limits are raised.
    pub ceilings: Limits,
    /// Origins of web pages that may call; `*` for all.
    pub cors_origins: Vec<String>,
    /// Who may read the metrics.
    pub metrics_allowed_ips: Vec<IpNet>,
    /// Where admins may call from; empty: anywhere.
    pub admin_allowed_ips: Vec<IpNet>,
    /// Proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<IpNet>,
    /// Bounds of a connection.
    pub bounds: Bounds,
}

/// Bounds of a connection and of a request.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections served at once; beyond, only the kill switch and the liveness check are. Fits, with the spare ones and
    /// the files of the ledger, into the 1,024 descriptors that a process usually gets.
    pub connections_max: usize,
    /// Connections beyond those; the rest is closed at once.
    pub connections_spare: usize,
    /// From the first byte (or from the end of the last request) to the end of the headers.
    pub header_timeout: Duration,
    /// From the end of the headers to the end of the body; in a stream, between two pieces of a line.
    pub body_timeout: Duration,
    /// How long a stream may rest between two lines; an empty line now and then keeps it open.
    pub rest_timeout: Duration,
    /// A caller who takes nothing of an answer for so long is cut off.
    pub write_timeout: Duration,
    /// How long requests under way may take to end once the server stops.
    pub drain_timeout: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections_max: 768,
            connections_spare: 64,
            header_timeout: Duration::from_secs(15),
            body_timeout: Duration::from_secs(10),
            rest_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// Runs to its end even when the caller goes away: for what changes something in more than one step.
pub async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a handler's task failed");
        Err(Problem::internal())
    })
}
