//! Connections: taken within bounds of number, size and time, and let go in order.
//!
//! `axum::serve` sets no timer on headers, so connections are served through hyper-util's builder. When all places are
//! taken, a few spare ones still reach the kill switch and the liveness check; everything else is told to come back.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONNECTION, HeaderValue};
use axum::response::{IntoResponse, Response};
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::app::Bounds;
use super::lobby::Lobby;
use super::peer::Peer;
use super::problem::Problem;
use super::socket::Socket;

/// The most bytes of a request's first line and headers.
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// How long to wait when the process has no file descriptor left.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Serves until `stopping` is cancelled; then takes nothing new and lets what is under way end, within bounds.
pub async fn serve(listener: TcpListener, lobby: Arc<Lobby>, bounds: Bounds, stopping: CancellationToken) {
    let server = Server {
        lobby,
        builder: Arc::new(builder(bounds)),
        graceful: GracefulShutdown::new(),
        places: Arc::new(Semaphore::new(bounds.connections_max)),
        spare: Arc::new(Semaphore::new(bounds.connections_spare)),
        bounds,
    };
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, addr)) => server.take(stream, addr),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
    drop(listener);
    tokio::select! {
        () = server.graceful.shutdown() => {}
        () = tokio::time::sleep(bounds.drain_timeout) => {
            tracing::warn!("connections still open after the drain timeout are dropped");
        }
    }
}

/// Errors of accept that say something about one caller, not about us.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn builder(bounds: Bounds) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header_timeout)
        .max_buf_size(HEADER_BYTES_MAX)
        .keep_alive(true)
        // A caller that has said all may close its sending side and still wants the answer.
        .half_close(true);
    builder
}

struct Server {
    lobby: Arc<Lobby>,
    builder: Arc<Builder<TokioExecutor>>,
    graceful: GracefulShutdown,
    places: Arc<Semaphore>,
    spare: Arc<Semaphore>,
    bounds: Bounds,
}

impl Server {
    fn take(&self, stream: TcpStream, addr: SocketAddr) {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            self.spawn(stream, addr, place, false);
        } else if let Ok(place) = Arc::clone(&self.spare).try_acquire_owned() {
            self.spawn(stream, addr, place, true);
        } else {
            metrics::counter!("nexus_connections_refused_total").increment(1);
        }
    }

    fn spawn(&self, stream: TcpStream, addr: SocketAddr, place: OwnedSemaphorePermit, is_spare: bool) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection ended before it was served");
            return;
        }
        let lobby = Arc::clone(&self.lobby);
        let service = service_fn(move |request| answer(Arc::clone(&lobby), request, Peer(addr), is_spare));
        let io = TokioIo::new(Socket::new(stream, self.bounds.write_timeout));
        let connection = self.builder.serve_connection(io, service).into_owned();
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection broke off");
            }
            drop(place);
        });
    }
}

async fn answer(
    lobby: Arc<Lobby>,
    mut request: Request<Incoming>,
    peer: Peer,
    is_spare: bool,
) -> Result<Response, Infallible> {
    if is_spare && !may_use_spare(request.uri().path()) {
        let problem = Problem::unavailable("too many connections are open");
        return Ok(closing(problem.into_response()));
    }
    request.extensions_mut().insert(peer);
    let response = lobby.routes().oneshot(request.map(Body::new)).await?;
    Ok(if is_spare { closing(response) } else { response })
}

/// What is reached however many connections are open.
fn may_use_spare(path: &str) -> bool {
    matches!(path, "/admin/emergency-stop" | "/health/live")
}

fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
