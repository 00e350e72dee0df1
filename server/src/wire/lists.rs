//! Lists: a page of items, and where the next one begins.
//!
//! Cursors are opaque: they are given out by the directory and handed back to it. A page has a bound whatever is asked
//! for, so that no answer grows with the record.

use nexus_store::directory::{Page, PageRequest};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::fields::{FieldError, Fields};

/// Items of a page when the caller does not say.
const LIMIT_DEFAULT: u32 = 100;
/// The most items of a page.
const LIMIT_MAX: u32 = 1_000;

/// One page of a list.
#[derive(Clone, Debug, Serialize, ToSchema)]

pub struct ListBody<T> {
    /// The items.
    pub items: Vec<T>,
    /// Pass it as `after` for the next page; null on the last one.
    pub next: Option<String>,
}

impl<T> ListBody<T> {
    /// Shows a page, item by item.
    pub fn of<R>(page: Page<R>, show: impl FnMut(R) -> T) -> Self {
        Self { items: page.items.into_iter().map(show).collect(), next: page.next }
    }
}

/// Which page is asked for.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PagingQuery {
    /// At most so many items: 1 to 1,000; 100 when absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    pub limit: Option<String>,
    /// The `next` of the page before.
    pub after: Option<String>,
    /// For positions: `true` shows closed ones, too.
    #[param(value_type = Option<bool>)]
    pub closed: Option<String>,
}

impl PagingQuery {
    /// The page, or what is wrong with the query.
    pub fn page(&self) -> Result<PageRequest, Vec<FieldError>> {
        let mut fields = Fields::default();
        let limit = match self.limit.as_deref() {
            None => Some(LIMIT_DEFAULT),
            Some(text) => match text.parse() {
                Ok(limit) if (1..=LIMIT_MAX).contains(&limit) => Some(limit),
                _ => {
                    fields.refuse("limit", "invalid", format_args!("must be 1 to {LIMIT_MAX}"));
                    None
                }
            },
        };
        fields.finish(limit.map(|limit| PageRequest { limit, after: self.after.clone() }))
    }

    /// Whether closed positions are wanted, too.
    pub fn with_closed(&self) -> Result<bool, Vec<FieldError>> {
        let mut fields = Fields::default();
        let closed = fields.optional::<bool>("closed", self.closed.as_deref());
        if fields.is_clean() { Ok(closed.unwrap_or(false)) } else { fields.finish(None) }
    }
}
