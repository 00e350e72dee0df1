//! The composition root: the one place where settings become parts and parts become a running engine.
//!
//! In the order in which they hold each other: the lock on the data folder, the secrets, the ledger, the hot state, the
//! venue, the tree of actors, the first admin, and last the port - so whoever can connect finds everything there.

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nexus_actors::engine::{Engine, Parts, Settings};
use nexus_actors::ports::{Clock, HotState, InstanceRole, Ledger, Presence, Probe, Venue};
use nexus_actors::tenure::{StandingBy, Tenure, stand_by};
use nexus_config::{Config, Database, Environment};
use nexus_engine::account::Account;
use nexus_engine::instrument::{Currency, Instrument};
use nexus_engine::units::Money;
use nexus_store::directory::{Credentials, Directory, DirectoryError, PageRequest, Role, User};
use nexus_store::{MemoryHotState, Migrated, PostgresOptions, PostgresStore, RedisHotState, SqliteStore};
use nexus_venues::paper::{PaperSettings, PaperVenue};
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::auth::lockout::Lockout;
use crate::auth::passwords::{Passwords, check_rules};
use crate::auth::principal::Authenticator;
use crate::auth::secrets::{keep_secret, kept_secret, new_password};
use crate::auth::tokens::Tokens;
use crate::clock::{NewIds, SimClock, WallClock, wall_now};
use crate::http::app::{App, Bounds, HttpSettings};
use crate::http::lobby::{Lobby, Waiting};
use crate::http::log::Measurements;
use crate::http::login::wall_now_s;
use crate::http::{listen, metrics, router};
use crate::instance;
use crate::wire::health;

/// The name of the first admin.
const ADMIN: &str = "admin";
/// How often the ledger is asked for tokens that were ended elsewhere.
const REVOCATIONS_EVERY: Duration = Duration::from_millis(500);
/// How often the metrics forget what is past.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// An engine that serves.
pub struct Running {
    /// The running engine.
    pub engine: Engine,
    /// Where it listens.
    pub addr: SocketAddr,
    /// The password of the first admin, when this start has made it up.
    pub first_password: Option<SecretString>,
    shutdown: DropGuard,
    server: JoinHandle<()>,
    drain_timeout: Duration,
    /// Held as long as the process may write.
    _lock: File,
}

impl Running {
    /// Takes nothing new, finishes what is under way, and ends.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.disarm().cancel();
        self.server.await.context("the HTTP server failed")?;
        self.engine.drain(self.drain_timeout).await;
        Ok(())
    }

    /// Ends at once: the accounts are another instance's, and nothing that is under way can be finished.
    pub async fn give_up(self) {
        self.shutdown.disarm().cancel();
        self.engine.drain(Duration::ZERO).await;
    }
}

/// What is asked for beside the settings.
#[derive(Clone, Default)]
pub struct Options {
    /// Trading time is that of the marks.
    pub sim_clock: bool,
    /// Looks on at the named steps of each entry.
    pub probe: Option<Arc<dyn Probe>>,
}

