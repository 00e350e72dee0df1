//! The rows of a user in the order in which turns wrote them, page by page.
//!
//! A page begins after the last sequence number that was read, so it costs the same wherever it is, and no history has to
//! fit into memory.

use std::collections::VecDeque;

use nexus_engine::ids::UserId;

use super::tables::{Dialect, Table, Value, is_user};
use super::{Reader, ReplayError};

/// Turns and rows that are read at once.
pub(super) const ROWS_A_PAGE: usize = 256;

/// The rows of a user in the order in which they were written.
pub(super) struct Line {
    pub(super) table: &'static Table,
    /// What is read beside each row, and how it is found.
    beside: Option<(&'static Table, &'static str)>,
    rows: VecDeque<(i64, Vec<Value>)>,
    last: i64,
    is_over: bool,
}

impl Line {
    pub(super) fn of(table: &'static Table) -> Line {
        Line { table, beside: None, rows: VecDeque::new(), last: i64::MIN, is_over: false }
    }

    pub(super) fn with(self, table: &'static Table, join: &'static str) -> Line {
        Line { beside: Some((table, join)), ..self }
    }

    /// The next row and its sequence number.
    pub(super) async fn peek(
        &mut self,
        reader: &mut dyn Reader,
        user: UserId,
    ) -> Result<Option<&(i64, Vec<Value>)>, ReplayError> {
        if self.rows.is_empty() && !self.is_over {
            let rows = self.read(reader, user).await?;
            self.is_over = rows.len() < ROWS_A_PAGE;
            for mut row in rows {
                if let Value::Int(seq) = row.remove(0) {
                    self.last = seq;
                    self.rows.push_back((seq, row));
                }
            }
        }
        Ok(self.rows.front())
    }

    pub(super) fn take(&mut self) -> Option<Vec<Value>> {
        self.rows.pop_front().map(|(_, row)| row)
    }

    async fn read(&self, reader: &mut dyn Reader, user: UserId) -> Result<Vec<Vec<Value>>, ReplayError> {
        let dialect = reader.dialect();
        let table = self.table.name;
        let (others, join) = match self.beside {
            Some((beside, join)) => (format!(", {}", beside.select(dialect)), join),
            None => (String::new(), ""),
        };
        let after = match dialect {
            Dialect::Sqlite => "?2",
            Dialect::Postgres => "$2",
        };
        let sql = format!(
            "SELECT {table}.seq, {}{others} FROM {table} {join} WHERE {} AND {table}.seq > {after}
              ORDER BY {table}.seq LIMIT {ROWS_A_PAGE}",
            self.table.select(dialect),
            is_user(table, dialect)
        );
        reader.query(&sql, &[Value::Text(user.to_string()), Value::Int(self.last)]).await
    }
}
