//! The connections to Redis, and what is known of it: whether it answers.
//!
//! Two connections: what is asked does not wait behind what is sent in bulk. Both are made anew when they break, and the
//! one that hears hints subscribes again by itself. Every call has a bound of its own, because a Redis that hangs looks like
//! one that is slow. Whoever finds that it does not answer says so to everybody; only the heartbeat says that it does.

use std::fmt::Display;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::{
    Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline, ProtocolVersion, PushInfo, PushKind,
    RedisError, RedisResult,
};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// How long whoever asks waits. Most answers take a tenth of a millisecond.
const ASK_WITHIN: Duration = Duration::from_millis(100);
/// How long a batch may take to be taken.
const SEND_WITHIN: Duration = Duration::from_secs(1);
/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_millis(500);
/// The longest wait between two attempts to connect.
const RECONNECT_WAIT_MAX: Duration = Duration::from_millis(200);
/// A network that swallows what is sent is noticed after this long, and the connection made anew.
const SWALLOWED_AFTER: Duration = Duration::from_secs(5);

/// Why something was not done.
pub(super) enum Failure {
    /// Redis has said no: it would say so again.
    Refused,
    /// It is away, or too slow: it may be sent again.
    Away,
}

/// The way to Redis.
pub(super) struct Link {
    commands: ConnectionManager,
    questions: ConnectionManager,
    up: watch::Sender<bool>,
    check: Notify,
}

impl Link {
    /// Nothing is connected yet. `hints` is changed with each message of a channel that is subscribed to, and with each
    /// subscription, because what was said before it has not been heard.
    pub(super) fn new(url: &str, hints: watch::Sender<u64>) -> RedisResult<Link> {
        let info = url.into_connection_info()?;
        // RESP3 lets one connection ask and listen.
        let protocol = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(info.set_redis_settings(protocol).set_tcp_settings(tcp_settings()))?;
        let hear = move |push: PushInfo| {
            if matches!(push.kind, PushKind::Message | PushKind::Subscribe) {
                hints.send_modify(|heard| *heard += 1);
            }
            Ok::<_, std::convert::Infallible>(())
        };
        let listening = config().set_push_sender(hear).set_automatic_resubscription();
        Ok(Link {
            commands: client.get_connection_manager_lazy(config())?,
            questions: client.get_connection_manager_lazy(listening)?,
            up: watch::Sender::new(false),
            check: Notify::new(),
        })
    }

    /// Whether it answered last.
    pub(super) fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    pub(super) fn watch_up(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// Returns whether that is news.
    pub(super) fn set_up(&self, up: bool) -> bool {
        let changed = self.up.send_if_modified(|was| std::mem::replace(was, up) != up);
        if changed && up {
            tracing::info!("Redis answers");
        } else if changed {
            tracing::warn!("Redis does not answer as it should; the ledger is asked instead");
        }
        changed
    }

    /// Has the heartbeat look at once.
    pub(super) fn check_now(&self) {
        self.check.notify_one();
    }

    /// Until somebody wants the heartbeat to look.
    pub(super) async fn until_check(&self) {
        self.check.notified().await;
    }

    /// Asks one thing. `None`, and at once while Redis is away, when there is no answer.
    pub(super) async fn ask<T: FromRedisValue>(&self, operation: &'static str, question: &Cmd) -> Option<T> {
        if !self.is_up() {
            return None;
        }
        let mut connection = self.questions.clone();
        self.answered(operation, timeout(ASK_WITHIN, question.query_async(&mut connection)).await).ok()
    }

    /// Asks several things in one round trip.
    pub(super) async fn ask_all<T: FromRedisValue>(&self, operation: &'static str, questions: &Pipeline) -> Option<T> {
        if !self.is_up() {
            return None;
        }
        let mut connection = self.questions.clone();
        self.answered(operation, timeout(ASK_WITHIN, questions.query_async(&mut connection)).await).ok()
    }

    /// Sends a batch, whether or not Redis is thought to be there.
    pub(super) async fn send<T: FromRedisValue>(
        &self,
        operation: &'static str,
        batch: &Pipeline,
    ) -> Result<T, Failure> {
        let mut connection = self.commands.clone();
        self.answered(operation, timeout(SEND_WITHIN, batch.query_async(&mut connection)).await)
    }

    /// Whether questions are answered, by the heartbeat's measure.
    pub(super) async fn is_heard(&self) -> Result<(), Failure> {
        let mut connection = self.questions.clone();
        self.answered("beat", timeout(SEND_WITHIN, redis::cmd("PING").exec_async(&mut connection)).await)
    }

    /// Listens to a channel, from now on and across reconnections.
    pub(super) async fn listen(&self, channel: &str) -> Result<(), Failure> {
        let mut connection = self.questions.clone();
        self.answered("listen", timeout(SEND_WITHIN, connection.subscribe(channel)).await)
    }

    fn answered<T, E>(&self, operation: &'static str, outcome: Result<RedisResult<T>, E>) -> Result<T, Failure> {
        let error = match outcome {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if is_refusal(&error) => {
                count_error(operation, &error);
                return Err(Failure::Refused);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        count_error(operation, &error);
        if self.set_up(false) {
            self.check_now();
        }
        Err(Failure::Away)
    }
}

/// Whether Redis itself has refused, in words that it would repeat.
fn is_refusal(error: &RedisError) -> bool {
    use redis::ServerErrorKind::{BusyLoading, MasterDown, ReadOnly, TryAgain};
    match error.kind() {
        ErrorKind::Server(BusyLoading | MasterDown | ReadOnly | TryAgain) => false,
        ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::UnexpectedReturnType => true,
        _ => false,
    }
}

/// Nobody waits for most of what is sent: without a count its errors would go unseen.
pub(super) fn count_error(operation: &'static str, error: &dyn Display) {
    metrics::counter!("nexus_hot_errors_total", "operation" => operation).increment(1);
    tracing::debug!(operation, %error, "a call of the hot state has failed");
}

fn config() -> ConnectionManagerConfig {
    ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECT_WITHIN))
        .set_response_timeout(Some(SEND_WITHIN))
        // The heartbeat comes again; a command that waits for a row of attempts would wait too long.
        .set_number_of_retries(1)
        .set_min_delay(Duration::from_millis(20))
        .set_max_delay(RECONNECT_WAIT_MAX)
}

fn tcp_settings() -> TcpSettings {
    let settings = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(SWALLOWED_AFTER);
    settings
}
