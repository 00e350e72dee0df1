//! The product with a trap in it: the same engine as `nexus serve`, and a real `SIGKILL` of this very process at one named
//! step of its work, on its n-th pass.
//!
//! `NEXUS_CRASH_AT=in_commit:3` dies in the middle of the third commit. `NEXUS_CRASH_PASSES=FILE` writes how often each
//! step was passed when the process ends in the ordinary way, so that a campaign knows what it can draw from. The trap is a
//! port (`Probe`) that only this binary fills: the product itself cannot be told to die.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, bail};
use nexus_actors::ports::{Probe, Step};
use nexus_server::serve::Options;

/// Every step, by the name that the environment uses.
const STEPS: [(Step, &str); 6] = [
    (Step::BeforeCommit, "before_commit"),
    (Step::InCommit, "in_commit"),
    (Step::AfterCommitBeforeSend, "after_commit_before_send"),
    (Step::InSend, "in_send"),
    (Step::AfterSendBeforeReport, "after_send_before_report"),
    (Step::BeforeReportCommit, "before_report_commit"),
];

/// Counts passes, and kills at the chosen one.
#[derive(Default)]
struct Trap {
    at: Option<(usize, u32)>,
    passes: [AtomicU32; STEPS.len()],
}

impl Trap {
    fn from_env() -> anyhow::Result<Trap> {
        let Ok(text) = std::env::var("NEXUS_CRASH_AT") else { return Ok(Trap::default()) };
        let (name, nth) = text.split_once(':').context("NEXUS_CRASH_AT is STEP:N")?;
        let Some(step) = STEPS.iter().position(|(_, known)| *known == name) else { bail!("no step is called {name}") };
        Ok(Trap { at: Some((step, nth.parse()?)), ..Trap::default() })
    }

    fn write_passes(&self, file: &PathBuf) -> anyhow::Result<()> {
        let lines: Vec<String> = STEPS
            .iter()
            .zip(&self.passes)
            .map(|((_, name), passes)| format!("{name} {}\n", passes.load(Ordering::SeqCst)))
            .collect();
        std::fs::write(file, lines.concat()).with_context(|| format!("writing {}", file.display()))
    }
}

impl Probe for Trap {
    fn at(&self, step: Step) {
        let Some(index) = STEPS.iter().position(|(known, _)| *known == step) else { return };
        let pass = self.passes[index].fetch_add(1, Ordering::SeqCst) + 1;
        if self.at == Some((index, pass)) {
            // No destructor, no flush, no goodbye: what a power cut leaves is what the disk has.
            let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            panic!("the trap did not kill: {killed:?}");
        }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let trap = Arc::new(Trap::from_env()?);
    let config = nexus_config::Config::load().map_err(|problems| anyhow::anyhow!("{problems}"))?;
    nexus_server::cli::logging::start(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(nexus_server::serve::run(config, Options { probe: Some(trap.clone()), ..Options::default() }))?;
    if let Some(file) = std::env::var_os("NEXUS_CRASH_PASSES") {
        trap.write_passes(&PathBuf::from(file))?;
    }
    Ok(ExitCode::SUCCESS)
}
