//! What the rounds came to.
//!
//! Of each figure the round in the middle counts, because single rounds swing with where the machine puts its threads; and the
//! ratios that the engine is held to are of figures from one run.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::ledger::Rows;
use super::signals::Mix;
use super::{ALONE, BUSY, COMMITTERS};
use crate::load::Found;
use crate::report::{Latency, Section, Table};

/// One loop, of which there are several rounds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Run {
    place: u8,
    name: &'static str,
    mix: Option<&'static str>,
    in_flight: usize,
}

impl Run {
    /// Signals to an engine.
    pub fn engine(name: &'static str, mix: Mix, in_flight: usize) -> Run {
        Run { place: 0, name, mix: Some(mix.name()), in_flight }
    }

    /// Signals to the plain handler.
    pub fn naive(whole: bool, mix: Mix, in_flight: usize) -> Run {
        let name = if whole { NAIVE_WHOLE } else { NAIVE };
        Run { place: 1, name, mix: Some(mix.name()), in_flight }
    }

    /// Bare commits.
    pub fn commit(in_flight: usize) -> Run {
        Run { place: 2, name: COMMIT, mix: None, in_flight }
    }

    /// HTTP alone.
    pub fn echo(in_flight: usize) -> Run {
        Run { place: 3, name: ECHO, mix: None, in_flight }
    }

    fn title(&self) -> String {
        let mix = self.mix.map(|mix| format!(", {mix}")).unwrap_or_default();
        let yardstick = if self.place == 0 { "" } else { "yardstick: " };
        match self.in_flight {
            ALONE => format!("{yardstick}{}{mix}, alone", self.name),
            in_flight => format!("{yardstick}{}{mix}, {in_flight} in flight", self.name),
        }
    }
}

const POSTGRES: &str = "PostgreSQL";
const REDIS: &str = "PostgreSQL + Redis";
const NAIVE: &str = "plain handler";
const NAIVE_WHOLE: &str = "plain handler, fills too";
const COMMIT: &str = "one-row commit";
const ECHO: &str = "HTTP echo";

/// Everything that was found.
#[derive(Default)]
pub struct Figures {
    found: BTreeMap<Run, Vec<(Found, Option<Rows>)>>,
    /// The load of the machine before each round.
    pub loads: Vec<String>,
    /// How many users there were.
    pub users: usize,
    /// What could not be measured.
    pub notes: Vec<String>,
}

/// A ratio, and what it is to be.
struct Target {
    what: String,
    ratio: f64,
    /// At least this, or at most.
    least: Option<f64>,
    most: Option<f64>,
}

impl Target {
    fn is_met(&self) -> bool {
        self.least.is_none_or(|least| self.ratio >= least) && self.most.is_none_or(|most| self.ratio <= most)
    }
}

impl Figures {
    /// Adds a round of a loop.
    pub fn add(&mut self, run: Run, found: Found, rows: Option<Rows>) {
        self.found.entry(run).or_default().push((found, rows));
    }

    /// The round in the middle: by latency when there is one request at a time, else by rate.
    fn middle(&self, run: Run) -> Option<(Found, Option<Rows>)> {
        let mut rounds = self.found.get(&run)?.clone();
        rounds.sort_by_key(|(found, _)| if run.in_flight <= 1 { found.latency.p50_ns } else { found.per_second });
        rounds.get(rounds.len() / 2).copied()
    }

    fn rate(&self, run: Run) -> Option<f64> {
        self.middle(run).map(|(found, _)| to_f64(found.per_second))
    }

    fn p50(&self, run: Run) -> Option<f64> {
        self.middle(run).map(|(found, _)| to_f64(found.latency.p50_ns))
    }

    fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        for mix in [Mix::Accepted, Mix::Mixed] {
            let ours = self.rate(Run::engine(POSTGRES, mix, BUSY));
            for whole in [false, true] {
                let naive = Run::naive(whole, mix, BUSY);
                let what = format!("{POSTGRES}, {}, {BUSY} in flight: answers/s over {}", mix.name(), naive.name);
                let least = (!whole).then_some(5.0);
                targets.extend(Self::target(what, ours, self.rate(naive), least, None));
            }
        }
        for mix in [Mix::Accepted, Mix::Mixed] {
            for (in_flight, most) in [(ALONE, Some(3.0)), (1, None)] {
                let lone = if in_flight == ALONE { "lone answer" } else { "answer, 1 in flight," };
                let what = format!("{POSTGRES}, {}, p50 of a {lone} over a one-row commit", mix.name());
                let (ours, bare) = (Run::engine(POSTGRES, mix, in_flight), Run::commit(in_flight));
                targets.extend(Self::target(what, self.p50(ours), self.p50(bare), None, most));
            }
        }
        for mix in [Mix::Accepted, Mix::Mixed] {
            let what = format!("{}, {BUSY} in flight: answers/s with Redis over without", mix.name());
            let (on, off) = (Run::engine(REDIS, mix, BUSY), Run::engine(POSTGRES, mix, BUSY));
            targets.extend(Self::target(what, self.rate(on), self.rate(off), Some(0.9), None));
        }
        targets
    }

    fn target(
        what: String,
        over: Option<f64>,
        under: Option<f64>,
        least: Option<f64>,
        most: Option<f64>,
    ) -> Option<Target> {
        Some(Target { what, ratio: over? / under?, least, most })
    }

    /// For people and for programs.
    pub fn section(self) -> Result<Section> {
        let mut table = Table::new(&[&["loop"], &Latency::HEAD[..], &["a second", "turns", "rows"]].concat());
        let mut json = Map::new();
        for run in self.found.keys() {
            let (found, rows) = self.middle(*run).context("a loop without a round")?;
            let mut cells = vec![run.title()];
            cells.extend(found.latency.cells());
            cells.push(found.per_second.to_string());
            let answers = to_f64(found.latency.count).max(1.0);
            let each = |count: i64| format!("{:.1}", to_f64(u64::try_from(count).unwrap_or(0)) / answers);
            cells.extend(rows.map_or_else(|| [String::new(), String::new()], |it| [each(it.events), each(it.all)]));
            table.row(cells);
            let runs = json.entry(run.name).or_insert_with(|| json!([])).as_array_mut();
            runs.context("a list of runs")?.push(json!({
                "mix": run.mix, "in_flight": run.in_flight, "found": found,
                "turns_an_answer": rows.map(|it| to_f64(u64::try_from(it.events).unwrap_or(0)) / answers),
                "rows_an_answer": rows.map(|it| to_f64(u64::try_from(it.all).unwrap_or(0)) / answers),
                "a_second_in_each_round": self.found[run].iter().map(|(found, _)| found.per_second).collect::<Vec<_>>(),
                "p50_ns_in_each_round": self.found[run].iter().map(|(found, _)| found.latency.p50_ns).collect::<Vec<_>>(),
            }));
        }
        let mut ratios = Table::new(&["ratio", "found", "target", ""]);
        let mut judged = Vec::new();
        for target in self.targets() {
            let mut bound = String::new();
            if let Some(least) = target.least {
                write!(bound, "at least {least}")?;
            }
            if let Some(most) = target.most {
                write!(bound, "at most {most}")?;
            }
            let word = match (bound.is_empty(), target.is_met()) {
                (true, _) => "",
                (false, true) => "pass",
                (false, false) => "miss",
            };
            ratios.row(vec![target.what.clone(), format!("{:.2}", target.ratio), bound.clone(), word.to_owned()]);
            judged.push(json!({ "ratio": target.what, "found": target.ratio, "target": bound, "verdict": word }));
        }
        json.insert("ratios".into(), judged.into());
        json.insert("users".into(), self.users.into());
        json.insert("load_before_each_round".into(), json!(self.loads));
        let mut notes = vec![
            format!(
                "{} users in turn, one decision a signal; load before each round: {}",
                self.users,
                self.loads.join(", ")
            ),
            format!(
                "of each loop the middle of {} rounds; a rate counts the time until every entry is filled, too",
                self.loads.len()
            ),
            "turns and rows: in the ledger, for each answer; an accepted entry is filled by one more turn".into(),
            format!(
                "plain handler: axum and sqlx, one transaction a request over {COMMITTERS} connections; it writes the rows of the \
                 decision's turn, or those of the turns that follow, too"
            ),
        ];
        notes.extend(self.notes);
        Ok(Section { tables: vec![table, ratios], notes, json: Value::Object(json) })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio of counts is not exact")]
fn to_f64(count: u64) -> f64 {
    count as f64
}