/// Starts everything that `config` names.
pub async fn start(config: &Config, options: Options) -> anyhow::Result<Running> {
    let Options { sim_clock, probe } = options;
    // Before the first part: a meter that is made while nobody records is silent for ever.
    let metrics = metrics::recorder();
    let lock = lock_data_dir(&config.data_dir)?;
    let key = signing_key(config)?;
    let instance = instance::name(&config.data_dir).context("this instance cannot be named")?;
    let settings = http_settings(config);
    let bounds = settings.bounds;
    let (lobby, shutdown) = (Arc::new(Lobby::default()), CancellationToken::new());
    let (listener, addr) = listen_on(config).await?;
    let server = tokio::spawn(listen::serve(listener, Arc::clone(&lobby), bounds, shutdown.clone()));
    // Whatever ends this start ends the listening.
    let listening = shutdown.clone().drop_guard();
    // Before the wait: whoever takes over is not kept from it by a slow hash.
    let previous = config.secret_key_previous.as_ref();
    let passwords = Passwords::new(&key, previous, config.bcrypt_rounds)?;
    let OpenLedger { ledger, directory, .. } = open_ledger(config, probe.as_ref()).await?;
    let hot = open_hot_state(config, directory.as_ref()).await?;
    let waiting = Waits { instance: &instance, addr, lobby: &lobby, hot: hot.as_ref() };
    let tenure = waiting.own_the_accounts(config, ledger.as_ref()).await;
    let clock = trading_clock(config, directory.as_ref(), sim_clock).await?;
    let new_ids = if sim_clock { NewIds::FromNames } else { NewIds::Drawn };
    recall_revoked_tokens(directory.as_ref(), hot.as_ref()).await?;
    let engine = start_engine(config, &clock, &ledger, &hot, tenure, probe).await?;
    let first_password = make_first_admin(config, directory.as_ref(), &passwords, new_ids).await?;
    let tokens = Tokens::new(&key, previous, config.access_token_expire_minutes.saturating_mul(60));
    tokio::spawn(hear_of_revocations(Arc::clone(&directory), Arc::clone(&hot), shutdown.clone()));
    let lockout_lasts = Duration::from_secs(config.lockout_minutes.saturating_mul(60));
    let app = Arc::new(App {
        engine: engine.clone(),
        lockout: Lockout::new(Arc::clone(&hot), config.max_login_attempts, lockout_lasts),
        auth: Authenticator::new(tokens, Arc::clone(&directory), hot),
        directory,
        ledger,
        clock,
        new_ids,
        passwords,
        settings,
        metrics,
        measurements: Measurements::default(),
        started: Instant::now(),
        instance,
        stopping: shutdown.clone(),
        limits_lock: tokio::sync::Mutex::new(()),
    });
    tokio::spawn(keep_metrics(shutdown));
    lobby.open(router(app));
    let drain_timeout = bounds.drain_timeout;
    Ok(Running { engine, addr, first_password, shutdown: listening, server, drain_timeout, _lock: lock })
}

async fn listen_on(config: &Config) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let address = SocketAddr::new(config.api_host, config.api_port);
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

/// Whoever is told what an instance waits for.
struct Waits<'a> {
    instance: &'a str,
    addr: SocketAddr,
    lobby: &'a Lobby,
    hot: &'a dyn HotState,
}

impl Waits<'_> {
    /// Of a ledger that several instances can reach, one owns the accounts: waits until that is this one.
    async fn own_the_accounts(&self, config: &Config, ledger: &dyn Ledger) -> Option<Tenure> {
        let Some(lease) = ledger.lease() else {
            self.announce(InstanceRole::Owner, 0);
            return None;
        };
        let term = Duration::from_secs(config.lease_seconds);
        let tenure = stand_by(lease, self.instance, term, |seen| self.hear(&seen)).await;
        tracing::info!(instance = %self.instance, fence = tenure.fence(), "the accounts are this instance's");
        self.announce(InstanceRole::Owner, tenure.fence());
        Some(tenure)
    }

    fn hear(&self, seen: &StandingBy<'_>) {
        let ledger_up = matches!(seen, StandingBy::Held(_));
        if !self.lobby.wait(Waiting { role: health::InstanceRole::Standby, ledger_up }) {
            return;
        }
        match seen {
            StandingBy::Held(holder) => {
                tracing::info!(owner = %holder.owner, addr = %self.addr, "standing by: another instance owns the accounts");
            }
            StandingBy::Away(error) => {
                tracing::warn!(%error, addr = %self.addr, "standing by: the ledger does not answer");
            }
        }
        self.announce(InstanceRole::Standby, 0);
    }

    fn announce(&self, role: InstanceRole, fence: u64) {
        self.hot.announce(Presence { name: self.instance.into(), role, fence, since: wall_now() });
    }
}

/// The clock by which this folder trades. Each folder has one kind of time: an account's never runs backwards.
async fn trading_clock(config: &Config, directory: &dyn Directory, sim_clock: bool) -> anyhow::Result<Arc<dyn Clock>> {
    let (data_dir, file) = (&config.data_dir, SimClock::path(&config.data_dir));
    if !sim_clock {
        if file.exists() {
            bail!("{} belongs to a simulated clock: use --sim-clock, or another folder", data_dir.display());
        }
        return Ok(Arc::new(WallClock));
    }
    if config.environment.is_production() {
        bail!("a simulated clock is refused in production");
    }
    if !file.exists() && has_users(directory).await? {
        bail!("the ledger was not begun by a simulated clock: use another folder than {}", data_dir.display());
    }
    let clock = SimClock::open(data_dir).with_context(|| format!("{} cannot be used", file.display()))?;
    Ok(Arc::new(clock))
}

