//! The command line: what was asked for, carried out, and an exit code that scripts can trust.
//!
//! 0: done. 1: refused or failed. 2: bad use, a faulty configuration included. What was asked for goes to stdout, words
//! about it to stderr. A reader that goes away (`nexus user list | head -1`) ends the command quietly: its pipe is its
//! own business.

mod args;
mod client;
mod config;
mod demo;
mod feed_replay;
mod feeds;
mod kill_switch;
pub mod logging;
mod marks;
mod migrate;
mod output;
mod problem;
mod replay;
mod report;
mod secret;
mod sign_in;
mod signals;
mod status;
mod users;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use nexus_config::{Config, ConfigErrors, Environ};

use crate::serve::Options;
use args::{Cli, Command, ServeArgs};

/// How long blocking calls may still take once serving has ended.
pub(crate) const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

/// Bad use that clap cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadUse(pub(crate) String);

/// Reads the command line and carries it out.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let environ = Environ::of_process();
    match carry_out(cli.command.unwrap_or(Command::Serve(ServeArgs::default())), &environ) {
        Ok(code) => code,
        Err(error) => explain(&error),
    }
}

fn carry_out(command: Command, environ: &Environ) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => serve(&args, environ),
        Command::Demo(args) => demo::run(&args, environ),
        Command::Replay(args) => wait_for(replay::run(&args, environ)),
        Command::Migrate(args) => wait_for(migrate::run(&args, environ)),
        Command::Config(command) => config::run(&command, environ),
        Command::Stop(args) if args.local => kill_switch::stop_locally(&args, environ),
        Command::Status(args) => wait_for(status::status(&args, environ)),
        Command::Stop(args) => wait_for(kill_switch::stop(&args, environ)),
        Command::Resume(args) => wait_for(kill_switch::resume(&args, environ)),
        Command::User(args) => wait_for(users::run(&args, environ)),
        Command::Feed(args) => wait_for(feeds::run(&args, environ)),
        Command::Signal(args) => wait_for(signals::run(&args, environ)),
        Command::Healthcheck(args) => wait_for(status::healthcheck(&args, environ)),
    }
}

/// A client command talks to one engine at a time: one thread is enough.
fn wait_for(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn serve(args: &ServeArgs, environ: &Environ) -> anyhow::Result<ExitCode> {
    let config = Config::read(environ)?;
    if args.sim_clock && config.environment.is_production() {
        return Err(BadUse("--sim-clock is refused in production".into()).into());
    }
    let options = Options { sim_clock: args.sim_clock, probe: None };
    logging::start(&config)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let unsupported = config.unsupported();
    if !unsupported.is_empty() {
        anyhow::bail!("{}", unsupported.join("\n"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(crate::serve::run(config, options));
    // A blocking call that hangs (a disk, a hash) must not keep the process from ending.
    runtime.shutdown_timeout(SHUTDOWN_MAX);
    served.map(|()| ExitCode::SUCCESS)
}

/// Says what went wrong, and with which code the process ends.
fn explain(error: &anyhow::Error) -> ExitCode {
    let is_broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.downcast_ref::<output::PipeClosed>().is_some() && error.chain().any(is_broken_pipe) {
        return ExitCode::SUCCESS;
    }
    let text = output::printable_lines(&format!("{error:#}"));
    // When stderr is gone as well there is nobody left to tell; the exit code still tells.
    let _ = writeln!(io::stderr(), "error: {text}");
    let is_bad_use = error.is::<BadUse>() || error.is::<ConfigErrors>();
    ExitCode::from(if is_bad_use { 2 } else { 1 })
}
