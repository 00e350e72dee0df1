//! What the port answers before the engine serves: while the ledger is waited for, and while another instance owns it.
//!
//! The port is open from the start, so that whoever watches over instances can tell one that waits from one that is broken.
//! Health is told; everything else is asked to come back. Once the engine serves its routes take the lobby's place.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use parking_lot::Mutex;

use super::health::live;
use super::problem::Problem;
use crate::wire::health::{HealthBody, InstanceRole};

/// The routes that the port answers with at the moment.
pub struct Lobby {
    routes: ArcSwap<Router>,
    waiting: Mutex<Option<Waiting>>,
}

/// Why the engine does not serve yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// What this instance is meanwhile.
    pub role: InstanceRole,
    /// Whether the ledger answers.
    pub ledger_up: bool,
}

impl Default for Lobby {
    fn default() -> Self {
        let starting = Waiting { role: InstanceRole::Starting, ledger_up: false };
        Self { routes: ArcSwap::from_pointee(waiting_room(&starting)), waiting: Mutex::new(Some(starting)) }
    }
}

impl Lobby {
    /// What answers requests now.
    pub fn routes(&self) -> Router {
        Router::clone(&self.routes.load())
    }

    /// Still waiting, and for what. Returns whether that is news.
    pub fn wait(&self, waiting: Waiting) -> bool {
        let mut held = self.waiting.lock();
        if held.as_ref() == Some(&waiting) {
            return false;
        }
        self.routes.store(Arc::new(waiting_room(&waiting)));
        *held = Some(waiting);
        true
    }

    /// The engine serves.
    pub fn open(&self, routes: Router) {
        *self.waiting.lock() = None;
        self.routes.store(Arc::new(routes));
    }
}

fn waiting_room(waiting: &Waiting) -> Router {
    let health = HealthBody::waiting(waiting.role, waiting.ledger_up);
    // A standby does what it is there for; whether requests should be sent here is another question.
    let status = if health.status == "down" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let (ready, role) = (health.clone(), waiting.role);
    Router::new()
        .route("/health/live", get(live))
        .route("/health", get(move || async move { (status, Json(health)) }))
        .route("/health/ready", get(move || async move { (StatusCode::SERVICE_UNAVAILABLE, Json(ready)) }))
        .fallback(move || async move { not_here(role) })
}

fn not_here(role: InstanceRole) -> Response {
    let why = match role {
        InstanceRole::Standby => "this instance stands by: another one owns the accounts",
        InstanceRole::Starting | InstanceRole::Owner => "the engine is starting",
    };
    Problem::unavailable(why).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use hyper::Request;
    use tower::ServiceExt;

    async fn status(lobby: &Lobby, path: &str) -> u16 {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        lobby.routes().oneshot(request).await.expect("an answer").status().as_u16()
    }

    #[tokio::test]
    async fn a_lobby_tells_its_health_and_asks_everybody_else_to_come_back() {
        let lobby = Lobby::default();
        let all = async |lobby: &Lobby| {
            let paths = ["/health/live", "/health", "/health/ready", "/api/v1/signals"];
            let mut found = Vec::new();
            for path in paths {
                found.push(status(lobby, path).await);
            }
            found
        };
        assert_eq!(all(&lobby).await, [200, 503, 503, 503]);
        let standby = Waiting { role: InstanceRole::Standby, ledger_up: true };
        assert!(lobby.wait(standby.clone()) && !lobby.wait(standby));
        assert_eq!(all(&lobby).await, [200, 200, 503, 503]);
        lobby.open(Router::new().route("/api/v1/signals", get(|| async {})));
        assert_eq!(status(&lobby, "/api/v1/signals").await, 200);
    }
}
