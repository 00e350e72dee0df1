//! SQLite's rows as cells.
//!
//! What is read from a row is written once, over cells (`ledger/rows.rs`), for every database; here is how a cell of this one
//! is read. SQLite has no type for an id, so ids are texts here.

use rusqlite::Row;
use rusqlite::types::FromSql;
use uuid::Uuid;

use crate::ledger::rows::{Cells, Unreadable};

/// The columns of one row, from left to right.
pub(super) struct Columns<'a> {
    row: &'a Row<'a>,
    next: usize,
}

impl<'a> Columns<'a> {
    pub(super) fn of(row: &'a Row<'a>) -> Self {
        Self { row, next: 0 }
    }

    fn take<T: FromSql>(&mut self) -> Result<T, Unreadable> {
        let value = self.row.get(self.next).map_err(|error| Unreadable(error.to_string()))?;
        self.next += 1;
        Ok(value)
    }
}

impl Cells for Columns<'_> {
    fn int(&mut self) -> Result<i64, Unreadable> {
        self.take()
    }

    fn maybe_int(&mut self) -> Result<Option<i64>, Unreadable> {
        self.take()
    }

    fn flag(&mut self) -> Result<bool, Unreadable> {
        self.take()
    }

    fn text(&mut self) -> Result<&str, Unreadable> {
        self.maybe_text()?.ok_or_else(|| Unreadable("a text is absent".to_owned()))
    }

    fn maybe_text(&mut self) -> Result<Option<&str>, Unreadable> {
        let value = self.row.get_ref(self.next).map_err(|error| Unreadable(error.to_string()))?;
        self.next += 1;
        value.as_str_or_null().map_err(|error| Unreadable(format!("a column that should be a text: {error}")))
    }

    fn uuid(&mut self) -> Result<Uuid, Unreadable> {
        let text = self.text()?;
        text.parse().map_err(|error| Unreadable(format!("{text:?} {error}")))
    }

    fn skip(&mut self, columns: usize) {
        self.next += columns;
    }
}
