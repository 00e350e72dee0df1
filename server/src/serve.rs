//! Becomes the engine: starts the parts, says where they are, and serves until it is told to end.
//!
//! Nothing is printed before the port is open, so a script may wait for the first line and then connect. The end is
//! orderly on SIGTERM and SIGINT alike; anything harder is what recovery is for.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use anyhow::Context;
use nexus_config::Config;
use secrecy::{ExposeSecret, SecretString};
use tokio::signal::unix::{SignalKind, signal};

use crate::compose;

pub use crate::compose::Options;

/// Serves until the process is asked to end; then finishes what is under way.
pub async fn run(config: Config, options: Options) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be waited for")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be waited for")?;
    let running = tokio::select! {
        running = compose::start(&config, options) => running?,
        // Whoever waits, for a database or for another instance, can be told not to.
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let greeting = greeting(running.addr, running.first_password.as_ref());
    // Whoever started us may have closed stdout; that is no reason not to trade.
    if let Err(error) = io::stdout().write_all(greeting.as_bytes()).and_then(|()| io::stdout().flush()) {
        tracing::warn!(%error, "the greeting could not be written");
    }
    tracing::info!(addr = %running.addr, environment = config.environment.as_str(), "serving");
    let engine = running.engine.clone();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = engine.ownership_lost() => {
            running.give_up().await;
            anyhow::bail!("another instance owns the accounts now; start this one again to stand by");
        }
    }
    tracing::info!("asked to end; finishing what is under way");
    running.stop().await?;
    tracing::info!("ended");
    Ok(())
}

/// What a person needs to begin. The first line is also what a script waits for.
fn greeting(addr: SocketAddr, first_password: Option<&SecretString>) -> String {
    let base = format!("http://{}", reachable(addr));
    let mut text = format!("listening on {base}\ndocs: {base}/docs\n");
    if let Some(password) = first_password {
        let password = password.expose_secret();
        text += &format!("the user admin has the password {password} (shown this once)\n");
    }
    text += &format!("try: curl {base}/status\n");
    text
}

/// An address that can be connected to: an engine that listens everywhere is found on this machine.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_begins_with_the_address_and_shows_a_new_password_once() {
        let addr = "0.0.0.0:8000".parse().expect("an address");
        let text = greeting(addr, Some(&"pw".to_owned().into()));
        assert!(text.starts_with("listening on http://127.0.0.1:8000\n"), "{text}");
        assert!(text.contains("password pw "));
        assert!(!greeting(addr, None).contains("password"));
    }
}
