//! The closing report of a replay: what a feed's signals became, told so that a trader can check it.
//!
//! `records` reads what the engine recorded, through the API and not through the ledger; `figures` computes, purely and in
//! exact integers; `json`, `text` and `html` only show (with `chart` and `amounts` to help them). The report holds the
//! engine to its word: positions that do not add up to their fills are part of it, and make the command fail.

mod amounts;
mod chart;
mod figures;
mod html;
mod json;
mod records;
mod text;

use std::collections::BTreeSet;
use std::time::Duration;

use nexus_engine::ids::Timestamp;
use nexus_engine::units::Money;

use super::client::Client;
use figures::Figures;
use records::Account;

/// What only the one who ran the replay knows.
#[derive(Clone, Debug)]
pub(crate) struct RunFacts {
    /// Where the bars came from.
    pub(crate) source: String,
    /// What was traded.
    pub(crate) symbol: String,
    /// Whose decisions count.
    pub(crate) feed_id: String,
    /// Who followed the feed.
    pub(crate) users: Vec<RunUser>,
    /// How many bars were replayed.
    pub(crate) bars: usize,
    /// How many marks they became.
    pub(crate) marks: u64,
    /// How many signals were sent.
    pub(crate) signals: u64,
    /// The time of the first mark.
    pub(crate) first: Option<Timestamp>,
    /// The time of the last mark.
    pub(crate) last: Option<Timestamp>,
    /// How long it took.
    pub(crate) elapsed: Duration,
}

/// A user of the replay.
#[derive(Clone, Debug)]
pub(crate) struct RunUser {
    /// Its id.
    pub(crate) id: String,
    /// Its name.
    pub(crate) username: String,
    /// What the account began with.
    pub(crate) starting_equity: Money,
}

/// The report.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    facts: RunFacts,
    currency: String,
    figures: Figures,
}

/// Reads the record of every user of the run and computes the report. The engine must be at rest.
pub(crate) async fn gather(client: &Client, facts: &RunFacts) -> anyhow::Result<Report> {
    let mut accounts = Vec::with_capacity(facts.users.len());
    for user in &facts.users {
        accounts.push(Account::read(client, user, &facts.feed_id).await?);
    }
    Ok(Report::of(facts, &accounts))
}

impl Report {
    fn of(facts: &RunFacts, accounts: &[Account]) -> Self {
        let currencies: BTreeSet<&str> = accounts.iter().map(|account| account.currency.as_str()).collect();
        let currency = currencies.into_iter().collect::<Vec<_>>().join(", ");
        Self { facts: facts.clone(), currency, figures: Figures::of(accounts) }
    }

    /// Whether everything that was checked adds up.
    pub(crate) fn is_consistent(&self) -> bool {
        self.figures.inconsistencies.is_empty()
    }

    /// The report for programs: one object.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        json::of(self)
    }

    /// The report for a terminal.
    pub(crate) fn in_words(&self) -> String {
        text::of(self)
    }

    /// The report as a page of its own, which needs nothing else.
    pub(crate) fn to_html(&self) -> String {
        html::of(self)
    }

    /// Something a second of the run.
    fn per_second(&self, count: u64) -> f64 {
        let seconds = self.facts.elapsed.as_secs_f64();
        // A rate is for people: what a double cannot hold of a count, nobody would read.
        #[allow(clippy::cast_precision_loss)]
        let count = count as f64;
        if seconds > 0.0 { count / seconds } else { 0.0 }
    }
}
