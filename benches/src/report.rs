//! What a scenario reports: tables for people, an object for programs, and the machine it was measured on.
//!
//! Latencies are kept in an HdrHistogram with three significant digits and reported as p50, p90, p99, p99.9 and the maximum:
//! a mean hides what a trader feels.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::Value;

/// The longest latency that is told apart: a minute. What is longer is recorded as a minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// What one scenario found.
pub struct Section {
    /// For people.
    pub tables: Vec<Table>,
    /// For people: how it was measured, and what to make of it.
    pub notes: Vec<String>,
    /// For programs.
    pub json: Value,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in &self.tables {
            writeln!(f, "{table}")?;
        }
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        Ok(())
    }
}

/// A table with a head line; columns are as wide as what stands in them.
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(ToString::to_string).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let width = |column: usize| lines().filter_map(|line| line.get(column)).map(|it| it.chars().count()).max();
        for line in lines() {
            for (column, cell) in line.iter().enumerate() {
                let width = width(column).unwrap_or(0);
                // The first column names, the others count.
                if column == 0 { write!(f, "  {cell:<width$}")? } else { write!(f, "  {cell:>width$}")? }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Records latencies.
pub struct Recorder(Histogram<u64>);

impl Recorder {
    /// An empty one.
    pub fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)?))
    }

    /// Records one latency.
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).clamp(1, LATENCY_NS_MAX));
    }

    /// Takes in what another one has recorded.
    pub fn add(&mut self, other: &Recorder) -> Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    /// What was recorded.
    pub fn latency(&self) -> Latency {
        Latency {
            count: self.0.len(),
            p50_ns: self.0.value_at_quantile(0.5),
            p90_ns: self.0.value_at_quantile(0.9),
            p99_ns: self.0.value_at_quantile(0.99),
            p99_9_ns: self.0.value_at_quantile(0.999),
            max_ns: self.0.max(),
        }
    }
}

/// A distribution of latencies, in nanoseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// Half of them are at most this.
    pub p50_ns: u64,
    /// Nine of ten.
    pub p90_ns: u64,
    /// 99 of 100.
    pub p99_ns: u64,
    /// 999 of 1,000.
    pub p99_9_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

impl Latency {
    /// The names of `cells`.
    pub const HEAD: [&'static str; 5] = ["p50", "p90", "p99", "p99.9", "max"];

    /// The distribution as cells of a table.
    pub fn cells(&self) -> Vec<String> {
        [self.p50_ns, self.p90_ns, self.p99_ns, self.p99_9_ns, self.max_ns].into_iter().map(time).collect()
    }
}

/// A time in the unit that a person would say it in.
pub fn time(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{}.{} us", ns / 1_000, ns % 1_000 / 100),
        _ => format!("{}.{} ms", ns / 1_000_000, ns % 1_000_000 / 100_000),
    }
}

/// How many there are in a second.
pub fn per_second(count: u64, within: Duration) -> u64 {
    let within = within.as_nanos().max(1);
    u64::try_from(u128::from(count) * 1_000_000_000 / within).unwrap_or(u64::MAX)
}

/// The machine that the figures are from.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// As the processor calls itself.
    pub cpu: String,
    /// How many threads may run at once.
    pub threads: usize,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// The operating system's kernel.
    pub kernel: String,
    /// The load of the last minute before the run, as the kernel writes it: above zero, somebody else was measured, too.
    pub load_before: String,
}

impl Machine {
    /// Looks at this machine. What it does not tell is left empty.
    pub fn look() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map_or("", |(_, value)| value).trim().to_owned()
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let memory_kib: u64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or(0);
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory_kib / 1_024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, threads, memory_mib, kernel, load_before } = self;
        write!(f, "{cpu}, {threads} threads, {memory_mib} MiB, Linux {kernel}, load before {load_before}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_said_in_its_unit() {
        let table =
            [(7, "7 ns"), (9_999, "9999 ns"), (12_345, "12.3 us"), (2_500_000, "2500.0 us"), (65_000_000, "65.0 ms")];
        for (ns, expected) in table {
            assert_eq!(time(ns), expected);
        }
    }

    #[test]
    fn a_distribution_is_read_from_its_tail() {
        let mut recorder = Recorder::new().unwrap();
        (1..=1_000).for_each(|us| recorder.record(Duration::from_micros(us)));
        let latency = recorder.latency();
        let near = |ns: u64, us: u64| ns.abs_diff(us * 1_000) <= us;
        assert!(near(latency.p50_ns, 500) && near(latency.p99_ns, 990) && near(latency.max_ns, 1_000), "{latency:?}");
        let mut both = Recorder::new().unwrap();
        both.add(&recorder).unwrap();
        both.record(Duration::from_secs(3_600));
        assert_eq!(both.latency().count, 1_001);
        assert!(both.latency().max_ns >= LATENCY_NS_MAX / 1_001 * 1_000, "an endless one is kept as the longest");
    }

    #[test]
    fn a_table_is_aligned() {
        let mut table = Table::new(&["what", "p50"]);
        table.row(vec!["a".into(), "1000 ns".into()]);
        assert_eq!(table.to_string(), "  what      p50\n  a     1000 ns\n");
    }
}
