//! `nexus-bench`: how fast the engine is, measured beside a yardstick.
//!
//! `nexus-bench SCENARIO [--json FILE] [--quick]`; `all` runs every scenario, `list` names them. Each scenario prints tables and,
//! with `--json`, adds an object under its name. Absolute figures drift from machine to machine, so every scenario measures
//! something known (an empty call, a bare channel) in the same run and in the same way: quote ratios.

mod actors;
mod alloc;
mod decide;
mod ingest;
mod load;
mod report;
mod script;
mod weightless;
mod world;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Parser;

use crate::report::{Machine, Section};

/// The product's allocator, counted per thread; without that the `decide` scenario could only guess.
#[global_allocator]
static ALLOCATOR: alloc_tracker::Allocator<mimalloc::MiMalloc> = alloc_tracker::Allocator::new(mimalloc::MiMalloc);

/// Measures the engine beside a yardstick.
#[derive(Parser, Debug)]
#[command(name = "nexus-bench", version)]
struct Arguments {
    /// Which scenario; `all` runs every one, `list` names them.
    scenario: String,
    /// Writes one object a scenario, under its name, into this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// A smoke test: everything runs, on few samples. Its figures mean nothing.
    #[arg(long)]
    quick: bool,
}

/// A scenario: its name, and how it is measured (`quick` or not).
type Scenario = (&'static str, fn(bool) -> Result<Section>);

const SCENARIOS: &[Scenario] = &[("decide", decide::measure), ("actors", actors::measure), ("ingest", ingest::measure)];

fn main() -> Result<()> {
    if let Some(role) = std::env::args().nth(1).as_deref().and_then(ingest::Role::named) {
        return role.play();
    }
    let arguments = Arguments::parse();
    if arguments.scenario == "list" {
        SCENARIOS.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    }
    let wanted = |name: &str| arguments.scenario == "all" || arguments.scenario == name;
    let chosen: Vec<&Scenario> = SCENARIOS.iter().filter(|(name, _)| wanted(name)).collect();
    if chosen.is_empty() {
        let names: Vec<_> = SCENARIOS.iter().map(|(name, _)| *name).collect();
        bail!("no scenario `{}`; there are all, {}", arguments.scenario, names.join(", "));
    }
    let machine = Machine::look();
    println!("{machine}");
    if arguments.quick {
        println!("quick: a smoke test, its figures mean nothing");
    }
    let mut document = serde_json::Map::new();
    document.insert("machine".into(), serde_json::to_value(&machine)?);
    document.insert("quick".into(), arguments.quick.into());
    for (name, measure) in chosen {
        let section = measure(arguments.quick).with_context(|| format!("scenario {name}"))?;
        println!("\n{name}\n{section}");
        document.insert((*name).into(), section.json);
    }
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&document)?;
        std::fs::write(path, text + "\n").with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}