async fn has_users(directory: &dyn Directory) -> anyhow::Result<bool> {
    Ok(!directory.users(PageRequest { limit: 1, after: None }).await?.items.is_empty())
}

/// Takes the data folder for this process, or says that another has it. The lock ends with the process, however it ends.
fn lock_data_dir(data_dir: &Path) -> anyhow::Result<File> {
    let cannot = || format!("the data folder {} cannot be used", data_dir.display());
    fs::create_dir_all(data_dir).with_context(cannot)?;
    let lock = File::options().create(true).truncate(false).write(true).open(data_dir.join("lock"));
    let lock = lock.with_context(cannot)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => bail!("another engine is running on {}", data_dir.display()),
        Err(TryLockError::Error(error)) => Err(error).with_context(cannot),
    }
}

/// The key that tokens are signed with. In development one is made up once and kept, so that tokens survive a restart.
fn signing_key(config: &Config) -> anyhow::Result<SecretString> {
    match &config.secret_key {
        Some(key) => Ok(key.clone()),
        None if config.environment.is_production() => bail!("SECRET_KEY is not set"),
        None => {
            let file = config.data_dir.join("secret-key");
            kept_secret(&file).with_context(|| format!("the signing key cannot be kept in {}", file.display()))
        }
    }
}

/// Opens the ledger that the settings name, and brings its schema up to date.
pub(crate) async fn open_ledger(config: &Config, probe: Option<&Arc<dyn Probe>>) -> anyhow::Result<OpenLedger> {
    match &config.database {
        Database::Sqlite(path) => {
            let store = Arc::new(SqliteStore::open(path)?.probed(probe.cloned()));
            Ok(OpenLedger {
                migrated: store.migrated(),
                ledger: Arc::clone(&store) as Arc<dyn Ledger>,
                directory: store,
            })
        }
        Database::Postgres(url) => {
            let options = PostgresOptions {
                pool_size: config.db_pool_size,
                pool_overflow: config.db_max_overflow,
                // A database that is still starting, or away, is waited for: its log says so, and so does ours.
                start_timeout: Duration::MAX,
                ..PostgresOptions::default()
            };
            let store = PostgresStore::open_probed(url.expose_secret(), &options, probe.cloned()).await?;
            let store = Arc::new(store);
            Ok(OpenLedger {
                migrated: store.migrated(),
                ledger: Arc::clone(&store) as Arc<dyn Ledger>,
                directory: store,
            })
        }
    }
}

/// One store behind both of its ports.
pub(crate) struct OpenLedger {
    /// What was done to its schema.
    pub(crate) migrated: Migrated,
    ledger: Arc<dyn Ledger>,
    directory: Arc<dyn Directory>,
}

/// In Redis when there is a URL; one that is away is waited for while the engine serves.
async fn open_hot_state(config: &Config, directory: &dyn Directory) -> anyhow::Result<Arc<dyn HotState>> {
    let Some(url) = &config.redis_url else { return Ok(Arc::new(MemoryHotState::default())) };
    let ledger = directory.ledger_id().await?;
    let hot = RedisHotState::open(url.expose_secret(), &config.redis_prefix, ledger).await?;
    Ok(Arc::new(hot))
}

async fn recall_revoked_tokens(directory: &dyn Directory, hot: &dyn HotState) -> Result<(), DirectoryError> {
    for (token, until_unix_s) in directory.revoked_tokens(wall_now_s()).await? {
        hot.revoke_token(token, until_unix_s);
    }
    Ok(())
}

/// Asks the ledger again and again: a token that was ended at another instance is dead here within a second, with or
/// without a hot state that both share.
async fn hear_of_revocations(directory: Arc<dyn Directory>, hot: Arc<dyn HotState>, shutdown: CancellationToken) {
    while tokio::time::timeout(REVOCATIONS_EVERY, shutdown.cancelled()).await.is_err() {
        if let Err(error) = recall_revoked_tokens(directory.as_ref(), hot.as_ref()).await {
            tracing::debug!(%error, "the ledger could not be asked for revoked tokens");
        }
    }
}

