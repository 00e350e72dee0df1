//! `decide`: what one `Account::step` costs, in time and in allocations, on a realistic mix.
//!
//! Each step is timed alone, clock readings included, on one thread; the yardstick is a call that does nothing, timed in the
//! same way between the same readings. As two clock readings cost about as much as a short step, the mean is also taken
//! over whole passes without any. Every pass begins with fresh accounts and ends with the accounts that the script ends
//! with, or the measurement fails. Neighbouring steps are of different accounts, so caches are as cold as in life.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nexus_engine::account::Account;
use nexus_engine::ids::Timestamp;
use nexus_engine::turn::{Context, Input, Turn};
use serde_json::json;

use crate::alloc::{Allocations, Counter};
use crate::report::{Latency, Recorder, Section, Table, per_second, time};
use crate::script::{Kind, Script, write};

const SEED: u64 = 20_261_124;

/// The shape of `Account::step`.
type Call = fn(&mut Account, Timestamp, &Input, &Context) -> Turn;

/// How much is measured.
struct Extent {
    accounts: usize,
    days: u32,
    passes: u32,
}

/// Measures `Account::step` against an empty call.
pub fn measure(quick: bool) -> Result<Section> {
    let extent = match quick {
        true => Extent { accounts: 20, days: 2, passes: 1 },
        false => Extent { accounts: 200, days: 3, passes: 10 },
    };
    let script = write(extent.accounts, extent.days, SEED);
    // One pass of each unrecorded: the first touch of code and memory is not what a running engine feels.
    timed(&script, Account::step, 1)?;
    let step = timed(&script, Account::step, extent.passes)?;
    let empty = timed(&script, nothing, extent.passes)?;
    let (step_mean, empty_mean) = (mean(&script, Account::step, extent.passes), mean(&script, nothing, extent.passes));
    let allocations = count(&script);
    report(&script, &extent, &Times { step, empty, step_mean, empty_mean }, &allocations)
}

/// The yardstick: takes what a step takes, returns what a step returns, does nothing.
#[inline(never)]
fn nothing(account: &mut Account, now: Timestamp, input: &Input, context: &Context) -> Turn {
    black_box((account, now, input, context));
    Turn::default()
}

struct Times {
    step: BTreeMap<Kind, Recorder>,
    empty: BTreeMap<Kind, Recorder>,
    step_mean: Duration,
    empty_mean: Duration,
}

/// Times each step of `passes` passes, by kind. The turn is dropped outside of the time, where its receiver would be.
fn timed(script: &Script, call: Call, passes: u32) -> Result<BTreeMap<Kind, Recorder>> {
    let mut recorders = BTreeMap::new();
    for kind in Kind::ALL {
        recorders.insert(kind, Recorder::new()?);
    }
    for _ in 0..passes {
        let mut accounts = script.begin.clone();
        for step in &script.steps {
            let account = &mut accounts[step.account];
            let begin = Instant::now();
            let turn = call(account, step.now, &step.input, &step.context);
            let took = begin.elapsed();
            drop(black_box(turn));
            if let Some(recorder) = recorders.get_mut(&step.kind) {
                recorder.record(took);
            }
        }
        let expected = if std::ptr::fn_addr_eq(call, nothing as Call) { &script.begin } else { &script.end };
        ensure!(accounts == *expected, "the same inputs gave other decisions than when the script was written");
    }
    Ok(recorders)
}

/// The mean time of a step over whole passes without clock readings; turns are dropped within.
fn mean(script: &Script, call: Call, passes: u32) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..passes {
        let mut accounts = script.begin.clone();
        let begin = Instant::now();
        for step in &script.steps {
            black_box(call(&mut accounts[step.account], step.now, &step.input, &step.context));
        }
        total += begin.elapsed();
    }
    let steps = u64::from(passes) * u64::try_from(script.steps.len()).unwrap_or(u64::MAX);
    Duration::from_nanos(u64::try_from(total.as_nanos()).unwrap_or(u64::MAX) / steps.max(1))
}

/// Allocations of each kind of step, in a pass of its own.
fn count(script: &Script) -> BTreeMap<String, Allocations> {
    let mut counter = Counter::new(Kind::name);
    let mut accounts = script.begin.clone();
    for step in &script.steps {
        let account = &mut accounts[step.account];
        counter.count(step.kind, || black_box(account.step(step.now, &step.input, &step.context)));
    }
    counter.averages()
}

fn all(recorders: &BTreeMap<Kind, Recorder>) -> Result<Latency> {
    let mut sum = Recorder::new()?;
    for recorder in recorders.values() {
        sum.add(recorder)?;
    }
    Ok(sum.latency())
}

fn report(
    script: &Script,
    extent: &Extent,
    times: &Times,
    allocations: &BTreeMap<String, Allocations>,
) -> Result<Section> {
    let mut table = Table::new(&[&["step", "share"], &Latency::HEAD[..], &["allocations", "bytes"]].concat());
    let mut kinds = serde_json::Map::new();
    let total = u64::try_from(script.steps.len()).unwrap_or(u64::MAX);
    for (kind, recorder) in &times.step {
        let latency = recorder.latency();
        let Some(allocated) = allocations.get(kind.name()) else { continue };
        let per_mille = latency.count * 1_000 / u64::from(extent.passes) / total.max(1);
        let mut cells = vec![kind.name().to_owned(), format!("{}.{} %", per_mille / 10, per_mille % 10)];
        cells.extend(latency.cells());
        cells.extend([format!("{:.1}", allocated.count), format!("{:.0}", allocated.bytes)]);
        table.row(cells);
        kinds.insert(
            kind.name().into(),
            json!({ "latency": latency, "allocations": allocated.count, "allocated_bytes": allocated.bytes }),
        );
    }
    let (step, empty) = (all(&times.step)?, all(&times.empty)?);
    for (name, latency) in [("all steps", &step), ("yardstick: an empty call", &empty)] {
        let mut cells = vec![name.to_owned(), String::new()];
        cells.extend(latency.cells());
        table.row(cells);
    }
    let step_mean_ns = u64::try_from(times.step_mean.as_nanos())?;
    let empty_mean_ns = u64::try_from(times.empty_mean.as_nanos())?;
    let rate = per_second(1, times.step_mean);
    let notes = vec![
        format!("{total} steps of {} accounts over {} days, {} passes", extent.accounts, extent.days, extent.passes),
        format!("mean without clock readings: {} a step, {} an empty call", time(step_mean_ns), time(empty_mean_ns)),
        format!("{rate} steps a second on one thread; the counting allocator stands in these times"),
    ];
    let json = json!({
        "accounts": extent.accounts, "days": extent.days, "passes": extent.passes, "steps": total,
        "step": step, "step_mean_ns": step_mean_ns, "steps_per_second": rate, "kinds": kinds,
        "yardstick": { "what": "an empty call", "latency": empty, "mean_ns": empty_mean_ns },
        "refusals": script.refusals,
    });
    Ok(Section { tables: vec![table], notes, json })
}
