//! PostgreSQL's rows as cells, and texts as PostgreSQL takes them.
//!
//! What is read from a row is written once, over cells (`ledger/rows.rs`), for every database; here is how a cell of this one
//! is read. A text cannot hold a zero byte here: it is shown as ␀ instead, because a fact is never refused for its name.

use std::borrow::Cow;

use sqlx::postgres::{PgRow, Postgres};
use sqlx::{Decode, Row, Type};
use uuid::Uuid;

use crate::ledger::rows::{Cells, Unreadable};

/// The columns of one row, from left to right.
pub(super) struct Columns<'a> {
    row: &'a PgRow,
    next: usize,
}

impl<'a> Columns<'a> {
    pub(super) fn of(row: &'a PgRow) -> Self {
        Self { row, next: 0 }
    }

    fn take<T: Decode<'a, Postgres> + Type<Postgres>>(&mut self) -> Result<T, Unreadable> {
        let value = self.row.try_get(self.next).map_err(|error| Unreadable(error.to_string()))?;
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
        self.take()
    }

    fn maybe_text(&mut self) -> Result<Option<&str>, Unreadable> {
        self.take()
    }

    fn uuid(&mut self) -> Result<Uuid, Unreadable> {
        self.take()
    }

    fn skip(&mut self, columns: usize) {
        self.next += columns;
    }
}

/// The one character that a text here cannot hold, replaced by its picture. A venue may call a trade what it likes; its fill is
/// recorded all the same. (JSON writes that character in another way.)
pub(in crate::ledger) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{2400}")) } else { Cow::Borrowed(text) }
}