async fn start_engine(
    config: &Config,
    clock: &Arc<dyn Clock>,
    ledger: &Arc<dyn Ledger>,
    hot: &Arc<dyn HotState>,
    tenure: Option<Tenure>,
    probe: Option<Arc<dyn Probe>>,
) -> anyhow::Result<Engine> {
    let instruments: Vec<Arc<Instrument>> = config.instruments.iter().cloned().map(Arc::new).collect();
    let journal = config.data_dir.join("paper-venue.journal");
    let venue = PaperVenue::open(&journal, &instruments, paper_settings(config), Arc::clone(clock));
    let venue: Arc<dyn Venue> = Arc::new(venue.context("the paper venue cannot be opened")?);
    let settings = Settings {
        data_dir: config.data_dir.clone(),
        ceilings: config.limits.clone(),
        resume_hold: Duration::from_secs(config.resume_hold_seconds),
        ..Settings::default()
    };
    let parts = Parts {
        clock: Arc::clone(clock),
        ledger: Arc::clone(ledger),
        hot: Arc::clone(hot),
        tenure,
        venues: vec![venue],
        instruments,
        settings,
        probe,
    };
    Engine::start(parts).await.context("the engine did not start")
}

fn paper_settings(config: &Config) -> PaperSettings {
    let paper = &config.paper;
    let latency = Duration::from_millis(paper.latency_ms);
    PaperSettings {
        seed: paper.seed,
        slippage_percent: paper.slippage_percent,
        latency_min: latency,
        latency_max: latency,
        partial_fill_percent: paper.partial_fill_percent,
        rejection_percent: paper.reject_percent,
        lost_request_percent: paper.lost_request_percent,
        lost_reply_percent: paper.lost_reply_percent,
        ..PaperSettings::default()
    }
}

/// Makes the first admin when there is nobody yet. A password that is made up is returned, to be shown once.
async fn make_first_admin(
    config: &Config,
    directory: &dyn Directory,
    passwords: &Passwords,
    new_ids: NewIds,
) -> anyhow::Result<Option<SecretString>> {
    if has_users(directory).await? {
        return Ok(None);
    }
    let (password, made_up) = match &config.admin_password {
        Some(given) => {
            check_admin_password(given, config.environment)?;
            (given.clone(), None)
        }
        None => {
            let password = new_password();
            if config.environment == Environment::Development {
                let file = config.data_dir.join("admin-password");
                let kept: io::Result<()> = keep_secret(&file, &password);
                kept.with_context(|| format!("the admin's password cannot be kept in {}", file.display()))?;
            }
            (password.clone(), Some(password))
        }
    };
    let user = User {
        id: new_ids.user(ADMIN),
        username: ADMIN.to_owned(),
        role: Role::Admin,
        currency: Currency::new("USD"),
        created_at: wall_now(),
        tokens_valid_from_unix_s: 0,
    };
    let account = Account::open(user.id, user.currency.clone(), Money::ZERO, config.limits.clone());
    let password_hash = passwords.hash(password).await?;
    directory.create_user(Credentials { user, password_hash }, account).await?;
    Ok(made_up)
}

/// Holds the given password to the rules in production; elsewhere it is the operator's word against their own.
fn check_admin_password(password: &SecretString, environment: Environment) -> anyhow::Result<()> {
    let broken = check_rules(password, ADMIN);
    if broken.is_empty() {
        return Ok(());
    }
    let broken = broken.join(", ");
    if environment.is_production() {
        bail!("ADMIN_PASSWORD {broken}");
    }
    tracing::warn!("ADMIN_PASSWORD {broken}; production would refuse it");
    Ok(())
}

fn http_settings(config: &Config) -> HttpSettings {
    HttpSettings {
        environment: config.environment.as_str(),
        ceilings: config.limits.clone(),
        cors_origins: config.cors_origins.clone(),
        metrics_allowed_ips: config.metrics_allowed_ips.clone(),
        admin_allowed_ips: config.admin_allowed_ips.clone(),
        trusted_proxies: config.trusted_proxies.clone(),
        bounds: Bounds::default(),
    }
}

async fn keep_metrics(shutdown: CancellationToken) {
    let handle = metrics::recorder();
    while tokio::time::timeout(UPKEEP_EVERY, shutdown.cancelled()).await.is_err() {
        handle.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_folder_has_one_engine() {
        let folder = tempfile::tempdir().expect("a folder");
        let data_dir = folder.path().join("data");
        let first = lock_data_dir(&data_dir).expect("taken");
        assert!(lock_data_dir(&data_dir).is_err());
        drop(first);
        assert!(lock_data_dir(&data_dir).is_ok());
    }
}
